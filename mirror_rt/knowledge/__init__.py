"""Knowledge bases: read them, store them, index their names, link mentions to them."""

from mirror_rt.knowledge.knowledge_base import KnowledgeBase

__all__ = ["KnowledgeBase"]
