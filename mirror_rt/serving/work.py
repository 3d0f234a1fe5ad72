"""The kinds of work for the scheduler: embed, link, explain, search."""

from __future__ import annotations

import base64
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import orjson

from mirror_rt.runtime.encoder import Encoder
from mirror_rt.serving.library import ServedKb

if TYPE_CHECKING:
    from mirror_rt.types import Float32

__all__ = [
    "FORMS",
    "LINK_TOKENS",
    "Embed",
    "Embedded",
    "Explain",
    "Link",
    "LinkItem",
    "Search",
    "as_base64",
    "as_numbers",
    "cost_of",
    "shortened",
    "to_json_line",
]

LINK_TOKENS = 24
"""The cost of linking a mention, without its embedding, in tokens of embedding."""


def cost_of(text: str, *, most: int) -> int:
    """Estimate the number of tokens of a text by its length."""
    return min(3 + len(text) // 4, most)


def to_json_line(result: Any) -> bytes:  # noqa: ANN401  (of any stage)
    """Return a result as the command line prints it."""
    return orjson.dumps(result.to_dict())


class Embedded(NamedTuple):
    """The formatted vector of a text, and its number of tokens."""

    vector: Any
    tokens: int


def as_numbers(vector_D: Float32) -> bytes:
    """Return a vector as a list in JSON, each number in the shortest form of a float32."""
    return orjson.dumps(vector_D, option=orjson.OPT_SERIALIZE_NUMPY)


def as_base64(vector_D: Float32) -> bytes:
    """Return a vector as a string in JSON: base64 of little-endian float32."""
    return b'"' + base64.b64encode(vector_D.astype("<f4", copy=False).tobytes()) + b'"'


FORMS: dict[str, Callable[[Float32], Any]] = {"float": as_numbers, "base64": as_base64}
"""The format functions by OpenAI's ``encoding_format``."""


@dataclass(frozen=True, eq=False)
class Embed:
    """Embeds (text, form) pairs, where ``form`` formats a vector for the answer."""

    encoder: Encoder

    @property
    def key(self) -> Hashable:
        """Texts for one encoder may share a batch."""
        return ("embed", id(self.encoder))

    def run(self, items: Sequence[tuple[str, Callable[[Float32], Any]]]) -> list[Embedded]:
        """Embed the texts and format each vector."""
        found = self.encoder.encode_counted([text for text, _ in items])
        lengths = found.lengths_N.tolist()
        return [
            Embedded(form(vector_D), tokens)
            for (_, form), vector_D, tokens in zip(items, found.vectors_ND, lengths, strict=True)
        ]


def shortened(dimensions: int, form: Callable[[Float32], Any]) -> Callable[[Float32], Any]:
    """Return a function that formats the first ``dimensions`` numbers, scaled to length 1."""

    def cut(vector_D: Float32) -> Any:  # noqa: ANN401
        head_D = vector_D[:dimensions]
        length = float(np.linalg.norm(head_D))
        return form(np.ascontiguousarray(head_D / np.float32(length or 1.0)))

    return cut


class LinkItem(NamedTuple):
    """A mention, its context and its document; the last two may be empty."""

    mention: str
    context: str = ""
    document: str = ""


@dataclass(frozen=True, eq=False)
class Link:
    """Links mentions and formats each result for the answer.

    Attributes:
        served: The knowledge base.
        options: The options of ``KnowledgeBase.link``, hashable.
        form: Formats a result for the answer.
    """

    served: ServedKb
    options: tuple[tuple[str, Any], ...]
    form: Callable[[Any], Any] = field(default=to_json_line)

    @property
    def key(self) -> Hashable:
        """Mentions for one knowledge base with equal options may share a batch."""
        return (type(self).__name__, id(self.served), self.options, self.form)

    def run(self, items: Sequence[LinkItem]) -> list[Any]:
        """Link the mentions."""
        found = self.served.kb.link([item.mention for item in items], **self._beside(items))
        return [self.form(result) for result in found]

    def exactly(self, items: Sequence[LinkItem]) -> list[Any]:
        """Link exact matches without the model (ModelNeeded if a mention has none)."""
        found = self.served.exact.link([item.mention for item in items], **self._beside(items))
        return [self.form(result) for result in found]

    def _beside(self, items: Sequence[LinkItem]) -> dict[str, Any]:
        beside = dict(self.options)
        if any(item.context for item in items):
            beside["contexts"] = [item.context for item in items]
        if any(item.document for item in items):
            beside["document"] = [item.document for item in items]
        return beside


@dataclass(frozen=True, eq=False)
class Explain(Link):
    """Links mentions and explains the results."""

    def run(self, items: Sequence[LinkItem]) -> list[Any]:
        """Link and explain the mentions."""
        found = self.served.kb.explain([item.mention for item in items], **self._beside(items))
        return [self.form(result) for result in found]


@dataclass(frozen=True, eq=False)
class Search(Link):
    """Searches for queries."""

    def run(self, items: Sequence[LinkItem]) -> list[Any]:
        """Search for the queries."""
        found = self.served.kb.search([item.mention for item in items], **dict(self.options))
        return [self.form(result) for result in found]
