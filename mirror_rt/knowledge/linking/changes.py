"""Compare links with an earlier result of ``link``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirror_rt._count import counted
from mirror_rt.errors import InputError
from mirror_rt.knowledge.formats.pubtator import NO_ID, is_pubtator, read_mentions
from mirror_rt.knowledge.formats.sssom import read_sssom
from mirror_rt.knowledge.linking.result_files import SSSOM, ending_of
from mirror_rt.knowledge.linking.results import best_row
from mirror_rt.tables import (
    ArrowTable,
    Column,
    RowError,
    Table,
    cell_text,
    heading_key,
    is_arrow,
    joined_text,
    kept_name,
    known,
)
from mirror_rt.types import LinkStatus

if TYPE_CHECKING:
    from mirror_rt.knowledge.entities.reader import Catalogue

__all__ = ["CHANGE_COLUMNS", "EarlierLinks", "Link", "LinkChange", "LinkChangeKind", "LinkChanges"]


class LinkChangeKind(str, Enum):
    """The kind of a change."""

    NEW = "new"
    LOST = "lost"
    CHANGED = "changed"
    RETIRED = "retired"

    __str__ = str.__str__


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """The link of a mention in a result.

    Attributes:
        mention: The mention.
        form: The form that was linked instead of the mention, such as a long form; or empty.
        entity_id: The id of the best candidate; empty if there is none.
        entity_name: The name of the best candidate.
        probability: The probability of the best candidate, if known.
        status: Whether the mention is linked.
        others: Ids of further candidates, tied with the best.
    """

    mention: str
    form: str = ""
    entity_id: str = ""
    entity_name: str = ""
    probability: float | None = None
    status: LinkStatus = LinkStatus.LINKED
    others: tuple[str, ...] = ()

    @property
    def linked_id(self) -> str:
        """The id of the linked entity; empty if the mention is not linked."""
        return self.entity_id if self.status is LinkStatus.LINKED else ""

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Link:
        """Return the link in a record of ``LinkResult.to_dict``."""
        best = best_row(found)
        form = best.get("expanded_form") or ""
        return cls(
            mention=found["mention"],
            form="" if "|" in form else form,
            entity_id=best.get("entity_id") or "",
            entity_name=best.get("entity_name") or "",
            probability=best.get("probability"),
            status=LinkStatus(found["status"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkChange:
    """A mention whose link changes.

    Attributes:
        row: The number of the mention, from 1.
        kind: The kind of the change: the mention had no link, has no link now, or has another
            link; or its entity is no longer in the knowledge base.
        before: The earlier link.
        after: The link now.
        successors: If the earlier entity was retired: ids of the entities that list its id.
    """

    row: int
    kind: LinkChangeKind
    before: Link
    after: Link
    successors: tuple[str, ...] = ()

    def cells(self) -> tuple[object, ...]:
        """Return the cells for ``CHANGE_COLUMNS``."""
        before, after = self.before, self.after
        was = before.linked_id
        return (
            self.row, after.mention, str(self.kind), was or None,
            before.entity_name if was else None, before.probability if was else None,
            after.entity_id or None, after.entity_name or None, after.probability,
            str(after.status), "|".join(self.successors) or None,
        )  # fmt: skip


CHANGE_COLUMNS = (
    "row", "mention", "change", "old_id", "old_name", "old_probability", "entity_id",
    "entity_name", "probability", "status", "successors",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkChanges:
    """The result of a comparison.

    Attributes:
        changes: The mentions whose link changes, in order.
        compared: The number of mentions in both results.
        added: The number of mentions that the earlier result does not have.
        gone: The number of mentions that only the earlier result has.
    """

    changes: tuple[LinkChange, ...] = ()
    compared: int = 0
    added: int = 0
    gone: int = 0

    @property
    def counts(self) -> Counter[str]:
        """The number of changes of each kind."""
        return Counter(str(change.kind) for change in self.changes)


@dataclass(slots=True)
class _Earlier:
    """The earlier links of equal mentions; ``taken`` of them were compared."""

    links: list[Link] = field(default_factory=list)
    taken: int = 0


class EarlierLinks:
    """An earlier result in memory: an id, a name and a number for each mention.

    If a mention occurs several times, the n-th occurrence is compared with the n-th. So rows may
    be added, removed and sorted.

    Args:
        source: A file in a format that ``link`` writes or prints, or a table in memory.
        column: The column of mentions, as it was given to ``link``.
        catalogue: The catalogue, to look up entities.

    Raises:
        InputError: It cannot be read, lacks a column, or has a broken row.
        ConfigError: It is plain text.
    """

    def __init__(
        self, source: str | Path | ArrowTable, catalogue: Catalogue, *, column: str | None = None
    ) -> None:
        self._catalogue, self._column = catalogue, column
        self._shown = "the earlier result" if is_arrow(source) else str(source)
        self._whole = True  # every mention has a row
        self._by_mention: dict[str, _Earlier] = {}
        self._changes: list[LinkChange] = []
        self._rows = self._added = 0
        if is_arrow(source):
            links = _of_table(Table(source), column)
        elif ending_of(Path(source)) == SSSOM:
            self._whole, links = False, _of_sssom(Path(source))
        elif Path(source).is_file() and is_pubtator(source):
            links = _of_pubtator(source)
        else:
            links = _of_table(Table(source), column)
        texts: dict[str, str] = {}
        for link in links:
            self._by_mention.setdefault(link.mention, _Earlier()).links.append(link)
            texts.setdefault(link.entity_id, link.entity_id)
        if not self._by_mention and self._whole:
            raise InputError(f"{self._shown}: has no mentions; give an earlier result of link")

    def take(self, found: Mapping[str, Any]) -> LinkChange | None:
        """Compare the record of the next mention; return the change, or None."""
        return self._compare(Link.of(found))

    def compared_with(self, table: ArrowTable) -> LinkChanges:
        """Compare all mentions of a result in memory; see ``take`` and ``compared``."""
        for link in _of_table(Table(table), self._column):
            self._compare(link)
        return self.compared()

    def _compare(self, after: Link) -> LinkChange | None:
        self._rows += 1
        before = self._before(after)
        if before is None:
            self._added += 1
            return None
        was, now = before.linked_id, after.linked_id
        if was == now or (now and now in before.others):
            return None
        kind, successors = LinkChangeKind.CHANGED, tuple[str, ...]()
        gone = [id_ for id_ in was.split("|") if was and not self._is_own(id_)]
        if gone:
            kind, successors = LinkChangeKind.RETIRED, tuple(self._successors(gone))
        elif not was:
            kind = LinkChangeKind.NEW
        elif not now:
            kind = LinkChangeKind.LOST
        change = LinkChange(
            row=self._rows, kind=kind, before=before, after=after, successors=successors
        )
        self._changes.append(change)
        return change

    def compared(self) -> LinkChanges:
        """Return the comparison, after all mentions were taken.

        Raises:
            InputError: No mention is in the earlier result: it belongs to another table.
        """
        if self._whole and self._rows and self._added == self._rows:
            raise InputError(
                f"{self._shown}: holds none of {counted(self._rows, 'mention')}; "
                "is it the result of another table, or of another --column?"
            )
        left = (max(len(one.links) - one.taken, 0) for one in self._by_mention.values())
        return LinkChanges(
            changes=tuple(self._changes),
            compared=self._rows - self._added,
            added=self._added,
            gone=sum(left),
        )

    def _before(self, after: Link) -> Link | None:
        earlier = self._by_mention.get(after.mention)
        if self._whole:
            if earlier is None or earlier.taken == len(earlier.links):
                return None
            earlier.taken += 1
            return earlier.links[earlier.taken - 1]
        # SSSOM has one row for each linked entity, and no row for a mention without link.
        earlier = earlier or self._by_mention.get(after.form)
        if earlier is None:
            return Link(mention=after.mention, status=LinkStatus.NIL)
        earlier.taken = len(earlier.links)
        first, *rest = earlier.links
        return Link(
            mention=first.mention, entity_id=first.entity_id, entity_name=first.entity_name,
            probability=first.probability, others=tuple(link.entity_id for link in rest),
        )  # fmt: skip

    def _is_own(self, id_: str) -> bool:
        found = self._catalogue.ids_and_names(self._catalogue.resolve(id_)).values()
        return any(own == id_ for own, _ in found)

    def _successors(self, gone: Iterable[str]) -> Iterator[str]:
        for id_ in gone:
            for own, _ in self._catalogue.ids_and_names(self._catalogue.resolve(id_)).values():
                yield own


def _of_pubtator(source: str | Path) -> Iterator[Link]:
    for mention in read_mentions(source):
        id_ = "" if mention.ids == NO_ID else mention.ids
        status = LinkStatus.LINKED if id_ else LinkStatus.NIL
        yield Link(mention=mention.text, entity_id=id_, status=status)


def _of_sssom(source: Path) -> Iterator[Link]:
    for one in read_sssom(source):
        yield Link(
            mention=one.subject_label, entity_id=one.object_id, entity_name=one.object_label,
            probability=one.confidence,
        )  # fmt: skip


def _of_table(table: Table, column: str | None) -> Iterator[Link]:
    """Yield the record of each mention; if candidates have rows, the first row of the mention."""
    table.take_headings()
    there = {heading_key(heading) for heading in table.headings}

    def link_column(name: str) -> int | None:
        heading = kept_name(name, table.headings)
        return table.place(heading) if heading_key(heading) in there else None

    id_at, candidates_at = link_column("entity_id"), link_column("candidates")
    if id_at is None and candidates_at is None:
        raise InputError(
            f"{table.shown}: has no column entity_id; give an earlier result of link. There are: "
            f"{', '.join(table.headings)}"
        )
    # The table has a row for each candidate. With a row for each mention, a cell has them all.
    rank_at = link_column("rank") if candidates_at is None else None
    ends = [
        place for place in (id_at, candidates_at, rank_at, link_column("row")) if place is not None
    ]
    mention_at = _mention_at(table, column, min(ends))
    name_at, probability_at, status_at = map(link_column, ("entity_name", "probability", "status"))
    for number, cells in table.rows():
        try:
            if isinstance(cells, RowError):
                raise cells
            if table.is_blank(cells) and len(cells) > 1:
                continue
            if rank_at is not None and joined_text(cells[rank_at], "rank").strip() not in ("", "1"):
                continue
            mention = cell_text(cells[mention_at], "mention", numbers=True)
            if id_at is None:
                yield Link.of(_record(mention, cells, candidates_at, status_at))
                continue
            id_ = joined_text(cells[id_at], "entity_id").strip()
            yield Link(
                mention=mention,
                entity_id=id_,
                entity_name="" if name_at is None else joined_text(cells[name_at], "entity_name"),
                probability=_number(cells, probability_at),
                status=_status(cells, status_at, id_),
            )
        except RowError as fault:
            raise InputError(f"{table.shown}: {table.unit} {number}: {fault}") from fault


def _mention_at(table: Table, column: str | None, end: int) -> int:
    """Return the column of the mentions: one of the input's columns, which come before ours."""
    given = table.headings[:end]
    keys = [heading_key(heading) for heading in given]
    if column is not None and heading_key(column) in keys:
        return table.place(column)
    if column is not None and "mention" not in keys:
        return table.place(column)  # tells which columns there are
    found = [0] if len(given) == 1 else known(given, Column.TEXT, Column.NAME, Column.TITLE)
    if not found:
        raise InputError(
            f"{table.shown}: which column has the mentions? choose with --column: "
            f"{', '.join(given) or 'there is none'}"
        )
    return found[0]


