"""Compare two vocabularies: changes between releases, twins, mappings, enrichment."""

from __future__ import annotations

from mirror_rt.knowledge.vocabularies.diff import Change, ChangeKind, compare
from mirror_rt.knowledge.vocabularies.enrich import Enrichment, enrich, gold_of
from mirror_rt.knowledge.vocabularies.mapping import map_entities
from mirror_rt.knowledge.vocabularies.references import References, find_references
from mirror_rt.knowledge.vocabularies.twins import Evidence, Twins, find_twins
from mirror_rt.knowledge.vocabularies.vocabulary import Vocabulary, read_vocabulary

__all__ = [
    "Change",
    "ChangeKind",
    "Enrichment",
    "Evidence",
    "References",
    "Twins",
    "Vocabulary",
    "compare",
    "enrich",
    "find_references",
    "find_twins",
    "gold_of",
    "map_entities",
    "read_vocabulary",
]
