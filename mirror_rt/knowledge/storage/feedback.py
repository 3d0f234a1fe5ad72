"""Decisions of reviewers, stored in the folder of a knowledge base: gold links and new aliases.

Each line of ``feedback.jsonl`` is a decision. The decisions of one file are a batch; the last batch
can be undone. If several batches decide the same mention, the last one counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mirror_rt.errors import KnowledgeBaseError
from mirror_rt.knowledge.storage.manifest import FEEDBACK
from mirror_rt.knowledge.text.normalize import normalize
from mirror_rt.types import Entity, Name, NameKind

__all__ = ["SOURCE", "Decision", "FeedbackLog"]

SOURCE = "feedback"
"""The ``source`` of names that come from feedback."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The decision of a reviewer about a mention.

    Attributes:
        mention: The mention.
        entity_id: The id of the right entity; empty if no entity is right.
        decision: ``accepted``, ``corrected`` or ``rejected``.
        named: Whether the mention was a name (not from feedback) when it was decided to be NIL.
    """

    mention: str
    entity_id: str
    decision: str
    named: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    source: str
    aliases: bool
    decisions: tuple[Decision, ...]


@dataclass(frozen=True, slots=True)
class FeedbackLog:
    """All decisions in a knowledge base.

    Attributes:
        batches: The decisions of each file, in the order they were given.
    """

    batches: tuple[_Batch, ...] = ()

    @classmethod
    def read(cls, folder: Path) -> FeedbackLog:
        """Read the decisions of a knowledge base; an empty log if there is no file.

        Raises:
            KnowledgeBaseError: The file is damaged.
        """
        path = folder / FEEDBACK
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError) as error:
            raise KnowledgeBaseError(f"{path}: cannot be read ({error})") from error
        batches: dict[int, _Batch] = {}
        decisions: dict[int, list[Decision]] = {}
        for number, line in enumerate(lines, start=1):
            try:
                given = json.loads(line)
                one = Decision(
                    mention=given["mention"],
                    entity_id=given["entity_id"],
                    decision=given["decision"],
                    named=bool(given.get("named", False)),  # older files have none
                )
                place = int(given["batch"])
                batches[place] = _Batch(
                    source=given["source"], aliases=bool(given["aliases"]), decisions=()
                )
            except (ValueError, TypeError, KeyError) as error:
                raise KnowledgeBaseError(
                    f"{path}: line {number} is damaged ({error}); put back a copy, or remove the "
                    "file to start without feedback"
                ) from error
            decisions.setdefault(place, []).append(one)
        return cls(
            tuple(replace(batches[n], decisions=tuple(decisions[n])) for n in sorted(batches))
        )

    def write(self, path: Path) -> None:
        """Write the file."""
        with open(path, "w", encoding="utf-8", newline="") as handle:
            for number, batch in enumerate(self.batches, start=1):
                about = {"batch": number, "source": batch.source, "aliases": batch.aliases}
                for decision in batch.decisions:
                    handle.write(json.dumps(about | asdict(decision), ensure_ascii=False) + "\n")

    def added(self, decisions: Sequence[Decision], source: str, *, aliases: bool) -> FeedbackLog:
        """Return the log with one more batch; itself if all its decisions already count."""
        known, given = dict[str, set[object]](), dict[str, set[object]]()
        for mention, decision, as_names in self.in_force():
            known.setdefault(mention, set()).add((decision, as_names))
        for decision in decisions:
            given.setdefault(decision.mention, set()).add((decision, aliases))
        if all(known.get(mention) == said for mention, said in given.items()):
            return self
        batch = _Batch(source=source, aliases=aliases, decisions=tuple(decisions))
        return FeedbackLog((*self.batches, batch))

    def undone(self) -> FeedbackLog:
        """Return the log without its last batch."""
        return FeedbackLog(self.batches[:-1])

    def in_force(self) -> Iterator[tuple[str, Decision, bool]]:
        """Yield each mention with its valid decisions, and whether they add names."""
        last = {one.mention: n for n, batch in enumerate(self.batches) for one in batch.decisions}
        for number, batch in enumerate(self.batches):
            for decision in batch.decisions:
                if last[decision.mention] == number:
                    yield decision.mention, decision, batch.aliases

    def gold(self) -> list[tuple[str, frozenset[str]]]:
        """Return each mention with its right ids; no ids if no entity is right."""
        right: dict[str, set[str]] = {}
        for mention, decision, _ in self.in_force():
            right.setdefault(mention, set()).update(filter(None, [decision.entity_id]))
        return [(mention, frozenset(ids)) for mention, ids in right.items()]

    def nil(self) -> dict[str, bool]:
        """Return the normalized mentions that stay NIL, and whether each was a name.

        A mention that was accepted in another spelling is not among them.
        """
        found, right = dict[str, bool](), set[str]()
        for mention, decision, remembered in self.in_force():
            key = normalize(mention)
            if decision.entity_id:
                right.add(key)
            elif remembered and key:
                found[key] = found.get(key, False) or decision.named
        return {key: named for key, named in found.items() if key not in right}

    def aliases(self) -> dict[str, list[str]]:
        """Return the mentions that become names of each entity, by entity id."""
        found: dict[str, dict[str, None]] = {}
        for mention, decision, aliases in self.in_force():
            text = " ".join(mention.split())
            if aliases and decision.entity_id and normalize(text) and text.isprintable():
                found.setdefault(decision.entity_id, {})[text] = None
        return {id_: list(texts) for id_, texts in found.items()}

    def applied(self, pieces: Iterable[Entity]) -> Iterator[Entity]:
        """Yield the pieces of entities, each entity with its names from feedback."""
        waiting = self.aliases()
        for piece in pieces:
            names = tuple(name for name in piece.names if name.kind is not NameKind.ACCEPTED)
            names += tuple(
                Name(text=text, kind=NameKind.ACCEPTED, source=SOURCE)
                for text in waiting.pop(piece.id, ())
            )
            yield piece if names == piece.names or not names else replace(piece, names=names)

    def changes(self, before: FeedbackLog) -> int:
        """Return the number of entities whose names differ from those of another log."""
        own: Mapping[str, list[str]] = self.aliases()
        theirs: Mapping[str, list[str]] = before.aliases()
        return sum(
            sorted(own.get(id_, ())) != sorted(theirs.get(id_, ())) for id_ in {*own, *theirs}
        )
