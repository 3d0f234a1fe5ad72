"""The encoders that a knowledge base uses: opened when a text must be embedded, or missing."""

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

__all__ = ["LazyEncoder", "MissingEncoder", "asked_and_named", "open_encoder", "open_student"]


@dataclass(frozen=True)
class LazyEncoder:
    """An encoder that is opened when a text must be embedded.

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
    """The encoder of names of a knowledge base that has only its student.

    Attributes:
        dim: Width of a vector.
        path: The knowledge base.
        name: The encoder's name.
    """

    dim: int
    path: Path
    name: str

    def encode(self, texts: Sequence[str]) -> Float32:
        """Embed no name.

        Raises:
            KnowledgeBaseError: Always.
        """
        raise KnowledgeBaseError(
            f"{self.path}: {texts[0][:60]!r} is new, and names are embedded by {self.name}, which "
            "the folder does not have; build it again with: mirror-rt index TEACHER KB "
            "--query-encoder STUDENT --out KBDIR --force"
        )


def open_student(student: str | Path | Bundle, teacher: Bundle) -> Bundle:
    """Open the bundle of a student, and check that it is one of a teacher."""
    from mirror_rt.runtime.projected import check_student

    opened = student if isinstance(student, Bundle) else Bundle.open(student)
    check_student(opened, teacher)
    return opened


def asked_and_named(embedder: Embedder, student: Bundle | None) -> tuple[Embedder, Embedder | None]:
    """Return what embeds mentions, and what embeds names if that is another."""
    if student is None:
        return embedder, None
    from mirror_rt.runtime.projected import ProjectedTeacher

    return open_encoder(student), ProjectedTeacher(embedder, student)


def open_encoder(bundle: Bundle) -> Embedder:
    """Open the encoder of a bundle."""
    from mirror_rt.runtime.encoder import Encoder

    return Encoder.open(bundle)
