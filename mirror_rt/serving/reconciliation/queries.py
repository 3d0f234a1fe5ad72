"""Batches of queries: parse them, answer them together, decide which answers are a match."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
from starlette.requests import Request

from mirror_rt._count import counted
from mirror_rt.errors import ConfigError, InputError
from mirror_rt.knowledge.text.normalize import normalize
from mirror_rt.serving.errors import Refused
from mirror_rt.serving.library import ModelNeeded, ServedKb
from mirror_rt.serving.reconciliation.protocol import MOST_PROPERTIES, object_in
from mirror_rt.serving.service import service_of
from mirror_rt.serving.work import LINK_TOKENS, cost_of
from mirror_rt.types import Candidate

__all__ = ["reconciled"]

CANDIDATES, MOST_CANDIDATES = 5, 50
"""The default and the maximum number of candidates for a query."""
MATCH_PRECISION = 0.95
"""A candidate is a match from the probability on that reached this precision."""
MATCH_PROBABILITY = 0.9
"""A candidate is a match from this probability on, if that precision was not reached."""

_FILTERED = {
    "type": "type", "cross_reference": "xref", "parent": "under", "id": "id", "xref": "xref",
    "under": "under", "source": "source", "language": "language",
}  # fmt: skip
"""Properties that restrict a query, and the filter of each. Fields of entities work too."""


class Query(NamedTuple):
    """A parsed query. It is hashable, so equal queries are answered once."""

    text: str
    limit: int
    types: tuple[tuple[str, ...], ...]
    properties: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, eq=False)
class Reconcile:
    """Finds candidates for queries; queries with the same conditions share a batch."""

    served: ServedKb

    @property
    def key(self) -> Hashable:
        """All queries of one knowledge base may share a batch."""
        return ("reconcile", id(self.served))

    def run(self, items: Sequence[Query | None]) -> list[bytes]:
        """Return the result of each query as JSON; an empty one for an invalid query."""
        distinct = [query for query in dict.fromkeys(items) if query is not None]
        found: dict[Query | None, bytes] = {None: b'{"result":[]}'}
        rest = []
        for query in distinct:
            by_id = self._by_id(query)
            if by_id:
                found[query] = _result(by_id)
            elif not query.text:
                found[query] = _result(self._by_properties(query))
            else:
                rest.append(query)
        for query, candidates in self._linked(rest):
            found[query] = _result(candidates)
        return [found[query] for query in items]

    def _by_id(self, query: Query) -> list[dict[str, object]]:
        """Return the entity whose id or alternative id is the text of a query, if there is one.

        Other entities that have this text as a name follow it. If there are any, none is a match.
        """
        if not query.text:
            return []
        try:
            entity = self.served.kb.entity(query.text.strip())
        except InputError:
            return []
        others: list[Candidate] = []
        with suppress(ModelNeeded):  # the text is not a name
            (named,) = self.served.exact.link([query.text], top=query.limit + 1)
            others = [c for c in named if c.entity_id != entity.id]
        features = {"by_id": True}
        return [
            _candidate(entity.id, entity.name, entity.types, entity.description, 100.0,
                       not others, features),
            *self._candidates(others, query, self._about(others), False),
        ][: query.limit]  # fmt: skip

    def _by_properties(self, query: Query) -> list[dict[str, object]]:
        """Return entities that meet the properties of a query without a name, unordered."""
        catalogue = self.served.kb.resources.catalogue
        conditions = self._conditions(query)
        if not any(conditions):
            return []
        most = query.limit if len(conditions) == 1 else None
        found: list[set[int]] = [
            set(catalogue.entities_with(field, values, most=most)) for field, values in conditions
        ]
        numbers = sorted(set.intersection(*found))[: query.limit]
        ids = [id_ for id_, _ in catalogue.ids_and_names(numbers).values()]
        about = catalogue.about(ids)
        return [_candidate(id_, *about[id_], 50.0, False, {}) for id_ in ids]

    def _conditions(self, query: Query) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Return the filters of a query, restricted to fields that occur."""
        catalogue = self.served.kb.resources.catalogue
        found = []
        for field, values in (*(("type", types) for types in query.types), *query.properties):
            known = tuple(v for v in values if v and catalogue.entities_with(field, [v], most=1))
            if known:
                found.append((field, known))
        return tuple(found)

    def _linked(self, queries: Sequence[Query]) -> Iterator[tuple[Query, list[dict[str, object]]]]:
        wanted = []
        for query in queries:
            if normalize(query.text):
                wanted.append(query)
            else:
                yield query, []
        # Types and properties are filters first. If no entity meets them, drop the properties,
        # then the types; in this case no candidate is a match.
        left = [(query, self._conditions(query), True) for query in wanted]
        while left:
            groups: dict[tuple[Any, ...], list[tuple[Query, bool]]] = {}
            for query, conditions, whole in left:
                complete = whole and len(conditions) == len(query.types) + len(query.properties)
                groups.setdefault(conditions, []).append((query, complete))
            left = []
            for conditions, members in groups.items():
                texts = [query.text for query, _ in members]
                top = max(query.limit for query, _ in members)
                try:
                    results = self.served.kb.link(texts, top=top, filters=conditions)
                except ConfigError:
                    types = tuple(pair for pair in conditions if pair[0] == "type")
                    looser = () if types == conditions else types
                    left += [(query, looser, False) for query, _ in members]
                    continue
                about = self._about([c for r in results for c in r])
                for (query, complete), result in zip(members, results, strict=True):
                    yield query, self._candidates(result[: query.limit], query, about, complete)

    def _about(self, candidates: Sequence[Candidate]) -> dict[str, tuple[str, Any, str]]:
        return self.served.kb.resources.catalogue.about([c.entity_id for c in candidates])

    def _candidates(
        self,
        candidates: Sequence[Candidate],
        query: Query,
        about: Mapping[str, tuple[str, Any, str]],
        complete: bool,
    ) -> list[dict[str, object]]:
        found: list[dict[str, Any]] = []
        wanted = {type_ for types in query.types for type_ in types}
        for rank, candidate in enumerate(candidates):
            probability = candidate.probability or 0.0
            name, types, description = about[candidate.entity_id]
            features = {
                "exact": candidate.match_type.is_exact,
                "cosine": round(candidate.score, 4),
                "probability": round(probability, 4),
                "tied": candidate.tied,
            }
            if wanted:
                features["type_match"] = not wanted.isdisjoint(types)
            if query.properties:
                features["properties_match"] = complete
            match = not rank and complete and not candidate.tied and self._is_match(candidate)
            score = round(100 * probability, 2)
            if found:  # keeps the order of ties, and never puts a less probable one first
                score = min(score, found[-1]["score"])
            found.append(
                _candidate(candidate.entity_id, name, types, description, score, match, features)
            )
        return found

    def _is_match(self, candidate: Candidate) -> bool:
        reranker = self.served.kb.resources.reranker
        if candidate.match_type.is_exact and not reranker.has_gold_thresholds:
            return True  # the threshold does not apply to these
        try:
            least = reranker.threshold(MATCH_PRECISION)
        except ConfigError:
            least = MATCH_PROBABILITY
        return (candidate.probability or 0.0) >= least


