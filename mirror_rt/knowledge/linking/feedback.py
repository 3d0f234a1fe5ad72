"""Read reviewed rows: accepted, rejected and corrected links."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mirror_rt._count import counted
from mirror_rt.errors import ConfigError, InputError
from mirror_rt.knowledge.linking.results import fingerprint
from mirror_rt.tables import (
    ArrowTable,
    Notes,
    RowError,
    Table,
    TableOptions,
    heading_key,
    joined_text,
    kept_name,
)
from mirror_rt.textfiles import StrPath

if TYPE_CHECKING:
    from mirror_rt.knowledge.entities.reader import Catalogue
    from mirror_rt.knowledge.linking.calibration import CalibrationReport

__all__ = [
    "FeedbackReport",
    "Reviewed",
    "decided_rows",
    "is_result",
    "is_review",
    "read_reviewed",
]

ACCEPTED = frozenset({"accept", "accepted", "yes", "y", "ok", "true", "right", "1", "x"})
REJECTED = frozenset({"reject", "rejected", "no", "n", "false", "wrong", "0"})
CORRECTED = frozenset({"corrected"})
NOTHING = frozenset({"-", "nil", "none"})
_COLUMNS = ("mention", "entity_id", "entity_name", "check", "decision", "correct_id")
_SHOWN = 3
_SEVERAL = 3
"""So many strange entities, and no other, are a review of another knowledge base."""
_WHOLE = re.compile(r"(\d+)\.0")


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackReport:
    """The effect of feedback.

    Attributes:
        accepted: Distinct accepted links in the file.
        rejected: Distinct rejected links.
        corrected: Distinct corrected links.
        undecided: Rows without a decision.
        composites: Rows with several entities together, which were ignored.
        known: Whether all these decisions counted before; then nothing has changed.
        aliases: Names that the knowledge base has from feedback now.
        gold_links: Decided mentions, of all feedback.
        gone: Decided mentions whose entities no longer exist; they are ignored.
        calibration: The report of the calibration on all of them; None if they are too few.
        replaced: Gold links of another calibration, which this one has replaced.
        notes: What was ignored in the file.
    """

    accepted: int = 0
    rejected: int = 0
    corrected: int = 0
    undecided: int = 0
    composites: int = 0
    known: bool = False
    aliases: int = 0
    gold_links: int = 0
    gone: int = 0
    calibration: CalibrationReport | None = None
    replaced: int = 0
    notes: Notes = field(default_factory=Notes)


@dataclass(slots=True, kw_only=True)
class Reviewed:
    """The decisions of a file.

    Attributes:
        links: (mention, id) with the decision: ``accepted``, ``corrected`` or ``rejected``. The
            id is empty if no entity is right for the mention.
        undecided: Rows without a decision.
        composites: Rows with several entities together.
    """

    links: dict[tuple[str, str], str]
    undecided: int = 0
    composites: int = 0


def read_reviewed(
    source: StrPath | ArrowTable,
    catalogue: Catalogue,
    *,
    column: str | None = None,
    options: TableOptions | None = None,
    notes: Notes | None = None,
) -> Reviewed:
    """Read a reviewed table: one that ``link --review`` wrote, or one with the same columns.

    Args:
        source: The file, or a table in memory.
        catalogue: The catalogue, to look up ids.
        column: The column of mentions; by default ``mention``.
        options: The options for reading the file.
        notes: Counts what is ignored.

    Raises:
        ConfigError: The file is not a table.
        InputError: It cannot be read or lacks a column, an id is unknown, all entities (three or
            more) are of another knowledge base, a word is not a decision, a row was changed, or
            two rows contradict each other; the message names the row.
    """
    table = Table(source, options=options, notes=notes)
    table.take_headings()
    places = _places(table, column)
    found = Reviewed(links={})
    rows: dict[
        tuple[str, str, bool], int
    ] = {}  # (mention, id, whether right) → the number of the row
    missing: dict[str, int] = {}
    strange: list[str] = []  # for each proposed entity, what is not of this knowledge base
    for number, cells, given, said in _said(table, places, catalogue):
        if said is None:
            found.undecided += not table.is_blank(cells)
            continue
        decision, chosen = said
        mention, proposed = given["mention"], given["entity_id"]
        if proposed:
            strange += _strange(catalogue, proposed, given["entity_name"], said)
        right = "" if decision == "rejected" else _own_id(catalogue, chosen)
        if right is None:
            if "|" in chosen and all(map(catalogue.resolve, chosen.split("|"))):
                found.composites += 1
            else:
                missing.setdefault(chosen, number)
            continue
        claims = [(mention, right, True)] if right else []
        wrong = proposed if decision != "accepted" else ""
        claims += [(mention, _own_id(catalogue, wrong) or wrong, False)] if wrong else []
        for claim in claims:
            other = rows.get((*claim[:2], not claim[2]))
            if other is not None:
                raise InputError(
                    f"{table.shown}: {table.unit} {number} contradicts {table.unit} {other}: one "
                    f"says that {mention!r} is {claim[1]}, one that it is not; decide once"
                )
            rows.setdefault(claim, number)
        found.links.setdefault((mention, right), decision)
    if missing:
        some = ", ".join(f"{id_!r} ({table.unit} {n})" for id_, n in [*missing.items()][:_SHOWN])
        more = f" and {len(missing) - _SHOWN:,} more" if len(missing) > _SHOWN else ""
        raise InputError(
            f"{table.shown}: no entity has the id {some}{more}; a spreadsheet may have changed it, "
            "or it was removed since: correct the rows, or leave their decision empty"
        )
    if len(strange) >= _SEVERAL and all(strange):
        what, otherwise = "entity_id", "leave the decisions about removed entities empty"
        if "entity_name" in strange:
            what = "entity_name" if "entity_id" not in strange else "entity_id with its entity_name"
            otherwise = "remove the column entity_name if names changed since"
        raise InputError(
            f"{table.shown}: no {what} of its {counted(len(strange), 'decision')} is of this "
            f"knowledge base; give a review of this one, or {otherwise}"
        )
    for mention in {mention for mention, id_ in found.links if id_}:
        found.links.pop((mention, ""), None)  # one entity is wrong, another is right
    return found


def is_review(headings: Sequence[str]) -> bool:
    """Return whether a table has the columns that ``link --review`` adds to be filled in."""
    return _has(headings, "decision", "correct_id")


def is_result(headings: Sequence[str]) -> bool:
    """Return whether a table has the columns that ``link`` adds."""
    return _has(headings, "entity_id", "matched_name", "match_type")


def decided_rows(table: Table, column: str | None = None) -> Iterator[tuple[list[Any], str, str]]:
    """Yield (cells, mention, right id) of the rows of a review that have a decision.

    The id is empty if the candidate was rejected, and no row says what is right.

    Args:
        table: The table, after its headings.
        column: The column of mentions; by default ``mention``.

    Raises:
        InputError: A row cannot be read, was changed, or its word is not a decision.
        ConfigError: The column of mentions is missing.
    """
    rows = [
        (cells, given["mention"], "" if said[0] == "rejected" else said[1])
        for _, cells, given, said in _said(table, _places(table, column))
        if said is not None
    ]
    right = {mention for _, mention, id_ in rows if id_}
    yield from (row for row in rows if row[2] or row[1] not in right)


def _said(
    table: Table, places: Mapping[str, int], catalogue: Catalogue | None = None
) -> Iterator[tuple[int, list[Any], dict[str, str], tuple[str, str] | None]]:
    """Yield the number of each row, its cells, those of a review by name, and its decision.

    Raises:
        InputError: The message names the row.
    """
    for number, cells in table.rows():
        try:
            if isinstance(cells, RowError):
                raise cells
            place = places.get("decision")
            if place is not None and isinstance(cells[place], bool):
                cells[place] = str(cells[place])
            given = {
                name: joined_text(cells[place], name).strip() for name, place in places.items()
            }
            if "mention" in given:  # a spreadsheet may write other line ends
                given["mention"] = " ".join(given["mention"].split())
            if catalogue is not None:
                for name in {"entity_id", "correct_id"} & given.keys():
                    given[name] = _without_point(catalogue, given[name])
            said = _decision(given)
        except RowError as fault:
            raise InputError(f"{table.shown}: {table.unit} {number}: {fault}") from fault
        yield number, cells, given, said


def _has(headings: Sequence[str], *names: str) -> bool:
    there = {heading_key(heading) for heading in headings}
    return all(heading_key(kept_name(name, headings)) in there for name in names)


def _places(table: Table, column: str | None) -> dict[str, int]:
    if not table.headings:
        raise InputError(f"{table.shown}: is empty")
    there = {heading_key(heading) for heading in table.headings}
    places = {}
    for name in _COLUMNS:
        heading = kept_name(name, table.headings)
        if name == "mention" and column is not None:
            heading = column
        elif heading_key(heading) not in there:
            continue
        places[name] = table.place(heading)
    if not {"decision", "correct_id"} & places.keys():
        raise InputError(
            f"{table.shown}: has neither a column decision nor correct_id; review a file that "
            f"mirror-rt link --review wrote. There are: {', '.join(table.headings)}"
        )
    if "mention" not in places:
        raise ConfigError(f"{table.shown}: which column has the mentions? choose with --column")
    if "entity_id" not in places and "correct_id" not in places:
        raise InputError(f"{table.shown}: has neither a column entity_id nor correct_id")
    return places


def _decision(given: dict[str, str]) -> tuple[str, str] | None:
    """Return the decision of a row and its entity id; None if the row has no decision.

    Raises:
        RowError: The cells contradict each other, or were changed.
    """
    checked = "entity_id" in given and given.get("check")
    for name in _COLUMNS:
        given.setdefault(name, "")
    word, correct = given["decision"].casefold(), given["correct_id"]
    if not word and not correct:
        return None
    word = word.removesuffix(".0")  # a column of numbers with gaps has 1.0
    mention, proposed = given["mention"], given["entity_id"]
    if not mention:
        raise RowError("has a decision but no mention")
    if checked and checked != fingerprint(mention, proposed):
        raise RowError(
            "its mention or entity_id is not the one that link wrote there: was one column sorted "
            "or edited alone, or did a spreadsheet read text as a number (review an .xlsx then)? "
            "Another id goes into correct_id"
        )
    if word and word not in ACCEPTED | REJECTED | CORRECTED:
        raise RowError(f"the decision {given['decision']!r} is none; write accept or reject")
    if correct.casefold() in NOTHING:
        correct, word = "", word or "reject"
        if word in ACCEPTED:
            raise RowError("says accept, and that no id is correct")
    if word in ACCEPTED and correct not in ("", proposed):
        raise RowError(f"says accept, and that {correct} is correct rather than {proposed}")
    if correct and correct != proposed:
        return "corrected", correct
    if word in REJECTED or not (correct or word in ACCEPTED):
        if correct:
            raise RowError(f"says reject, and that {correct} is correct")
        if word in CORRECTED:
            raise RowError("says corrected, but has no correct_id")
        return "rejected", ""
    if not proposed:
        raise RowError("says accept, but has no entity_id; put the id into correct_id")
    return "accepted", proposed


def _without_point(catalogue: Catalogue, id_: str) -> str:
    """Return an id as it was before a table of numbers with gaps made 12.0 of 12."""
    found = _WHOLE.fullmatch(id_)
    return found[1] if found and not catalogue.resolve(id_) else id_


def _strange(catalogue: Catalogue, id_: str, name: str, said: tuple[str, str]) -> list[str]:
    """Return the column that says that a row is of another knowledge base; "" if none does.

    Names that differ in case and spaces are the same; the name of a merged entity is not compared.
    A row whose ``correct_id`` is there is not strange. If it has another name, nothing is returned:
    its ids may be there by chance.
    """
    decision, chosen = said
    corrected = decision == "corrected" and all(map(catalogue.resolve, chosen.split("|")))
    found = catalogue.ids_and_names(catalogue.resolve(id_)).values()
    if "|" in id_ or (corrected and not found):
        return [""]
    if not found:
        return ["entity_id"]
    if any(not name or own_id != id_ or _folded(own) == _folded(name) for own_id, own in found):
        return [""]
    return [] if corrected else ["entity_name"]


def _folded(name: str) -> str:
    return " ".join(name.casefold().split())


def _own_id(catalogue: Catalogue, id_: str) -> str | None:
    """Return the current id of an entity; None if there is no entity, or more than one."""
    numbers = catalogue.resolve(id_)
    if len(numbers) != 1:
        return None
    found: Mapping[int, Any] = catalogue.ids_and_names(numbers)
    own: str = found[numbers[0]][0]
    return own
