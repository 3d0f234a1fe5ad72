"""The counts of ``kb stats``, compared with a slow count."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from mirror_rt.knowledge.entities.statistics import AmbiguousName, compute_statistics
from mirror_rt.knowledge.text.normalize import normalize
from mirror_rt.types import Entity, Name, NameKind

pieces = st.lists(
    st.builds(
        lambda i, texts, others: Entity(
            id=i, names=tuple(Name(text=t) for t in texts), alternative_ids=tuple(others)
        ),
        st.sampled_from("abcd"),
        st.lists(st.sampled_from(["x", "X", "x-y", "X y", "心", "z" * 40]), min_size=1, max_size=4),
        st.lists(st.sampled_from("abxyz"), max_size=2),
    ),
    min_size=1,
    max_size=12,
)


@given(pieces)
def test_counts_equal_those_of_a_slow_count(entities: list[Entity]) -> None:
    found = compute_statistics(iter(entities))
    names = [(e.id, n.text) for e in entities for n in e.names]
    owners: dict[str, set[str]] = defaultdict(set)
    folded: dict[str, set[str]] = defaultdict(set)
    alternative: dict[str, set[str]] = defaultdict(set)
    for i, text in names:
        owners[text].add(i)
        folded[normalize(text)].add(i)
    for e in entities:
        for other in e.alternative_ids:
            alternative[other].add(e.id)
    ids = {e.id for e in entities}
    lengths = sorted(map(len, owners))
    assert found.entities == len(ids)
    assert (found.names, found.distinct_names) == (len(names), len(owners))
    assert found.repeated_names == len(names) - len(set(names))
    assert found.ambiguous_names == sum(len(h) > 1 for h in owners.values())
    assert found.ambiguous_normalized == sum(len(h) > 1 for h in folded.values())
    assert found.entities_with_one_name == sum(
        len({t for j, t in names if j == i}) == 1 for i in ids
    )
    assert found.alternative_ids == len(alternative)
    assert found.alternative_ids_that_are_entities == len(ids & alternative.keys())
    assert found.shared_alternative_ids == sum(len(h) > 1 for h in alternative.values())
    assert (found.name_length["min"], found.name_length["max"]) == (lengths[0], lengths[-1])
    assert found.name_length["p50"] == lengths[-(-len(lengths) // 2) - 1]


def test_kinds_languages_scripts_and_types_are_broken_down() -> None:
    names = (
        Name(text="Москва", kind=NameKind.PREFERRED, language="ru", source="S"),
        Name(text="Moscow", language="en"),
        Name(text="モスクワ", language="ja"),
        Name(text="莫斯科", language="zh"),
        Name(text="موسكو", language="ar"),
        Name(text="123", language=""),
    )
    entities = [
        Entity(id="1", names=names, types=("city", "city"), description="a"),
        Entity(id="1", names=names[:1], types=("city",), description="b", cross_references=("x",)),
        Entity(id="2", names=names[:1], types=("town", "city")),
    ]
    found = compute_statistics(entities)
    assert found.names_by_kind == {"exact": 5, "preferred": 3}
    assert found.names_by_language == {"ru": 3, "en": 1, "ja": 1, "zh": 1, "ar": 1, "": 1}
    scripts = {"cyrillic": 3, "latin": 1, "katakana": 1, "han": 1, "arabic": 1, "none": 1}
    assert found.names_by_script == scripts
    assert found.types == {"city": 2, "town": 1}
    assert (found.descriptions, found.cross_references) == (1, 1)
    assert found.most_ambiguous == (AmbiguousName(name="Москва", entities=2),)
