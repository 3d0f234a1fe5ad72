"""Filter the names of a knowledge base by language, source and suppression."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from mirror_rt.knowledge.formats._rows import SkippedRows
from mirror_rt.types import Entity, Name, NameKind

__all__ = ["NameFilter", "filtered", "in_order"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NameFilter:
    """The names to keep.

    Attributes:
        languages: Language tags, preferred first; ``en`` keeps ``en-GB`` too. Names without a
            language, or with ``mul`` (many), are kept. Empty for all.
        sources: Sources as the file names them (UMLS: ``MSH``, ``SNOMEDCT_US``). Names without a
            source are kept. Empty for all.
        suppressed: Whether to keep names that UMLS marks as suppressible or obsolete.
    """

    languages: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    suppressed: bool = False

    @property
    def all(self) -> bool:
        """Whether every name passes."""
        return not self.languages and not self.sources

    def keeps(self, name: Name) -> bool:
        """Return whether a name passes.

        >>> NameFilter(languages=("en",)).keeps(Name(text="colour", language="en-GB"))
        True
        """
        every = name.language in ("", "mul")  # Wikidata's tag of labels for every language
        if self.languages and not every and self.rank(name.language) == len(self.languages):
            return False
        return not (self.sources and name.source and name.source not in self.sources)

    def rank(self, language: str) -> int:
        """Return the position of a language among the wanted ones, or their number if missing."""
        tag = language.casefold()
        for place, wanted in enumerate(self.languages):
            if tag == wanted.casefold() or tag.startswith(f"{wanted.casefold()}-"):
                return place
        return len(self.languages)


def filtered(
    entities: Iterator[Entity], keep: NameFilter, skipped: SkippedRows
) -> Iterator[Entity]:
    """Remove names that do not pass, and entities without any name left."""
    if keep.all:
        yield from entities
        return
    for entity in entities:
        names = tuple(name for name in entity.names if keep.keeps(name))
        skipped.filtered += len(entity.names) - len(names)
        if names:
            yield replace(entity, names=names)


def in_order(names: list[Name], keep: NameFilter) -> tuple[Name, ...]:
    """Sort names: preferred names first, then by the user's preferred languages.

    Other languages follow in the order: no language, English, then alphabetical by tag.
    """

    def order(name: Name) -> tuple[bool, int, bool, bool, str]:
        tag = name.language.casefold()
        english = tag == "en" or tag.startswith("en-")
        plain = name.kind is not NameKind.PREFERRED
        return (plain, keep.rank(name.language), bool(tag), not english, tag)

    return tuple(sorted(names, key=order))
