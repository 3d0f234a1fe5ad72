"""Plain data types that all packages share. This module imports nothing heavy.

Arrays carry their axes in their names: B texts of a batch, T tokens, D width, N items,
Q queries, K hits, R index rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol, overload

if TYPE_CHECKING:
    from typing import TypeAlias

    import numpy as np
    import numpy.typing as npt

    Float32: TypeAlias = npt.NDArray[np.float32]
    Float16: TypeAlias = npt.NDArray[np.float16]
    Int32: TypeAlias = npt.NDArray[np.int32]
    Int64: TypeAlias = npt.NDArray[np.int64]

__all__ = [
    "BundleKind",
    "Candidate",
    "Embedder",
    "Entity",
    "FileFormat",
    "Hits",
    "IndexKind",
    "KbFormat",
    "LinkResult",
    "LinkStatus",
    "Loss",
    "MatchType",
    "Name",
    "NameKind",
    "NilReason",
    "PairSource",
    "Passage",
    "Pooling",
    "Precision",
    "Preset",
    "Relation",
    "SearchResult",
    "TokenBatch",
]


class Pooling(Enum):
    """How token states become one vector."""

    CLS = "cls"
    MEAN = "mean"


class BundleKind(Enum):
    """What computes a bundle's vectors: an ONNX graph over tokens, or a table of features."""

    ONNX = "onnx"
    STATIC = "static"


class Precision(Enum):
    """How a bundle's weights are stored and multiplied.

    ``FP16_WEIGHTS`` halves the file and multiplies in float32.
    """

    FP32 = "fp32"
    FP16_WEIGHTS = "fp16-weights"
    INT8 = "int8"


class Preset(Enum):
    """Settings for words, names and sentences as in the paper, and for synonyms and linking.

    ``SYNONYMS`` trains on names of the same entity, at a higher learning rate. ``LINKING`` also
    mines hard negatives and keeps a share of the base; it is for one knowledge base.
    """

    WORD = "word"
    NAME = "name"
    SENTENCE = "sentence"
    SYNONYMS = "synonyms"
    LINKING = "linking"


class PairSource(Enum):
    """The source of the positive pairs of contrastive training."""

    MIRROR = "mirror"
    SYNONYMS = "synonyms"
    FILE = "file"


class Loss(Enum):
    """The loss of contrastive training."""

    INFO_NCE = "info-nce"
    MULTI_SIMILARITY = "multi-similarity"


class NameKind(Enum):
    """The kind of a name (OBO synonym scopes, plus the preferred name).

    ``ACCEPTED`` is a mention that a reviewer has accepted for the entity.
    """

    PREFERRED = "preferred"
    EXACT = "exact"
    BROAD = "broad"
    NARROW = "narrow"
    RELATED = "related"
    ABBREVIATION = "abbreviation"
    ACCEPTED = "accepted"


class FileFormat(Enum):
    """The format of a file of rows; see ``mirror_rt.tables``."""

    TEXT = "text"
    CSV = "csv"
    TSV = "tsv"
    JSONL = "jsonl"
    PARQUET = "parquet"
    XLSX = "xlsx"


class KbFormat(Enum):
    """The formats of knowledge bases; see ``mirror_rt.knowledge.formats``."""

    TSV = "tsv"
    CSV = "csv"
    JSONL = "jsonl"
    DICTIONARY = "dictionary"
    OBO = "obo"
    PARQUET = "parquet"
    XLSX = "xlsx"
    RDF = "rdf"
    RRF = "rrf"
    ICD10CM = "icd10cm"
    WIKIDATA = "wikidata"


class MatchType(str, Enum):
    """How the name of a candidate matches the mention.

    It is the strictest level at which the two are equal, or otherwise the retriever that found the
    name: ``LEXICAL`` or ``DENSE``.
    """

    EXACT = "exact"
    CASE = "case"
    PUNCTUATION = "punctuation"
    NUMBER = "number"
    HYPHEN = "hyphen"
    PLURAL = "plural"
    ACCENTS = "accents"
    SPELLING = "spelling"
    GREEK = "greek"
    NUMERAL = "numeral"
    WORD_ORDER = "word_order"
    LEXICAL = "lexical"
    DENSE = "dense"

    __str__ = str.__str__

    @property
    def is_exact(self) -> bool:
        """Whether mention and name are equal, except for case, punctuation and spaces."""
        return self in {MatchType.EXACT, MatchType.CASE, MatchType.PUNCTUATION}


