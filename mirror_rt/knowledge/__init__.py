"""Knowledge bases: read entities, store them, index their names, link mentions to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mirror_rt.knowledge.knowledge_base import KnowledgeBase

__all__ = ["KnowledgeBase"]


def __getattr__(name: str) -> object:
    # Imported late: the readers of formats and the normalizer need neither FAISS nor SQLite.
    if name == "KnowledgeBase":
        from mirror_rt.knowledge.knowledge_base import KnowledgeBase

        return KnowledgeBase
    raise AttributeError(f"module 'mirror_rt.knowledge' has no attribute {name!r}")
