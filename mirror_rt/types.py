"""The values that pass between the stages. Plain data; importing this imports nothing heavy.

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
    """Settings by what is trained on: words, names, sentences as in the paper.

    ``SYNONYMS`` trains on names of one entity, at a higher rate. ``LINKING`` also mines hard
    negatives and keeps a share of the base: for an encoder that serves one knowledge base.
    """

    WORD = "word"
    NAME = "name"
    SENTENCE = "sentence"
    SYNONYMS = "synonyms"
    LINKING = "linking"


class PairSource(Enum):
    """Where the positive pairs of contrastive training come from."""

    MIRROR = "mirror"
    SYNONYMS = "synonyms"
    FILE = "file"


class Loss(Enum):
    """What contrastive training minimises."""

    INFO_NCE = "info-nce"
    MULTI_SIMILARITY = "multi-similarity"


class NameKind(Enum):
    """What a name is to its entity (OBO synonym scopes, plus the preferred name).

    ``ACCEPTED``: a mention of it that a person has accepted.
    """

    PREFERRED = "preferred"
    EXACT = "exact"
    BROAD = "broad"
    NARROW = "narrow"
    RELATED = "related"
    ABBREVIATION = "abbreviation"
    ACCEPTED = "accepted"


class KbFormat(Enum):
    """The formats a knowledge base can be read from; see ``mirror_rt.knowledge.formats``."""

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
    """How a candidate's name matches.

    The strictest level at which it is the mention, or the retriever that found it: ``LEXICAL`` or
    ``DENSE``.
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
        """Whether the mention is the name, but for case, punctuation and spaces."""
        return self in {MatchType.EXACT, MatchType.CASE, MatchType.PUNCTUATION}


class Relation(str, Enum):
    """What an entity is to what its matched name means, by the scope of that name.

    A broad synonym means more than its entity: the entity is ``NARROWER``.
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
    """Why a text has no candidate (NIL, as TAC-KBP calls it)."""

    EMPTY = "empty"
    PUNCTUATION = "punctuation"
    BELOW_THRESHOLD = "below_threshold"
    FILTERED_OUT = "filtered_out"

    __str__ = str.__str__


class LinkStatus(str, Enum):
    """What becomes of a mention.

    ``LINKED``: it has a candidate, which has the precision that was wanted. ``REVIEW``: it has
    candidates, but not the precision, for a person to decide. ``NIL``: it has none.
    """

    LINKED = "linked"
    REVIEW = "review"
    NIL = "nil"

    __str__ = str.__str__


class IndexKind(Enum):
    """How the nearest vectors of a knowledge base are found; see ``retrieval.vector_index``."""

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
    """A thing that names point to.

    Readers may yield one entity in several pieces (a row each); pieces with the same id are
    the same entity, and their names, types and references are joined in the order read.

    Attributes:
        id: The identifier in its knowledge base.
        names: At least one name; the first ``PREFERRED`` one is *the* name, else the first.
        types: Semantic types or classes.
        alternative_ids: Other ids that mean the same entity (merged or obsolete ones).
        cross_references: Ids of the same thing elsewhere.
        parents: Ids of the broader things that it is a kind of, here or elsewhere.
        description: A definition in words; empty when there is none.
        fields: Further columns of the input, as pairs of field and value; a field may come again.
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
        """Every name but the preferred one, in the order read, each once."""
        return tuple(dict.fromkeys(n.text for n in self.names if n.text != self.name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A text to be found by what it says.

    Attributes:
        id: Its identifier.
        text: The text.
        title: Its title, which it can be found by too; empty where it has none.
        metadata: Fields to filter by, as pairs of field and value; a field may come again.
    """

    id: str
    text: str
    title: str = ""
    metadata: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One entity proposed for a mention, or one entity or passage found for a query.

    Attributes:
        entity_id: The entity's id.
        entity_name: Its preferred name.
        matched_name: The name of the entity that matched best.
        match_type: How that name matches.
        relation: What the entity is to that name: exact, or broader, narrower or related where
            it is a synonym of another scope. None of a passage.
        score: Cosine of the mention and ``matched_name``, in [-1, 1]; 1.0 for an exact match. Of
            a hybrid search ``0.8 × dense_score + 0.2 × lexical_score``.
        probability: Calibrated probability of being right, or None where none was fitted.
        tied: Whether the name alone cannot decide: another entity matches as well.
        expanded_form: The long form of an abbreviation, or the part of a composite mention, that
            was matched; empty where the mention was matched as it stands.
        context_score: Cosine of the mention's context and the entity's description, where it
            decided the order among close candidates; None elsewhere.
        dense_score: Cosine of the query's and the name's vectors; only of a hybrid search.
        lexical_score: Cosine of their character trigrams; only of a hybrid search.
        passage: The passage itself, where the knowledge base holds passages.
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
        """Return the fields as the commands print them: numbers rounded to four places.

        Of a passage its ``title`` and ``text`` stand in place of an entity's name. Scores that
        were not computed are left out.
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
    """Candidates, best first: a sequence of them that knows why it is empty."""

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
    """The entities that a mention may mean, best first.

    Attributes:
        mention: The mention as it was given.
        candidates: The candidates; the object is a sequence of them.
        nil_reason: Why there is no candidate (NIL); None where there is one. ``FILTERED_OUT``
            means that the mention is a name, but of entities that a filter leaves out, and that
            what is left is below the threshold. A mention split into parts may have a reason
            beside the candidates of its other parts.
        below_precision: Whether the best candidate, or that of a part, is for review: its
            probability is too low for what was wanted, by default for one half, or another entity
            is tied with it.
    """

    mention: str
    below_precision: bool = False

    @property
    def status(self) -> LinkStatus:
        """What becomes of the mention."""
        if not self.candidates:
            return LinkStatus.NIL
        return LinkStatus.REVIEW if self.below_precision else LinkStatus.LINKED

    def to_dict(self) -> dict[str, object]:
        """Return the result as ``mirror-rt link`` prints it in JSON."""
        record = self._to_dict("mention", self.mention)
        return {"mention": record.pop("mention"), "status": self.status.value, **record}


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult(_Candidates):
    """The entities or passages found for a query, best first.

    Attributes:
        query: The query as it was given.
        candidates: What was found; the object is a sequence of it.
        nil_reason: Why nothing was found; None where something was.
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
        rows_QK: (Q, K) int64 row numbers, -1 where there were fewer than K.
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
