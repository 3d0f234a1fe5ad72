"""The encoders of a knowledge base: opened on first use, or missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mirror_rt.bundle import Bundle
from mirror_rt.errors import KnowledgeBaseError
from mirror_rt.types import (
    Embedder,
)

if TYPE_CHECKING:
    from mirror_rt.types import Float32

__all__ = ["LazyEncoder", "MissingEncoder", "encoders_of", "open_encoder", "open_student"]


@dataclass(frozen=True)
class LazyEncoder:
    """An encoder that is opened at the first call of ``encode``.

    Attributes:
        dim: Width of a vector.
        opened: Returns the encoder.
    """

    dim: int
    opened: Callable[[], Embedder]

    def encode(self, texts: Sequence[str]) -> Float32:
        """Return (N, D) float32 unit rows, row i for texts[i]."""
        return self.opened().encode(texts)


@dataclass(frozen=True)
class MissingEncoder:
    """Stands for the encoder of names in a knowledge base that contains only its student.

    Attributes:
        dim: Width of a vector.
        path: The knowledge base.
        name: The encoder's name.
    """

    dim: int
    path: Path
    name: str

    def encode(self, texts: Sequence[str]) -> Float32:
        """Raise an error, as names cannot be embedded.

        Raises:
            KnowledgeBaseError: Always.
        """
        raise KnowledgeBaseError(
            f"{self.path}: {texts[0][:60]!r} is new, and names are embedded by {self.name}, which "
            "the folder does not have; build it again with: mirror-rt index TEACHER KB "
            "--query-encoder STUDENT --out KBDIR --force"
        )


def open_student(student: str | Path | Bundle, teacher: Bundle) -> Bundle:
    """Open the bundle of a student, and check that it was distilled from this teacher.

    Raises:
        BundleError: The folder is not a bundle, or has changed.
        ConfigError: The student has another teacher, or none.
    """
    from mirror_rt.runtime.projected import check_student

    opened = student if isinstance(student, Bundle) else Bundle.open(student)
    check_student(opened, teacher)
    return opened


def encoders_of(embedder: Embedder, student: Bundle | None) -> tuple[Embedder, Embedder | None]:
    """Return the encoder of mentions, and the encoder of names if it is another one."""
    if student is None:
        return embedder, None
    from mirror_rt.runtime.projected import ProjectedTeacher

    return open_encoder(student), ProjectedTeacher(embedder, student)


def open_encoder(bundle: Bundle) -> Embedder:
    """Open the encoder of a bundle.

    Raises:
        BundleError: The model or the tokenizer cannot be loaded.
    """
    from mirror_rt.runtime.encoder import Encoder

    return Encoder.open(bundle)
