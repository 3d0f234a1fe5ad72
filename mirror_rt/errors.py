"""Every error that mirror-rt raises on purpose.

::

    MirrorError
    ├── ConfigError          an option that makes no sense (also a ValueError)
    ├── InputError           a text, corpus, knowledge-base or gold file that cannot be read
    ├── ModelError           a base model or checkpoint that cannot be used
    ├── TrainingError        training that cannot go on
    ├── BundleError          a bundle that is not whole, not ours, or too new
    ├── AccuracyGateError            an export whose quantized vectors rank too differently
    ├── KnowledgeBaseError   a knowledge-base folder that is not whole, or does not fit
    ├── TargetError          a place to write to that is taken or cannot be written
    └── MissingExtraError    an optional stack that is not installed (also an ImportError)

A message names the thing, the fault and the way out, on one line. It may quote what a file
holds: ``one_line`` makes it fit to show.
"""

from __future__ import annotations

import re
from pathlib import Path

__all__ = [
    "AccuracyGateError",
    "BundleError",
    "ConfigError",
    "InputError",
    "KnowledgeBaseError",
    "MirrorError",
    "MissingExtraError",
    "ModelError",
    "TargetError",
    "TrainingError",
    "is_utf8",
    "one_line",
]

_BREAK = re.compile(r"\s*[\r\n]\s*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, other ends of lines, turns of direction, and what is no character."""
_HEAD, _TAIL = 700, 300
_FORM = re.compile(r"(?:(?P<path>.+?): )?(?:(?:line|row) (?P<line>[\d,]+)\b)?")


def one_line(message: str) -> str:
    r"""Return a message as it may be sent to a terminal, whatever it quotes.

    Line ends become spaces, control characters are escaped, and of a very long message the
    middle is left out: the thing is named at its beginning, the way out at its end.

    >>> one_line("kb.tsv: line 2:\n '\x1b[31mcœur\a' is no kind")
    "kb.tsv: line 2: '\\x1b[31mcœur\\x07' is no kind"
    """
    if len(message) > _HEAD + _TAIL:
        message = f"{message[:_HEAD]} … {message[-_TAIL:]}"
    joined = _BREAK.sub(" ", message.strip())
    return _CONTROL.sub(lambda sign: sign.group().encode("unicode_escape").decode(), joined)


class MirrorError(Exception):
    """The base class of all errors. The text is one line, ``thing: fault; way out``.

    The parts of this line are attributes, so a program need not search the text.
    """

    def __str__(self) -> str:
        """Return the message, through ``one_line``."""
        return one_line(super().__str__())

    @property
    def path(self) -> str:
        """The thing with the fault, such as a file or an option; empty if the text names none."""
        return _FORM.match(str(self))["path"] or ""  # type: ignore[index]

    @property
    def line(self) -> int | None:
        """The number of the line or row with the fault, if the text has one."""
        number = _FORM.match(str(self))["line"]  # type: ignore[index]
        return None if number is None else int(number.replace(",", ""))

    @property
    def hint(self) -> str:
        """The way out; empty if the text has none."""
        return str(self).rpartition("; ")[2] if "; " in str(self) else ""


class ConfigError(MirrorError, ValueError):
    """An option is out of range, or two options contradict each other."""


class InputError(MirrorError):
    """A file or string given by the user cannot be used; the message names the line."""


class ModelError(MirrorError):
    """A base model or checkpoint is missing, broken, or of a kind that cannot be used."""


class TrainingError(MirrorError):
    """Training cannot start or cannot go on."""


class BundleError(MirrorError):
    """A bundle folder is missing files, has been changed, or has a newer format."""


class AccuracyGateError(MirrorError):
    """A quantized export ranks the user's names too differently from full precision."""


class KnowledgeBaseError(MirrorError):
    """A knowledge-base folder is incomplete, changed, or was built with another bundle."""


class TargetError(MirrorError):
    """An output exists already, or cannot be written."""


class MissingExtraError(MirrorError, ImportError):  # type: ignore[misc]  # (its path)
    """An optional dependency is not installed; the message gives the pip line."""


def is_utf8(path: Path) -> bool:
    """Say whether a path is text in UTF-8: FAISS, Arrow and onnxruntime open no others."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
