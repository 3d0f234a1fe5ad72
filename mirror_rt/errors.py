"""All errors that mirror-rt raises.

::

    MirrorError
    ├── ConfigError          an invalid option (also a ValueError)
    ├── InputError           a text, corpus, knowledge-base or gold file that cannot be read
    ├── ModelError           a base model or checkpoint that cannot be used
    ├── TrainingError        training that cannot continue
    ├── BundleError          a bundle that is incomplete, changed or too new
    ├── AccuracyGateError    an export whose quantized vectors rank too differently
    ├── KnowledgeBaseError   a knowledge-base folder that is incomplete or does not fit
    ├── TargetError          an output that exists or cannot be written
    └── MissingExtraError    an optional package that is not installed (also an ImportError)

A message has one line: the thing, the fault and the way out. It may quote the content of a file;
``one_line`` makes it safe to print.
"""

from __future__ import annotations

import re

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
    "add_note",
    "one_line",
]

_BREAK = re.compile(r"\s*[\r\n]\s*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, other line ends, direction marks, and surrogates."""
_HEAD, _TAIL = 700, 300
_FORM = re.compile(r"(?:(?P<path>.+?): )?(?:(?:line|row) (?P<line>[\d,]+)\b)?")


def one_line(message: str) -> str:
    r"""Return a message that is safe for a terminal.

    Line ends become spaces, and control characters are escaped. A very long message loses its
    middle: the thing is at the start, the way out at the end.

    >>> one_line("kb.tsv: line 2:\n '\x1b[31mcœur\a' is not a kind")
    "kb.tsv: line 2: '\\x1b[31mcœur\\x07' is not a kind"
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


def add_note(error: BaseException, note: str) -> None:
    """Add a note to an error, as ``BaseException.add_note`` of Python 3.11 does."""
    error.__notes__ = [*getattr(error, "__notes__", ()), note]  # type: ignore[attr-defined]
