"""Expand mentions: abbreviations to their long forms, composites into their parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mirror_rt._count import counted
from mirror_rt.errors import ConfigError
from mirror_rt.knowledge.linking.exact import exact_matches, is_name
from mirror_rt.knowledge.text.abbreviations import SpelledPhrases, find_abbreviations
from mirror_rt.knowledge.text.composites import composite_parts

if TYPE_CHECKING:
    from mirror_rt.knowledge.linking.resources import LinkResources
    from mirror_rt.knowledge.retrieval.filters import FilterMask

__all__ = ["MOST_CHARACTERS", "expand_mentions"]

MOST_CHARACTERS = 1_024
"""A longer mention is cut off: names are shorter, and the search time grows with the length."""


def expand_mentions(
    resources: LinkResources,
    mentions: Sequence[str],
    *,
    document: str | Sequence[str] | None,
    split_composites: bool,
    mask: FilterMask | None = None,
) -> list[tuple[str, ...]]:
    """Return the texts to link for each mention: its long form, its parts, or the mention itself.

    A long form is defined in the document, or it is a phrase of the document that is a name and
    whose initials spell the mention. Only the first ``MOST_CHARACTERS`` characters of a mention
    are used.

    Raises:
        ConfigError: There is neither one document nor one for each mention.
    """
    if document is None:
        texts = [mention[:MOST_CHARACTERS] for mention in mentions]
    else:
        texts = _long_forms(resources, mentions, document, mask=mask)
    if not split_composites:
        return [(text,) for text in texts]
    return [
        (text,) if named else tuple(dict.fromkeys(composite_parts(text)))
        for text, named in zip(texts, is_name(resources, texts), strict=True)
    ]


def _long_forms(
    resources: LinkResources,
    mentions: Sequence[str],
    document: str | Sequence[str],
    *,
    mask: FilterMask | None,
) -> list[str]:
    """Return the long form of each mention in its document, or the mention itself."""
    if isinstance(document, str):
        document = [document] * len(mentions)
    if len(document) != len(mentions):
        raise ConfigError(
            f"give one document, or one for each of {counted(len(mentions), 'mention')}"
        )
    long_forms = {text: find_abbreviations(text) for text in dict.fromkeys(document)}
    undefined = [
        (mention.strip(), text)
        for mention, text in zip(mentions, document, strict=True)
        if text and mention.strip() not in long_forms[text]
    ]
    for (short, text), long in _spelled_out(resources, undefined, mask=mask).items():
        long_forms[text][short] = long
    return [
        long_forms[text].get(mention.strip(), mention)[:MOST_CHARACTERS]
        for mention, text in zip(mentions, document, strict=True)
    ]


def _spelled_out(
    resources: LinkResources, mentions: Sequence[tuple[str, str]], *, mask: FilterMask | None
) -> dict[tuple[str, str], str]:
    """Return the phrase of the document that each short mention stands for, if it is clear.

    Only phrases that are names of entities count. The most certain phrase wins, then the entity
    with the most phrases. If two are equal, the mention gets no phrase.

    Args:
        resources: The opened knowledge base.
        mentions: (mention, document).
        mask: The allowed entities; None for all.
    """
    if not mentions:
        return {}
    documents = {text: SpelledPhrases(text) for _, text in mentions}
    found = {
        (short, text): phrases
        for short, text in dict.fromkeys(mentions)
        if (phrases := documents[text].of(short))
    }
    texts = list({phrase: None for phrases in found.values() for phrase, _ in phrases})
    entities_of = {
        text: frozenset(match.entities)
        for text, match in zip(texts, exact_matches(resources, texts, mask=mask), strict=True)
        if len(match)
    }
    decided = {}
    for key, phrases in found.items():
        named = [(phrase, surely) for phrase, surely in phrases if phrase in entities_of]
        most = max((surely for _, surely in named), default=0)
        kept = [phrase for phrase, surely in named if surely == most]
        counts = Counter(entities_of[phrase] for phrase in kept).most_common(2)
        if counts and (len(counts) == 1 or counts[0][1] > counts[1][1]):
            decided[key] = next(phrase for phrase in kept if entities_of[phrase] == counts[0][0])
    return decided
