"""Every error that mirror-rt raises on purpose.

::

    MirrorError
    ├── ConfigError          an option that makes no sense (also a ValueError)
    ├── InputError           a text, corpus, knowledge-base or gold file that cannot be read
    ├── ModelError           a base model or checkpoint that cannot be used
    ├── TrainingError        training that cannot go on
    ├── BundleError          a bundle that is not whole, not ours, or too new
    ├── GateError            an export whose quantised vectors rank too differently
    ├── KnowledgeBaseError   a knowledge-base folder that is not whole, or does not fit
    ├── TargetError          a place to write to that is taken or cannot be written
    └── MissingExtraError    an optional stack that is not installed (also an ImportError)

A message names the thing, the fault and the way out, on one line.
"""

from __future__ import annotations

__all__ = [
    "BundleError",
    "ConfigError",
    "GateError",
    "InputError",
    "KnowledgeBaseError",
    "MirrorError",
    "MissingExtraError",
    "ModelError",
    "TargetError",
    "TrainingError",
]


class MirrorError(Exception):
    """The root: anything mirror-rt refuses to do. Its text is one line, fit to show a user."""


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


class GateError(MirrorError):
    """A quantised export ranks the user's names too differently from full precision."""


class KnowledgeBaseError(MirrorError):
    """A knowledge-base folder is incomplete, changed, or was built with another bundle."""


class TargetError(MirrorError):
    """An output exists already, or cannot be written."""


class MissingExtraError(MirrorError, ImportError):
    """An optional dependency is not installed; the message gives the pip line."""
