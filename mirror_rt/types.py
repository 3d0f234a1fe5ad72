"""The values that pass between the stages. Plain data; importing this imports nothing heavy.

Arrays carry their axes in their names: B texts of a batch, T tokens, D width, N items,
Q queries, K hits, R index rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from typing import TypeAlias

    import numpy as np
    import numpy.typing as npt

    Float32: TypeAlias = npt.NDArray[np.float32]
    Float16: TypeAlias = npt.NDArray[np.float16]
    Int32: TypeAlias = npt.NDArray[np.int32]
    Int64: TypeAlias = npt.NDArray[np.int64]

__all__ = [
    "Answer",
    "Candidate",
    "Embedder",
    "Entity",
    "Hits",
    "How",
    "IndexKind",
    "KbFormat",
    "Loss",
    "Name",
    "NameKind",
    "Nil",
    "Pairs",
    "Passage",
    "Pooling",
    "Precision",
    "Preset",
    "TokenBatch",
]


class Pooling(Enum):
    """How token states become one vector."""

    CLS = "cls"
    MEAN = "mean"


class Precision(Enum):
    """How a bundle's weights are stored and multiplied.

    ``FP16_WEIGHTS`` halves the file and multiplies in float32.
    """

    FP32 = "fp32"
    FP16_WEIGHTS = "fp16-weights"
    INT8 = "int8"


class Preset(Enum):
    """Settings by what is trained on: words, names, sentences as in the paper; synonyms as here.

    Synonyms are names of one entity, which bear a higher rate than a string and itself.
    """

    WORD = "word"
    NAME = "name"
    SENTENCE = "sentence"
    SYNONYMS = "synonyms"


class Pairs(Enum):
    """Where the positive pairs of contrastive training come from."""

    MIRROR = "mirror"
    SYNONYMS = "synonyms"
    FILE = "file"


class Loss(Enum):
    """What contrastive training minimises."""

    INFO_NCE = "info-nce"
    MULTI_SIMILARITY = "multi-similarity"


class NameKind(Enum):
    """What a name is to its entity (OBO synonym scopes, plus the preferred name)."""

    PREFERRED = "preferred"
    EXACT = "exact"
    BROAD = "broad"
    NARROW = "narrow"
    RELATED = "related"
    ABBREVIATION = "abbreviation"


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


class How(Enum):
    """How a candidate was found: the strictest step at which its name is the mention, or a door."""

    EXACT = "exact"
    CASE = "normalised-case"
    PUNCTUATION = "normalised-punctuation"
    PLURAL = "normalised-plural"
    ACCENTS = "normalised-accents"
    WORD_ORDER = "normalised-word-order"
    LETTERS = "letters"
    DENSE = "dense"


class IndexKind(Enum):
    """How the nearest vectors of a knowledge base are found."""

    AUTO = "auto"
    EXACT = "exact"
    HNSW = "hnsw"
    IVF_SQ8 = "ivf-sq8"
    IVF_PQ = "ivf-pq"
    RABITQ = "rabitq"


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
        description: A definition in words; empty when there is none.
        fields: What else is known, as pairs of field and value; a field may come again.
    """

    id: str
    names: tuple[Name, ...]
    types: tuple[str, ...] = ()
    alternative_ids: tuple[str, ...] = ()
    cross_references: tuple[str, ...] = ()
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
        fields: Metadata to filter by, as pairs of field and value; a field may come again.
    """

    id: str
    text: str
    title: str = ""
    fields: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One entity proposed for a mention, or one passage found for a query.

    Attributes:
        entity_id: The entity's id.
        name: Its preferred name.
        matched: The name of the entity that matched best.
        score: Cosine of the mention and ``matched``, in [-1, 1]; 1.0 for a match by name. Of a
            search by two doors ``0.8 × dense + 0.2 × letters``.
        probability: Calibrated probability of being right, or None where none was fitted.
        how: Which door found it.
        tied: Whether the name alone cannot decide: another entity matches as well.
        read_as: What the mention was read as, where an abbreviation was written out or a
            composite split; empty where it was taken as it stands.
        context: Cosine of the mention's context and the entity's description, where it decided
            the order among close candidates; None where the names did.
        dense: Cosine of the query and ``matched``; None but for a search by two doors.
        letters: Trigram cosine of the two; None but for such a search.
        passage: The passage itself, where the store holds passages.
    """

    entity_id: str
    name: str
    matched: str
    score: float
    probability: float | None = None
    how: How = How.DENSE
    tied: bool = False
    read_as: str = ""
    context: float | None = None
    dense: float | None = None
    letters: float | None = None
    passage: Passage | None = None


class Nil(Enum):
    """Why a text has no candidate."""

    EMPTY = "empty"
    PUNCTUATION = "only punctuation"
    THRESHOLD = "below threshold"
    FILTER = "filtered out"


class Answer(list[Candidate]):
    """The candidates of one text, best first: a list that knows why it is empty.

    Attributes:
        reason: Why there is no candidate (NIL); None where there is one. ``FILTER`` means that
            the text is a name, but of entities that a filter leaves out, and that what is left
            is below the threshold. A mention read as several may have a reason beside the
            candidates of its other parts.
    """

    __slots__ = ("reason",)

    def __init__(self, candidates: Iterable[Candidate] = (), *, reason: Nil | None = None) -> None:
        super().__init__(candidates)
        self.reason = reason


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
