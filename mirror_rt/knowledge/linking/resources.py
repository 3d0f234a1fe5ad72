"""The resources of an opened knowledge base, and the options of a call of ``link``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from mirror_rt.errors import ConfigError
from mirror_rt.knowledge.entities.names import NameArrays
from mirror_rt.knowledge.entities.reader import Catalogue
from mirror_rt.knowledge.ranking.reranker import Reranker
from mirror_rt.knowledge.ranking.translation import TranslationTable
from mirror_rt.knowledge.retrieval.candidates import Retrievers
from mirror_rt.knowledge.retrieval.filters import FilterMask, compile_filter, parse_filters
from mirror_rt.runtime.cores import available_cpus

if TYPE_CHECKING:
    from typing import TypeAlias

    from mirror_rt.knowledge.retrieval.filters import Conditions, Filters
    from mirror_rt.types import Float32

    Encode: TypeAlias = Callable[[Sequence[str]], Float32]

__all__ = ["REVIEW_BELOW", "Background", "LinkOptions", "LinkResources", "MaskCache"]

P = ParamSpec("P")
R = TypeVar("R")

REVIEW_BELOW = 0.5
"""The default of ``review_below``: a link that is more likely wrong than right is for review."""
_MASKS_KEPT = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkOptions:
    """The options of ``KnowledgeBase.link``, which describes them in full.

    Attributes:
        top: The maximum number of entities for a mention without exact match. Entities tied with
            the best one are always returned.
        target_precision: The wanted share of right links; below the probability that reaches it,
            mentions are for review.
        wrong_at_most: The tolerated share of wrong links, guaranteed with 95 % confidence; below
            its probability, mentions are for review.
        review_below: Mentions are also for review below this confidence (see
            ``types.LinkResult``), or if tied. None means ``REVIEW_BELOW``, or 0 if another
            threshold is given.
        min_probability: Mentions are NIL below this confidence. It applies to exact matches only
            if thresholds come from gold links (``Reranker.has_gold_thresholds``): feedback alone
            does not tell how often exact matches are right.
        filters: Propose only entities that meet these conditions; see ``retrieval.filters``.
        split_composites: Whether to split a mention that is not a name at "and", "or" and commas.
    """

    top: int = 5
    target_precision: float | None = None
    wrong_at_most: float | None = None
    review_below: float | None = None
    min_probability: float = 0.0
    filters: Filters | None = None
    split_composites: bool = False

    def review_thresholds(self, reranker: Reranker) -> tuple[float, float]:
        """Return two probabilities: below them, a mention or an exact match is for review.

        Raises:
            ConfigError: ``top`` is not positive; or a probability, precision or share is out of
                range or was not reached.
        """
        if self.top < 1:
            raise ConfigError(f"top: must be at least 1, got {self.top}")
        for name in ("min_probability", "review_below"):
            given = getattr(self, name)
            if given is not None and not 0.0 <= given <= 1.0:
                raise ConfigError(f"{name}: must be between 0 and 1, got {given}")
        least = self._review_below
        if self.wrong_at_most is not None:
            least = max(least, reranker.safe_threshold(self.wrong_at_most))
        if self.target_precision is None:
            return least, least
        precise = max(least, reranker.threshold(self.target_precision))
        return precise, precise if reranker.has_gold_thresholds else least

    def nil_thresholds(self, reranker: Reranker) -> tuple[float, float]:
        """Return two probabilities: below them, a mention or an exact match is NIL."""
        return self.min_probability, self.min_probability if reranker.has_gold_thresholds else 0.0

    @property
    def has_review_threshold(self) -> bool:
        """Whether mentions can be for review."""
        return self._has_guarantee or self._review_below > 0.0

    @property
    def _has_guarantee(self) -> bool:
        return self.target_precision is not None or self.wrong_at_most is not None

    @property
    def _review_below(self) -> float:
        if self.review_below is not None:
            return self.review_below
        return 0.0 if self._has_guarantee or self.min_probability else REVIEW_BELOW


class MaskCache:
    """A cache of compiled filters. Safe to share between threads."""

    def __init__(self, catalogue: Catalogue, *, rows: int, path: Path) -> None:
        self._catalogue = catalogue
        self._rows = rows
        self._path = path
        self._masks: dict[Conditions, FilterMask] = {}

    def get(self, filters: Filters | None) -> FilterMask | None:
        """Return the mask of filters; None if there are no filters.

        Raises:
            ConfigError: No entity meets them, or a field or value does not occur.
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


class Background:
    """Threads that run a step beside the caller. Safe to share between threads.

    They start when they are first needed and stay: a new thread for each call would also need
    new scratch memory.
    """

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._process = -1

    def submit(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Start ``work`` in a thread; do it here if the interpreter is shutting down."""
        pool = self._pool
        if pool is None or self._process != os.getpid():  # a fork has none of the threads
            pool = self._pool = ThreadPoolExecutor(available_cpus(), "mirror-rt-link")
            self._process = os.getpid()
        try:
            return pool.submit(work, *args, **kwargs)
        except RuntimeError:  # no new threads after the end of the main thread
            done: Future[R] = Future()
            done.set_result(work(*args, **kwargs))
            return done

    def close(self) -> None:
        """End the threads when they have done what they do now."""
        self._pool = None  # the threads of a pool without references end


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkResources:
    """The parts of an opened knowledge base that linking reads. They include no encoder.

    Attributes:
        path: The folder, for messages.
        entities: The number of entities.
        catalogue: The entities and their names.
        retrievers: The retrievers of candidates.
        translation: The translation table of words.
        reranker: The reranker.
        masks: A cache of compiled filters.
        nil: The normalized mentions that were decided to be NIL, and whether each was a name then.
        entity_vectors: A cache of entity vectors for contexts, by entity number.
        background: Threads for steps that run beside others; None if several threads link.
    """

    path: Path
    entities: int
    catalogue: Catalogue
    retrievers: Retrievers
    translation: TranslationTable
    reranker: Reranker
    masks: MaskCache
    nil: Mapping[str, bool] = field(default_factory=dict)
    entity_vectors: dict[int, Float32] = field(default_factory=dict)
    background: Background | None = field(default_factory=Background)

    def close(self) -> None:
        """Close the files and end the threads."""
        if self.background is not None:
            self.background.close()
        self.catalogue.close()

    @property
    def names(self) -> NameArrays:
        """The arrays of names."""
        return self.retrievers.names
