"""What linking needs of an opened knowledge base, and what a caller may ask of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mirror_rt.errors import ConfigError
from mirror_rt.knowledge.entities.names import NameArrays
from mirror_rt.knowledge.entities.reader import Catalogue
from mirror_rt.knowledge.ranking.reranker import Reranker
from mirror_rt.knowledge.ranking.translation import TranslationTable
from mirror_rt.knowledge.retrieval.candidates import Retrievers
from mirror_rt.knowledge.retrieval.filters import FilterMask, compile_filter, parse_filters

if TYPE_CHECKING:
    from typing import TypeAlias

    from mirror_rt.knowledge.retrieval.filters import Conditions, Filters
    from mirror_rt.types import Float32

    Encode: TypeAlias = Callable[[Sequence[str]], Float32]

__all__ = ["REVIEW_BELOW", "LinkOptions", "LinkResources", "MaskCache"]

REVIEW_BELOW = 0.5
"""A link that is more likely wrong than right is for review where nobody says what is."""
_MASKS_KEPT = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkOptions:
    """What a caller asks of a link.

    Attributes:
        top: Entities at most for a mention that is no exact match; all that are tied with the
            best one are returned, so ``top`` does not decide whether a mention is linked.
        target_precision: Mentions are for review unless their best candidate has the probability
            at which links were right this often, on the links that the probabilities came from,
            and no other is tied with it.
        wrong_at_most: Mentions are for review unless their best candidate has the probability
            above which, with a chance of 95 %, no more than this share of links is wrong.
        review_below: Mentions are for review below this probability too, or if tied. None stands
            for ``REVIEW_BELOW`` where no other threshold is given, else for 0.
        min_probability: Link only mentions whose best candidate has this probability. It is asked
            of a mention that is a name once a calibration has measured how often that is right.
        filters: Propose only entities that meet these conditions; see ``retrieval.filters``.
        split_composites: Whether to split a mention that is no name at "and", "or" and commas.
    """

    top: int = 5
    target_precision: float | None = None
    wrong_at_most: float | None = None
    review_below: float | None = None
    min_probability: float = 0.0
    filters: Filters | None = None
    split_composites: bool = False

    def thresholds(self, reranker: Reranker) -> tuple[float, float]:
        """Return the probability below which a mention, and an exact match, is for review.

        Raises:
            ConfigError: ``top`` is not positive, or a probability, precision or share is out of
                range or was not reached.
        """
        if self.top < 1:
            raise ConfigError(f"top must be at least 1, got {self.top}")
        for name in ("min_probability", "review_below"):
            given = getattr(self, name)
            if given is not None and not 0.0 <= given <= 1.0:
                raise ConfigError(f"{name} must be between 0 and 1, got {given}")
        least = self._review_below
        if self.wrong_at_most is not None:
            least = max(least, reranker.safe_threshold(self.wrong_at_most))
        if self.target_precision is None:
            return least, least
        wanted = max(least, reranker.threshold(self.target_precision))
        return wanted, wanted if reranker.scores_exact_matches else least

    def least(self, reranker: Reranker) -> tuple[float, float]:
        """Return the probability below which a mention, and an exact match, is NIL."""
        return self.min_probability, self.min_probability if reranker.scores_exact_matches else 0.0

    @property
    def reviews(self) -> bool:
        """Whether some mentions are to be for review."""
        wanted = self.target_precision is not None or self.wrong_at_most is not None
        return wanted or self._review_below > 0.0

    @property
    def _review_below(self) -> float:
        if self.review_below is not None:
            return self.review_below
        wanted = self.target_precision is not None or self.wrong_at_most is not None
        return 0.0 if wanted or self.min_probability else REVIEW_BELOW


class MaskCache:
    """Filters compiled lately. Safe to share between threads."""

    def __init__(self, catalogue: Catalogue, *, rows: int, path: Path) -> None:
        self._catalogue = catalogue
        self._rows = rows
        self._path = path
        self._masks: dict[Conditions, FilterMask] = {}

    def get(self, filters: Filters | None) -> FilterMask | None:
        """Return the mask of filters; None where there are none.

        Raises:
            ConfigError: No entity meets them, or one has a field or value that no entity has.
        """
        conditions = parse_filters(filters)
        if not conditions:
            return None
        found = self._masks.get(conditions)
        if found is None:
            found = compile_filter(conditions, self._catalogue, rows=self._rows, path=self._path)
            if len(self._masks) >= _MASKS_KEPT:
                self._masks.clear()
            self._masks[conditions] = found
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkResources:
    """The parts of an opened knowledge base that linking reads. It holds no encoder.

    Attributes:
        path: The folder, for messages.
        entities: How many entities there are.
        catalogue: Entities and the strings of names.
        retrievers: What finds candidates.
        translation: Which words stand for each other.
        reranker: What scores candidates.
        masks: Filters compiled lately.
        entity_vectors: Vectors of entities that a context was compared with, by number.
    """

    path: Path
    entities: int
    catalogue: Catalogue
    retrievers: Retrievers
    translation: TranslationTable
    reranker: Reranker
    masks: MaskCache
    entity_vectors: dict[int, Float32] = field(default_factory=dict)

    @property
    def names(self) -> NameArrays:
        """The arrays of names."""
        return self.retrievers.names