def _record(
    mention: str, cells: list[Any], candidates_at: int | None, status_at: int | None
) -> dict[str, Any]:
    """Return the record of a line that ``link`` printed, with its candidates.

    Raises:
        RowError: It is not such a line.
    """
    found = [] if candidates_at is None else cells[candidates_at]
    if not isinstance(found, list) or not all(
        isinstance(one, dict) and isinstance(one.get("entity_id"), str) for one in found
    ):
        raise RowError("candidates is not a list of candidates")
    best = found[0]["entity_id"] if found else ""
    record = {"mention": mention, "status": _status(cells, status_at, best).value}
    return record | {"candidates": [{"expanded_form": None, **one} for one in found]}


def _status(cells: list[Any], place: int | None, id_: str) -> LinkStatus:
    said = "" if place is None else joined_text(cells[place], "status").strip()
    if not said:
        return LinkStatus.LINKED if id_ else LinkStatus.NIL
    try:
        return LinkStatus(said.casefold())
    except ValueError:
        raise RowError(f"the status {said!r} is none of {', '.join(LinkStatus)}") from None


def _number(cells: list[Any], place: int | None) -> float | None:
    text = "" if place is None else joined_text(cells[place], "probability").strip()
    try:
        return float(text) if text else None
    except ValueError:
        raise RowError(f"the probability {text!r} is not a number") from None