class Relation(str, Enum):
    """The relation from the matched name to the entity, by the scope of that name.

    A broad synonym means more than its entity, so the entity is ``NARROWER``.
    """

    EXACT = "exact"
    BROADER = "broader"
    NARROWER = "narrower"
    RELATED = "related"

    __str__ = str.__str__

    @classmethod
    def of(cls, kind: NameKind) -> Relation:
        """Return the relation of an entity to a name of this kind."""
        match kind:
            case NameKind.BROAD:
                return cls.NARROWER
            case NameKind.NARROW:
                return cls.BROADER
            case NameKind.RELATED:
                return cls.RELATED
            case _:
                return cls.EXACT


class NilReason(str, Enum):
    """Why a text has no candidate (NIL, as TAC-KBP calls it).

    ``EMPTY``: it is empty, or only spaces. ``PUNCTUATION``: it has no letter and no digit.
    ``BELOW_THRESHOLD``: no entity was found, or the confidence in the best one (see
    ``LinkResult``) is below ``min_probability``. ``FILTERED_OUT``: it is a name, but a filter
    excludes its entities, and all others are below the threshold.
    """

    EMPTY = "empty"
    PUNCTUATION = "punctuation"
    BELOW_THRESHOLD = "below_threshold"
    FILTERED_OUT = "filtered_out"
    DECIDED = "decided"

    __str__ = str.__str__


class LinkStatus(str, Enum):
    """The status of a mention.

    ``LINKED``: the confidence (see ``LinkResult``) reaches the threshold for review, the best
    candidate is not tied, and no part of a composite is NIL. ``REVIEW``: it has candidates, but
    one of these does not hold, so a reviewer should decide. ``NIL``: it has no candidate.
    """

    LINKED = "linked"
    REVIEW = "review"
    NIL = "nil"

    __str__ = str.__str__


