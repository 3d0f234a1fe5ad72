"""Link mentions: each batch of texts passes every stage once.

mentions → expand → exact match → retrieve → candidates → features → rerank → context → threshold
→ results. Stages pass arrays and entity numbers; only results are converted to strings.

Axes: Q texts, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import numpy as np

from mirror_rt._count import counted
from mirror_rt.encodings import lone_surrogate
from mirror_rt.errors import ConfigError, InputError
from mirror_rt.knowledge.arrays import hash_text
from mirror_rt.knowledge.entities.names import KINDS
from mirror_rt.knowledge.linking.context import rerank_by_context
from mirror_rt.knowledge.linking.exact import exact_matches
from mirror_rt.knowledge.linking.expansion import MOST_CHARACTERS, expand_mentions
from mirror_rt.knowledge.linking.proposals import CONSIDERED, Proposal, dense_rows, propose
from mirror_rt.knowledge.linking.resources import LinkOptions, LinkResources
from mirror_rt.knowledge.retrieval.candidates import lexical_matches
from mirror_rt.knowledge.retrieval.filters import FilterMask
from mirror_rt.knowledge.text.match_levels import (
    match_level,
    may_match_beyond_key,
    token_bag_key,
)
from mirror_rt.knowledge.text.normalize import normalize
from mirror_rt.types import Candidate, LinkResult, MatchType, NilReason, Relation

if TYPE_CHECKING:
    from mirror_rt.knowledge.linking.resources import Background, Encode
    from mirror_rt.types import Float32, Int64

__all__ = [
    "ProposeBatch",
    "batches_ahead",
    "candidates_of",
    "check_contexts",
    "check_strings",
    "link",
    "propose_here",
]

ProposeBatch: TypeAlias = Callable[
    [LinkResources, Sequence[str], "Float32", "Int64", int, "FilterMask | None"], list[Proposal]
]
"""Proposes entities for texts without exact match: in this process, or in others."""

WorkT = TypeVar("WorkT")

_AT_ONCE = 512
_SMALL = 128
_FEW = 8
"""For so few texts, the lexical retrievers run beside the model."""
_RELATIONS = [Relation.of(kind) for kind in KINDS]
_ROUNDING = 1e-9
"""Probabilities that differ by less than this are equal: three times 1/3 is not exactly 1."""


def check_strings(texts: Sequence[str]) -> None:
    """Check that texts are a list of strings.

    Raises:
        ConfigError: ``texts`` is one string.
        InputError: A text is not a string or contains a lone surrogate; the message gives its
            position.
    """
    if isinstance(texts, str):  # a string is itself a sequence of strings
        raise ConfigError(f"give a list of strings, as in [{texts[:40]!r}], not one string")
    for i, text in enumerate(texts):
        if not isinstance(text, str):  # such as None from an empty cell of a table
            raise InputError(f"text {i + 1}: is {text!r}, not a string; give '' for nothing")
        if lone_surrogate(text) is not None:
            raise InputError(f"text {i + 1}: holds a lone surrogate; it is not valid text")


def check_contexts(contexts: Sequence[str], mentions: Sequence[str]) -> None:
    """Check that there is a valid context for each mention.

    Raises:
        ConfigError: The number of contexts differs from the number of mentions.
        InputError: A context contains a lone surrogate.
    """
    if isinstance(contexts, str) or len(contexts) != len(mentions):
        raise ConfigError(
            f"give a context for each of {counted(len(mentions), 'mention')}, "
            "empty where there is none"
        )
    for i, text in enumerate(contexts):
        if lone_surrogate(text) is not None:
            raise InputError(f"context {i + 1}: holds a lone surrogate; it is not valid text")


def link(
    resources: LinkResources,
    mentions: Sequence[str],
    encode: Encode,
    options: LinkOptions,
    *,
    document: str | Sequence[str] | None = None,
    contexts: Sequence[str] | None = None,
    propose_batch: ProposeBatch | None = None,
) -> list[LinkResult]:
    """Link mentions; see ``KnowledgeBase.link``.

    Args:
        resources: The opened knowledge base.
        mentions: The mentions.
        encode: Embeds texts: (N, D) float32 unit rows.
        options: The options of the call.
        document: The text that the mentions come from, or one text for each mention.
        contexts: The text around each mention, or None.
        propose_batch: Proposes entities for texts without exact match; by default in this
            process.
    """
    check_strings(mentions)
    if contexts is not None:
        check_contexts(contexts, mentions)
    review_below, review_if_exact = options.review_thresholds(resources.reranker)
    nil_below, nil_if_exact = options.nil_thresholds(resources.reranker)
    mask = resources.masks.get(options.filters)
    expanded = expand_mentions(
        resources,
        mentions,
        document=document,
        split_composites=options.split_composites,
        mask=mask,
    )
    around = contexts if contexts is not None else [""] * len(mentions)
    # Each distinct part of a mention, together with its context, is linked once.
    parts = [
        [(text, context if context.strip() else "") for text in texts]
        for texts, context in zip(expanded, around, strict=True)
    ]
    distinct = list(dict.fromkeys(part for own_parts in parts for part in own_parts))
    linked: dict[tuple[str, str], tuple[Proposal, NilReason | None]] = {}
    for_review = set[tuple[str, str]]()
    for with_context in (False, True):
        some = [part for part in distinct if bool(part[1]) is with_context]
        if not some:
            continue
        # A context chooses among the best ``CONSIDERED``, even if ``top`` is smaller.
        top = max(options.top, CONSIDERED) if with_context else options.top
        for part, proposal, confidence in _propose_in_context(
            resources, some, encode, top=top, mask=mask, propose_batch=propose_batch
        ):
            # A name that came after the decision counts more than the decision.
            named = resources.nil.get(normalize(part[0])) if resources.nil else None
            if named is not None and (named or not proposal.exact):
                linked[part] = Proposal(), NilReason.DECIDED
                continue
            if not len(proposal) or confidence < (nil_if_exact if proposal.exact else nil_below):
                linked[part] = Proposal(), _nil_reason(resources, part[0], mask)
                continue
            linked[part] = (proposal if proposal.exact else proposal.top(options.top)), None
            tied = proposal.tied[0] and all(score is None for score in proposal.context_scores)
            if options.has_review_threshold and (
                tied or confidence < (review_if_exact if proposal.exact else review_below)
            ):
                for_review.add(part)
    found = dict(
        zip(
            linked,
            candidates_of(resources, [text for text, _ in linked], [p for p, _ in linked.values()]),
            strict=True,
        )
    )
    return [
        _result(
            mention,
            [(part[0], found[part], linked[part][1]) for part in own_parts],
            for_review=not for_review.isdisjoint(own_parts),
            reviews=options.has_review_threshold,
        )
        for mention, own_parts in zip(mentions, parts, strict=True)
    ]


def _propose_in_context(
    resources: LinkResources,
    parts: Sequence[tuple[str, str]],
    encode: Encode,
    *,
    top: int,
    mask: FilterMask | None,
    propose_batch: ProposeBatch | None,
) -> Iterator[tuple[tuple[str, str], Proposal, float]]:
    """Yield each (text, context), its proposal after the context, and its confidence."""
    texts = list(dict.fromkeys(text for text, _ in parts))
    found = _propose_all(resources, texts, encode, top=top, mask=mask, propose_batch=propose_batch)
    proposed = dict(zip(texts, found, strict=True))
    ordered = rerank_by_context(
        resources, [proposed[text] for text, _ in parts], [c for _, c in parts], encode
    )
    for part, proposal in zip(parts, ordered, strict=True):
        # The confidence is from before the context: a context does not decide whether to link.
        yield part, proposal, proposed[part[0]].confidence + _ROUNDING


def _result(
    mention: str,
    parts: Sequence[tuple[str, tuple[Candidate, ...], NilReason | None]],
    *,
    for_review: bool,
    reviews: bool,
) -> LinkResult:
    candidates: list[Candidate] = []
    for text, found, _ in parts:
        same = text == mention[:MOST_CHARACTERS]
        candidates += found if same else [replace(c, expanded_form=text) for c in found]
    # A composite gets a reason even if other parts have candidates.
    reasons = [reason for _, _, reason in parts if reason]
    return LinkResult(
        mention=mention,
        candidates=tuple(candidates),
        nil_reason=next(iter(reasons), None),
        needs_review=for_review or (reviews and any(r is not NilReason.DECIDED for r in reasons)),
    )


def _nil_reason(resources: LinkResources, text: str, mask: FilterMask | None) -> NilReason:
    if not normalize(text):
        return NilReason.PUNCTUATION if text.strip() else NilReason.EMPTY
    if mask is not None and len(exact_matches(resources, [text])[0]):
        return NilReason.FILTERED_OUT
    return NilReason.BELOW_THRESHOLD


def _propose_all(
    resources: LinkResources,
    texts: Sequence[str],
    encode: Encode,
    *,
    top: int,
    mask: FilterMask | None,
    propose_batch: ProposeBatch | None,
) -> list[Proposal]:
    """Propose entities for each text: exact matches, or else candidates of the retrievers."""
    found = exact_matches(resources, texts, mask=mask)
    unknown = [i for i, text in enumerate(texts) if not len(found[i]) and normalize(text)]
    stripped = [texts[i].strip() for i in unknown]
    beside = resources.background
    if beside is not None and propose_batch is None and 0 < len(unknown) <= _FEW:
        for i, proposal in zip(
            unknown,
            _propose_few(resources, stripped, encode, beside, top=top, mask=mask),
            strict=True,
        ):
            found[i] = proposal
        return found

    def retrieve(some: Sequence[str]) -> tuple[Float32, Int64]:
        # A vector depends on its batch by 1e-8. So batches of the encoder are the same with and
        # without workers.
        starts = range(0, len(some), _SMALL)
        vectors_QD = np.concatenate([encode(some[start : start + _SMALL]) for start in starts])
        return vectors_QD, dense_rows(resources, vectors_QD, mask=mask)

    # Workers share large batches. In one process, small ones keep both cores busy from the first.
    size = _SMALL if propose_batch is None else _AT_ONCE
    for start, some, (vectors_QD, dense_QK) in batches_ahead(stripped, retrieve, size=size):
        proposals = (propose_batch or propose_here)(
            resources, some, vectors_QD, dense_QK, top, mask
        )
        for i, proposal in zip(unknown[start : start + len(some)], proposals, strict=True):
            found[i] = proposal
    return found


def _propose_few(
    resources: LinkResources,
    texts: Sequence[str],
    encode: Encode,
    background: Background,
    *,
    top: int,
    mask: FilterMask | None,
) -> list[Proposal]:
    """Propose entities for a few texts; the lexical retrievers run while the model computes."""
    pending = background.submit(lexical_matches, texts, resources.retrievers, mask=mask)
    vectors_QD = encode(texts)
    dense_QK = dense_rows(resources, vectors_QD, mask=mask)
    return propose(
        resources, texts, vectors_QD, dense_QK, top=top, mask=mask, lexical=pending.result()
    )


def propose_here(
    resources: LinkResources,
    texts: Sequence[str],
    vectors_QD: Float32,
    dense_QK: Int64,
    top: int,
    mask: FilterMask | None,
) -> list[Proposal]:
    """Propose entities in this process."""
    return propose(resources, texts, vectors_QD, dense_QK, top=top, mask=mask)


def batches_ahead(
    texts: Sequence[str], work: Callable[[Sequence[str]], WorkT], *, size: int = _AT_ONCE
) -> Iterator[tuple[int, Sequence[str], WorkT]]:
    """Yield (position of the first text, texts, ``work(texts)``), batch by batch.

    The work on the next batch runs in a thread while the caller works on this one. That pays for
    the encoder and the index, which compute without Python's lock.
    """
    starts = range(0, len(texts), size)
    if len(starts) <= 1:
        if texts:
            yield 0, texts, work(texts)
        return
    with ThreadPoolExecutor(1) as ahead:
        pending = ahead.submit(work, texts[:size])
        for start in starts:
            done = pending.result()
            following = texts[start + size : start + 2 * size]
            if following:
                pending = ahead.submit(work, following)
            yield start, texts[start : start + size], done


def candidates_of(
    resources: LinkResources, texts: Sequence[str], proposals: Sequence[Proposal]
) -> list[tuple[Candidate, ...]]:
    """Look up the strings of proposals.

    Args:
        resources: The knowledge base.
        texts: The linked texts.
        proposals: The proposal for each text.
    """
    strings = {
        row: text
        for proposal in proposals
        for row, text in zip(proposal.rows, proposal.matched_names, strict=False)
    }
    strings |= resources.catalogue.texts_of(
        row for p in proposals if not p.matched_names for row in p.rows
    )
    headings = resources.catalogue.ids_and_names(e for p in proposals for e in p.entities)
    names = resources.names
    same_key = set[tuple[int, int]]()
    fuzzy = [i for i, proposal in enumerate(proposals) if not proposal.exact and len(proposal)]
    if fuzzy:
        keys = [hash_text(token_bag_key(normalize(texts[i]))) for i in fuzzy]
        same_key = {
            (i, row)
            for i, key in zip(fuzzy, keys, strict=True)
            for row in proposals[i].rows
            if names.key_hashes[row] == key
        }
    results = []
    for i, (text, proposal) in enumerate(zip(texts, proposals, strict=True)):
        found = []
        contexts = proposal.context_scores or [None] * len(proposal)
        for k, entity in enumerate(proposal.entities):
            row = proposal.rows[k]
            match_type: MatchType | None = proposal.match_types[k]
            # The comparison is slow, and names with other keys match at no level.
            if not proposal.exact and (
                (i, row) in same_key or may_match_beyond_key(text, strings[row])
            ):
                match_type = match_level(text.strip(), strings[row]) or match_type
            found.append(
                Candidate(
                    entity_id=headings[entity][0],
                    entity_name=headings[entity][1],
                    matched_name=strings[row],
                    match_type=match_type or MatchType.DENSE,
                    relation=_RELATIONS[proposal.kinds[k]],
                    score=proposal.scores[k],
                    probability=proposal.probabilities[k] if proposal.probabilities else None,
                    tied=proposal.tied[k],
                    context_score=contexts[k],
                )
            )
        results.append(tuple(found))
    return results