def _candidate(
    id_: str,
    name: str,
    types: Sequence[str],
    description: str,
    score: float,
    match: bool,
    features: Mapping[str, object],
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": id_,
        "name": name,
        "score": score,
        "match": match,
        "type": [{"id": type_, "name": type_} for type_ in types],
        "features": [{"id": feature, "value": value} for feature, value in features.items()],
    }
    if description:
        found["description"] = description
    return found


def _result(candidates: Sequence[Mapping[str, object]]) -> bytes:
    return orjson.dumps({"result": candidates})


async def reconciled(request: Request, served: ServedKb, given: str) -> bytes:
    """Answer a batch of queries, a JSON object (Refused if it is not valid or too long)."""
    service = service_of(request)
    batch = object_in(given, "queries")
    limits = service.config.limits
    if len(batch) > limits.batch:
        raise Refused(
            413,
            f"{counted(len(batch), 'query')}; give at most {limits.batch} at once",
            param="queries",
        )
    service.note(request, len(batch))
    fields = served.field_names
    queries = [_parsed(query, fields, limits.characters) for query in batch.values()]
    if not queries:
        return b"{}"
    most = served.encoder.bundle.manifest.max_length
    costs = [_cost(query, most) for query in queries]
    job = await service.run(request, Reconcile(served), queries, costs)
    keys = (orjson.dumps(key) for key in batch)
    pairs = (b"%b:%b" % pair for pair in zip(keys, job.results, strict=True))
    return b"{%b}" % b",".join(pairs)


def _cost(query: Query | None, most: int) -> int:
    if query is None:
        return 1
    lookups = sum(len(values) for _, values in query.properties) + sum(map(len, query.types))
    return LINK_TOKENS + lookups + cost_of(query.text, most=most)


def _parsed(given: object, fields: Sequence[str], most: int) -> Query | None:
    """Parse a query; None if it is invalid. The other queries of the batch are still answered."""
    if not isinstance(given, dict):
        return None
    text = given.get("query", "")
    if not isinstance(text, str) or len(text) > most:
        return None
    limit = given.get("limit")
    if isinstance(limit, bool) or not isinstance(limit, (int, float)) or limit < 1:
        limit = CANDIDATES
    types = given.get("type") or []
    types = [types] if isinstance(types, str) else types
    if not isinstance(types, list) or not all(isinstance(type_, str) for type_ in types):
        types = []
    types = types[:MOST_PROPERTIES]
    properties = given.get("properties") or []
    if not isinstance(properties, list):
        properties = []
    conditions = []
    for item in properties[:MOST_PROPERTIES]:
        pid = item.get("pid") if isinstance(item, dict) else None
        if not isinstance(pid, str):
            continue
        field = _FILTERED.get(pid) or (pid if pid in fields else None)
        values = tuple(_values(item.get("v")))
        if field and values:
            conditions.append((field, values))
    each = [(type_,) for type_ in types]
    any_of = [tuple(types)] if types else []
    return Query(
        text=text,
        limit=int(min(limit, MOST_CANDIDATES)),
        types=tuple(each if given.get("type_strict") == "all" else any_of),
        properties=tuple(conditions),
    )


def _values(given: object) -> Iterator[str]:
    """Yield the values of a property as text; a whole number also without decimals."""
    for value in given[:MOST_PROPERTIES] if isinstance(given, list) else [given]:
        match value:
            case str():
                yield value.strip()
            case bool():
                yield "true" if value else "false"
            case float() if value.is_integer():
                yield str(int(value))
                yield str(value)
            case int() | float():
                yield str(value)
            case {"id": str(id_)}:
                yield id_
            case _:
                pass
