"""Answer many texts at once: read them, propose candidates, weigh contexts, say why there is none.

Axes: Q texts, D width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mirror_rt.errors import ConfigError, InputError, KnowledgeBaseError
from mirror_rt.knowledge import doors, linker
from mirror_rt.knowledge.context import CONSIDERED, by_context
from mirror_rt.knowledge.filters import Allowed
from mirror_rt.knowledge.hybrid import by_both
from mirror_rt.knowledge.mentions import abbreviations, composite_parts
from mirror_rt.knowledge.normalise import normalise
from mirror_rt.knowledge.passages import passage_of
from mirror_rt.knowledge.store import PASSAGES
from mirror_rt.textfiles import lone_surrogate
from mirror_rt.types import Answer, Candidate, Nil

if TYPE_CHECKING:
    from mirror_rt.knowledge.doors import Pool
    from mirror_rt.knowledge.knowledge_base import KnowledgeBase
    from mirror_rt.types import Float32, Int64

__all__ = [
    "check",
    "check_contexts",
    "check_names",
    "gathered",
    "judged",
    "link",
    "read_mentions",
    "search",
    "widening",
]

_AT_ONCE = 1_024
_ROUNDING = 1e-9
"""Probabilities no further apart are equal: a third three times is not quite the whole."""


def check_names(kb: KnowledgeBase) -> None:
    """Refuse passages where names are asked for.

    Raises:
        KnowledgeBaseError: The folder holds passages.
    """
    if kb.manifest.holds == PASSAGES:
        raise KnowledgeBaseError(f"{kb.path}: holds passages, not names; use search")


def check(texts: Sequence[str], top: int) -> None:
    """Refuse nonsense.

    Raises:
        ConfigError: ``top`` is not positive, or ``texts`` is one string.
        InputError: A text is no string or holds a lone surrogate; the message gives its place.
    """
    if top < 1:
        raise ConfigError(f"top must be at least 1, got {top}")
    if isinstance(texts, str):  # a string is a sequence of strings, a letter each
        raise ConfigError(f"give a list of strings, as in [{texts[:40]!r}], not one string")
    for i, text in enumerate(texts):
        if not isinstance(text, str):  # as of a table where a cell is missing
            raise InputError(f"text {i + 1}: is {text!r}, not a string; give '' for nothing")
        if lone_surrogate(text) is not None:
            raise InputError(f"text {i + 1}: holds a lone surrogate; it is not valid text")


def check_contexts(contexts: Sequence[str], mentions: Sequence[str]) -> None:
    """Refuse contexts that do not fit the mentions.

    Raises:
        ConfigError: There are not as many of them.
        InputError: One holds a lone surrogate.
    """
    if isinstance(contexts, str) or len(contexts) != len(mentions):
        raise ConfigError(
            f"give a context for each of the {len(mentions):,} mentions, empty where there is none"
        )
    for i, text in enumerate(contexts):
        if lone_surrogate(text) is not None:
            raise InputError(f"context {i + 1}: holds a lone surrogate; it is not valid text")


def read_mentions(
    kb: KnowledgeBase,
    mentions: Sequence[str],
    *,
    document: str | Sequence[str] | None,
    composites: bool,
) -> list[tuple[str, ...]]:
    """Return what each mention is read as: its long form, its parts, or itself.

    Raises:
        ConfigError: There is not one document, or one for each mention.
    """
    if document is None or isinstance(document, str):
        document = [document or ""] * len(mentions)
    if len(document) != len(mentions):
        raise ConfigError(f"give one document, or one for each of the {len(mentions):,} mentions")
    defined_in = {text: abbreviations(text) for text in dict.fromkeys(document)}
    readings: list[tuple[str, ...]] = []
    for mention, text in zip(mentions, document, strict=True):
        defined = defined_in[text]
        read = defined.get(mention.strip(), mention)
        named = not composites or kb.catalogue.by_name(normalise(read))
        readings.append((read,) if named else tuple(dict.fromkeys(composite_parts(read))))
    return readings


def link(
    kb: KnowledgeBase,
    mentions: Sequence[str],
    readings: Sequence[Sequence[str]],
    contexts: Sequence[str] | None,
    *,
    top: int,
    least: float,
    least_by_name: float,
    allowed: Allowed | None,
) -> list[Answer]:
    """Answer mentions as ``KnowledgeBase.link`` says.

    Args:
        kb: The knowledge base.
        mentions: The mentions.
        readings: What each of them is read as.
        contexts: The context of each, or None.
        top: How many candidates.
        least: The probability below which a part links to nothing.
        least_by_name: The same of a part that is a name.
        allowed: Who may be proposed.
    """
    given = contexts if contexts is not None else [""] * len(mentions)
    # A part of a mention as it is read, with the context of the mention if it has one.
    asked = [
        [(part, context if context.strip() else "") for part in reading]
        for reading, context in zip(readings, given, strict=True)
    ]
    answers: dict[tuple[str, str], Answer] = {}
    distinct = dict.fromkeys(one for mine in asked for one in mine)
    for wide, some in (
        (top, [one for one in distinct if not one[1]]),
        (max(top, CONSIDERED), [one for one in distinct if one[1]]),
    ):
        texts = list(dict.fromkeys(text for text, _ in some))
        proposed = _propose(kb, texts, top=wide, allowed=allowed)
        ordered = by_context(kb, [proposed[text] for text, _ in some], [c for _, c in some])
        for (text, context), found in zip(some, ordered, strict=True):
            # Asked before a context decides: it chooses between candidates, not whether to link.
            wanted = least_by_name if linker.is_name(found) else least
            if not found or linker.confidence(proposed[text]) < wanted - _ROUNDING:
                answers[text, context] = Answer(reason=_reason(kb, text, allowed))
            else:
                answers[text, context] = Answer(
                    found if linker.is_name(found) else linker.within(found, top)
                )
    return [
        _joined(mention, [(one[0], answers[one]) for one in mine])
        for mention, mine in zip(mentions, asked, strict=True)
    ]


def _joined(mention: str, parts: Sequence[tuple[str, Answer]]) -> Answer:
    found: list[Candidate] = []
    for text, answer in parts:
        found += answer if text == mention else [replace(c, read_as=text) for c in answer]
    # Of a composite also where other parts have candidates: no part goes unnoticed.
    return Answer(found, reason=next((a.reason for _, a in parts if a.reason), None))


def _reason(kb: KnowledgeBase, text: str, allowed: Allowed | None) -> Nil:
    if not linker.has_content(text):
        return Nil.PUNCTUATION if text.strip() else Nil.EMPTY
    if allowed is not None and linker.by_name(text, kb.catalogue, kb.combination):
        return Nil.FILTER
    return Nil.THRESHOLD


def _propose(
    kb: KnowledgeBase, texts: Sequence[str], *, top: int, allowed: Allowed | None
) -> dict[str, list[Candidate]]:
    answers = {
        text: linker.by_name(text, kb.catalogue, kb.combination, allowed=allowed) for text in texts
    }
    unknown = [text for text, found in answers.items() if not found and linker.has_content(text)]
    for some, vectors_QD in _in_turn(kb, unknown):
        answers.update(
            zip(some, kb.judged(some, vectors_QD, top=top, allowed=allowed), strict=True)
        )
    return answers


def judged(
    kb: KnowledgeBase,
    texts: Sequence[str],
    vectors_QD: Float32,
    near_QK: Int64,
    *,
    top: int,
    allowed: Allowed | None,
) -> list[list[Candidate]]:
    """Judge texts that are no names as ``KnowledgeBase.judged`` says.

    Args:
        kb: The knowledge base.
        texts: Q texts.
        vectors_QD: (Q, D) float32 unit rows, their vectors.
        near_QK: (Q, K) int64 rows nearest to them, -1 where there are no more.
        top: How many entities at most for each.
        allowed: Who may be proposed.
    """
    answers: list[list[Candidate]] = []
    for text, _, pool in _pooled(kb, texts, vectors_QD, near_QK=near_QK, allowed=allowed):
        answers.append(
            linker.judge(text, pool, kb.catalogue, kb.combination, top=top, allowed=allowed)
        )
    short = [i for i, found in enumerate(answers) if len(found) < top]
    if not short:
        return answers
    pools = kb.gather(
        [texts[i] for i in short],
        vectors_QD[short],
        width=max(doors.WIDTH, 2 * top),
        allowed=allowed,
    )
    for i, pool in zip(short, pools, strict=True):
        mine = vectors_QD[i : i + 1]
        answers[i] = _further(kb, texts[i], mine, pool, answers[i], top=top, allowed=allowed)
    return answers


def gathered(
    kb: KnowledgeBase, texts: Sequence[str], *, allowed: Allowed | None = None
) -> Iterator[tuple[str, Float32, Pool]]:
    """Yield each text with its vector, (1, D) float32, and the names that might be meant.

    They are of as many entities as a context chooses among, if there are so many. How sure the
    best one is goes by its rivals, so they are the same however many candidates are asked for.

    Args:
        kb: The knowledge base.
        texts: What is asked.
        allowed: Who may be proposed.
    """
    for some, vectors_QD in _in_turn(kb, texts):
        yield from _pooled(kb, some, vectors_QD, allowed=allowed)


def _in_turn(kb: KnowledgeBase, texts: Sequence[str]) -> Iterator[tuple[Sequence[str], Float32]]:
    """Yield some of the texts at a time, with their vectors, (Q, D) float32."""
    for start in range(0, len(texts), _AT_ONCE):
        some = texts[start : start + _AT_ONCE]
        yield some, _encoded(kb, [text.strip() for text in some])


def _pooled(
    kb: KnowledgeBase,
    texts: Sequence[str],
    vectors_QD: Float32,
    *,
    near_QK: Int64 | None = None,
    allowed: Allowed | None,
) -> Iterator[tuple[str, Float32, Pool]]:
    there = kb.manifest.counts["entities"] if allowed is None else int(allowed.entities_E.sum())
    pools = kb.gather(texts, vectors_QD, near_QK=near_QK, allowed=allowed)
    for i, (text, pool) in enumerate(zip(texts, pools, strict=True)):
        vector_1D = vectors_QD[i : i + 1]
        # An entity of many names may fill the pool alone: gather until there are enough.
        for wide in widening(kb, text, vector_1D, pool, allowed=allowed):
            pool = wide
            if _entities(pool, allowed) >= min(CONSIDERED, there):
                break
        yield text, vector_1D, pool


def widening(
    kb: KnowledgeBase, text: str, vector_1D: Float32, pool: Pool, *, allowed: Allowed | None
) -> Iterator[Pool]:
    """Yield a pool, then ones of four times as many names each, until there are no more."""
    yield pool
    width = len(pool.rows_K)
    most = len(kb.index.vectors_ND) if allowed is None else len(allowed.rows_R)
    while width < most:
        width = min(max(4 * width, doors.WIDTH), most)
        yield kb.gather([text], vector_1D, width=width, allowed=allowed)[0]


def _further(
    kb: KnowledgeBase,
    text: str,
    vector_1D: Float32,
    pool: Pool,
    found: list[Candidate],
    *,
    top: int,
    allowed: Allowed | None,
) -> list[Candidate]:
    """Append candidates of a pool, or wider ones, until there are ``top``; those found stay."""
    more: list[Candidate] = []
    known = {c.entity_id for c in found}
    for wide in widening(kb, text, vector_1D, pool, allowed=allowed):
        judged = linker.judge(text, wide, kb.catalogue, kb.combination, top=top, allowed=allowed)
        more = [c for c in judged if c.entity_id not in known]
        if len(found) + len(more) >= top:
            break
    # Each is no more likely than any found before, and all together than what these leave.
    told = [c.probability or 0.0 for c in found]
    most = min([*told, max(1.0 - sum(told), 0.0) / max(len(more), 1)])
    return found + [replace(c, probability=min(c.probability or 0.0, most)) for c in more]


def _entities(pool: Pool, allowed: Allowed | None) -> int:
    held = {entity for text in pool.texts for entity in text.holders}
    return len(held) if allowed is None else sum(entity in allowed for entity in held)


def search(
    kb: KnowledgeBase,
    queries: Sequence[str],
    *,
    top: int,
    hybrid: bool,
    allowed: Allowed | None,
) -> list[Answer]:
    """Answer queries as ``KnowledgeBase.search`` says."""
    answers: dict[str, Answer] = {}
    for text in dict.fromkeys(queries):
        answers[text] = Answer(reason=Nil.PUNCTUATION if text.strip() else Nil.EMPTY)
    asked = [text for text in answers if linker.has_content(text)]
    for start in range(0, len(asked), _AT_ONCE):
        some = asked[start : start + _AT_ONCE]
        vectors_QD = _encoded(kb, [text.strip() for text in some])
        if hybrid:
            folded = [normalise(text) for text in some]
            found = by_both(
                folded, vectors_QD, kb.catalogue, kb.index, kb.ngrams, top=top, allowed=allowed
            )
        else:
            found = linker.by_vectors(vectors_QD, kb.catalogue, kb.index, top=top, allowed=allowed)
        if kb.manifest.holds == PASSAGES:
            found = [[_with_passage(kb, c) for c in mine] for mine in found]
        answers.update(zip(some, map(Answer, found), strict=True))
    return [Answer(answers[text], reason=answers[text].reason) for text in queries]


def _encoded(kb: KnowledgeBase, texts: Sequence[str]) -> Float32:
    from mirror_rt.runtime.encoder import Encoder

    encoder = kb.encoder
    if len(texts) == 1 and isinstance(encoder, Encoder):
        return encoder.encode(texts[0])[None]  # has no batch to lay out: a tenth of the time less
    return encoder.encode(texts)


def _with_passage(kb: KnowledgeBase, found: Candidate) -> Candidate:
    passage = passage_of(kb.catalogue, kb.catalogue.resolve(found.entity_id)[0])
    return replace(found, passage=passage, name=passage.title)
