"""Link a block of mentions: write its lines, and count the texts that were cut off."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mirror_rt.knowledge.linking.exact import is_name
from mirror_rt.knowledge.linking.expansion import MOST_CHARACTERS, expand_mentions
from mirror_rt.knowledge.linking.resources import LinkResources
from mirror_rt.knowledge.linking.results import (
    context_decided,
    to_json_line,
)

if TYPE_CHECKING:
    from mirror_rt.knowledge.linking.explain import Explanation
    from mirror_rt.types import Embedder, LinkResult

__all__ = ["LinkingBase", "link_block"]


class LinkingBase(Protocol):
    """The part of ``knowledge_base.KnowledgeBase`` that a job needs."""

    @property
    def path(self) -> Path:
        """The folder."""
        ...

    @property
    def resources(self) -> LinkResources:
        """The resources of linking."""
        ...

    @property
    def opened_encoder(self) -> Embedder | None:
        """The encoder, if it is open already."""
        ...

    @property
    def checksums(self) -> list[str]:
        """The sha256 of the manifest and of the reranker."""
        ...

    @property
    def opener(self) -> Callable[[], Callable[[int], LinkingBase]]:
        """Returns a picklable function that opens the folder with a number of threads."""
        ...

    @property
    def link(self) -> Callable[..., list[LinkResult]]:
        """Links mentions; see ``KnowledgeBase.link``."""
        ...

    @property
    def explain(self) -> Callable[..., list[Explanation]]:
        """Links and explains mentions; see ``KnowledgeBase.explain``."""
        ...


def link_block(
    kb: LinkingBase,
    columns: Mapping[str, list[str]],
    options: Mapping[str, Any],
    *,
    explain: bool = False,
) -> tuple[list[str], Counter[str]]:
    """Link a block; return its JSON lines and its counts."""
    mentions = columns["mention"]
    context, document = options.get("context"), options.get("document")
    contexts = columns["context"] if context is None else [context] * len(mentions)
    found: Sequence[LinkResult | Explanation] = (kb.explain if explain else kb.link)(
        mentions,
        contexts=contexts if any(contexts) else None,
        document=columns["document"] if document is None else document,
        **{name: value for name, value in options.items() if name not in {"context", "document"}},
    )
    records = [result.to_dict() for result in found]
    compared = [text for text, one in zip(contexts, records, strict=True) if context_decided(one)]
    counts = _count_truncated(kb, columns, options, contexts=compared, explain=explain)
    return [to_json_line(one) for one in records], counts


def _count_truncated(
    kb: LinkingBase,
    columns: Mapping[str, Sequence[str]],
    options: Mapping[str, Any],
    *,
    contexts: Sequence[str],
    explain: bool,
) -> Counter[str]:
    """Count the mentions and the compared contexts that were cut off.

    Args:
        kb: The knowledge base.
        columns: The columns of a block.
        options: The options of the link.
        contexts: The contexts.
        explain: Whether exact matches were embedded as well.
    """
    from mirror_rt.runtime.encoder import Encoder

    counts: Counter[str] = Counter()
    counts["too_long"] = sum(len(mention) > MOST_CHARACTERS for mention in columns["mention"])
    encoder = kb.opened_encoder  # None: nothing was embedded
    if not isinstance(encoder, Encoder):
        return counts
    mentions = list(dict.fromkeys(zip(columns["mention"], columns["document"], strict=True)))
    document = options.get("document")
    expanded = expand_mentions(
        kb.resources,
        [mention for mention, _ in mentions],
        document=[text for _, text in mentions] if document is None else document,
        split_composites=options.get("split_composites", False),
    )
    texts = list(dict.fromkeys(text for parts in expanded for text in parts))
    exact = [not explain and known for known in is_name(kb.resources, texts)]
    cut = {
        text
        for text, known in zip(texts, exact, strict=True)
        if not known and encoder.count_truncated([text.strip()])
    }
    counts["truncated"] = len(
        {m for (m, _), parts in zip(mentions, expanded, strict=True) if not cut.isdisjoint(parts)}
    )
    counts["truncated_contexts"] = encoder.count_truncated([text.strip() for text in contexts])
    return counts
