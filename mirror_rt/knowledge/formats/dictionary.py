"""Read the dictionaries of BioSyn and SapBERT: ``id||name``, with ``|`` between several ids.

The first id is the entity, the others are alternative ids. In MEDIC these are AltDiseaseIDs. In
BioSyn's own files, a name shared by several concepts lists all of their ids, so an alternative id
may be another entity. In MEDIC's raw form, a line has several names separated by ``|``. So a name
cannot contain ``|``.
"""

from __future__ import annotations

from collections.abc import Iterator

from mirror_rt.knowledge.formats._rows import RowError, SkippedRows, checked, each
from mirror_rt.textfiles import StrPath, numbered_lines
from mirror_rt.types import Entity, Name

__all__ = ["parse_dictionary_line", "read_dictionary"]


def read_dictionary(path: StrPath, skipped: SkippedRows) -> Iterator[Entity]:
    """Read ``id||name`` lines; blank lines are skipped."""
    lines = ((n, line) for n, line in numbered_lines(path, strict=False) if line.strip())
    return each(path, lines, parse_dictionary_line, skipped)


def parse_dictionary_line(line: str) -> Entity:
    """Return the entity of one line.

    Raises:
        RowError: The line has no ``||``, or an id or name is empty.

    >>> entity = parse_dictionary_line("C567755|613097||tooth agenesis|sthag6")
    >>> entity.id, entity.alternative_ids, entity.aliases
    ('C567755', ('613097',), ('sthag6',))
    """
    left, separator, right = line.partition("||")
    if not separator:
        raise RowError("no || between id and name")
    ids = dict.fromkeys(checked(part, "id") for part in left.split("|"))
    first, *others = ids
    names = tuple(Name(text=checked(part, "name")) for part in right.split("|"))
    return Entity(id=first, names=names, alternative_ids=tuple(others))