class IndexKind(Enum):
    """The kind of vector index; see ``retrieval.vector_index``."""

    AUTO = "auto"
    EXACT = "exact"
    PQ = "pq"
    IVF_PQ = "ivf-pq"
    HNSW = "hnsw"


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """One name of an entity."""

    text: str
    kind: NameKind = NameKind.EXACT
    language: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """A thing with an id and one or more names.

    Readers may yield an entity in several pieces, one for each row. Pieces with the same id are
    the same entity; their names, types and references are joined in order.

    Attributes:
        id: The identifier in its knowledge base.
        names: At least one name; the first ``PREFERRED`` one is *the* name, or otherwise the
            first.
        types: Semantic types or classes.
        alternative_ids: Other ids of the same entity (merged or obsolete ones).
        cross_references: Ids of the same thing in other databases.
        parents: Ids of broader entities, which may be unknown here.
        description: A definition in words; empty if there is none.
        fields: Further columns of the input, as pairs of field and value; fields may repeat.
    """

    id: str
    names: tuple[Name, ...]
    types: tuple[str, ...] = ()
    alternative_ids: tuple[str, ...] = ()
    cross_references: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()
    description: str = ""
    fields: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """The preferred name, or the first one."""
        for name in self.names:
            if name.kind is NameKind.PREFERRED:
                return name.text
        return self.names[0].text

    @property
    def aliases(self) -> tuple[str, ...]:
        """All distinct names except the preferred one, in order."""
        return tuple(dict.fromkeys(n.text for n in self.names if n.text != self.name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A text to search.

    Attributes:
        id: The identifier.
        text: The text.
        title: The title, which is searched too; empty if there is none.
        metadata: Fields for filters, as pairs of field and value; fields may repeat.
    """

    id: str
    text: str
    title: str = ""
    metadata: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A candidate entity for a mention, or an entity or passage found for a query.

    Attributes:
        entity_id: The id of the entity.
        entity_name: The preferred name of the entity.
        matched_name: The name of the entity that matched best.
        match_type: How this name matches.
        relation: The relation from this name to the entity: exact; or broader, narrower or
            related for synonyms of these scopes. None for a passage.
        score: Cosine of the mention and ``matched_name``, in [-1, 1]; 1.0 for an exact match. In
            a hybrid search, ``0.8 × dense_score + 0.2 × lexical_score``. Links are not in this
            order: they are ranked by all features.
        probability: The probability that the candidate is right: of many candidates with .8, about
            80 in 100 are right, if the mentions are like those that it was fitted to
            (``knowledge.ranking.reranker`` computes it). Candidates that are tied share one
            probability. A context changes the order of candidates, not their probabilities. None
            for a search.
        tied: Whether another entity matches equally well.
        expanded_form: The long form of an abbreviation, or the part of a composite mention, that
            was linked; empty if it is the mention itself.
        context_score: Cosine of the mention's context and the entity's description, if it was
            used to order close candidates; otherwise None.
        dense_score: Cosine of the vectors of query and name; only in a hybrid search.
        lexical_score: Cosine of their character trigrams; only in a hybrid search.
        passage: The passage, if the knowledge base holds passages.
    """

    entity_id: str
    entity_name: str
    matched_name: str
    match_type: MatchType = MatchType.DENSE
    relation: Relation | None = None
    score: float
    probability: float | None = None
    tied: bool = False
    expanded_form: str = ""
    context_score: float | None = None
    dense_score: float | None = None
    lexical_score: float | None = None
    passage: Passage | None = None

    def to_dict(self) -> dict[str, object]:
        """Return the fields as the commands print them, with numbers rounded to four places.

        A passage has ``title`` and ``text`` instead of an entity's name. Scores that were not
        computed are left out.
        """
        score = round(self.score, 4)
        fields: dict[str, object]
        if self.passage is not None:
            fields = {
                "id": self.passage.id,
                "title": self.passage.title,
                "text": self.passage.text,
                "matched_text": self.matched_name,
                "match_type": self.match_type.value,
                "score": score,
            }
        else:
            fields = {
                "entity_id": self.entity_id,
                "entity_name": self.entity_name,
                "matched_name": self.matched_name,
                "match_type": self.match_type.value,
                "relation": None if self.relation is None else self.relation.value,
                "score": score,
                "probability": None if self.probability is None else round(self.probability, 4),
                "tied": self.tied,
                "expanded_form": self.expanded_form,
            }
        for name in ("context_score", "dense_score", "lexical_score"):
            value = getattr(self, name)
            if value is not None:
                fields[name] = round(value, 4)
        return fields


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidates(Sequence[Candidate]):
    """A sequence of candidates, best first, with the reason if it is empty."""

    candidates: tuple[Candidate, ...] = ()
    nil_reason: NilReason | None = None

    @overload
    def __getitem__(self, place: int) -> Candidate: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Candidate, ...]: ...
    def __getitem__(self, place: int | slice) -> Candidate | tuple[Candidate, ...]:
        return self.candidates[place]

    def __len__(self) -> int:
        return len(self.candidates)

    def _to_dict(self, subject: str, text: str) -> dict[str, object]:
        record: dict[str, object] = {
            subject: text,
            "candidates": [candidate.to_dict() for candidate in self.candidates],
        }
        if self.nil_reason is not None:
            record["nil_reason"] = self.nil_reason.value
        return record


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkResult(_Candidates):
    """The candidates of a mention, best first.

    The *confidence* in a link is the probability that the best candidate, or one tied with it, is
    right: the sum of their probabilities, before a context changes the order. Thresholds apply
    to it. That of a composite is the lowest of its parts.

    Attributes:
        mention: The mention as it was given.
        candidates: The candidates; the object is a sequence of them.
        nil_reason: Why there is no candidate (NIL); otherwise None. ``FILTERED_OUT`` means: the
            mention is a name, but a filter excludes its entities, and all others are below the
            threshold. ``DECIDED`` means: ``feedback`` said that no entity is right. If only some
            parts of a composite have candidates, both are given.
        needs_review: Whether the mention is for review: the confidence in it or in a part is
            below the threshold (by default .5), the best candidate is tied and no context
            decided, or a part has no candidate although ``feedback`` did not decide so.
    """

    mention: str
    needs_review: bool = False

    @property
    def status(self) -> LinkStatus:
        """The status of the mention."""
        if not self.candidates:
            return LinkStatus.NIL
        return LinkStatus.REVIEW if self.needs_review else LinkStatus.LINKED

    def to_dict(self) -> dict[str, object]:
        """Return the result as ``mirror-rt link`` prints it in JSON."""
        record = self._to_dict("mention", self.mention)
        return {"mention": record.pop("mention"), "status": self.status.value, **record}


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult(_Candidates):
    """The entities or passages found for a query, best first.

    Attributes:
        query: The query as it was given.
        candidates: The results; the object is a sequence of them.
        nil_reason: Why nothing was found; otherwise None.
    """

    query: str

    def to_dict(self) -> dict[str, object]:
        """Return the result as ``mirror-rt search`` prints it in JSON."""
        return self._to_dict("query", self.query)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenBatch:
    """Token ids of texts, padded on the right.

    Attributes:
        input_ids_BT: (B, T) int64.
        attention_mask_BT: (B, T) int64, 1 for real tokens.
    """

    input_ids_BT: Int64
    attention_mask_BT: Int64


@dataclass(frozen=True, slots=True, kw_only=True)
class Hits:
    """Nearest rows of queries.

    Attributes:
        scores_QK: (Q, K) float32, best first; higher is better for every metric.
        rows_QK: (Q, K) int64 row numbers; missing rows are -1.
    """

    scores_QK: Float32
    rows_QK: Int64


class Embedder(Protocol):
    """Anything that turns texts into vectors."""

    @property
    def dim(self) -> int:
        """Width of a vector."""
        ...

    def encode(self, texts: Sequence[str]) -> Float32:
        """Return (N, D) float32 unit rows, row i for texts[i]."""
        ...
