"""Span masking, by its properties."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mirror_rt.training.augment import mask_span, repeat_tokens

MASK = "<mask>"


def parts(text: str, length: int, seed: int, guard: int = 0) -> str:
    rng = np.random.default_rng(seed)
    return mask_span(text, length=length, mask_token=MASK, rng=rng, guard=guard)


@given(st.text(min_size=1), st.integers(1, 8), st.integers(0, 2**32))
def test_exactly_one_span_of_the_asked_length_is_replaced(
    text: str, length: int, seed: int
) -> None:
    masked = parts(text, length, seed)
    candidates = {
        " ".join(part for part in (text[:i], MASK, text[i + length :]) if part)
        for i in range(len(text) - length + 1)
    }
    assert masked in (candidates if len(text) > length else {text})


@given(st.text(), st.integers(0, 2**32))
def test_a_length_of_zero_changes_nothing(text: str, seed: int) -> None:
    assert parts(text, 0, seed) == text


def test_every_place_is_about_equally_likely_the_ends_included() -> None:
    rng = np.random.default_rng(0)
    seen = Counter(mask_span("abcdef", length=2, mask_token=MASK, rng=rng) for _ in range(5000))
    assert set(seen) == {
        "<mask> cdef", "a <mask> def", "ab <mask> ef", "abc <mask> f", "abcd <mask>"
    }  # fmt: skip
    assert all(900 < count < 1100 for count in seen.values())  # 1000 ± 3.5 standard deviations


def test_a_repeated_span_is_not_always_cut_at_its_first_occurrence() -> None:
    # The authors' code split at the first occurrence of the span's text, wherever it was drawn.
    seen = {parts("aaaaaa", 2, seed) for seed in range(50)}
    assert "aaaa <mask>" in seen
    assert len(seen) == 5


def test_the_guard_spares_short_strings_and_is_off_by_default() -> None:
    assert parts("short stature", 2, 0, guard=30) == "short stature"
    assert MASK in parts("short stature", 2, 0)


def repeated(ids: list[int], seed: int, **options: object) -> list[int]:
    given: dict[str, object] = {"rate": 0.5, "special": [1, 2, 3], "max_length": 100}
    rng = np.random.default_rng(seed)
    return repeat_tokens(np.asarray(ids), rng=rng, **(given | options)).tolist()  # type: ignore[arg-type]


def test_tokens_are_said_twice_where_they_stand_and_special_ones_never() -> None:
    ids = [1, 10, 11, 3, 12, 13, 14, 15, 2]
    seen: dict[int, int] = {}
    places: dict[int, int] = {}
    for seed in range(2000):
        found = repeated(ids, seed)
        groups = [(key, len(list(same))) for key, same in itertools.groupby(found)]
        assert [key for key, _ in groups] == ids
        assert all(count == 1 or (count == 2 and key > 3) for key, count in groups)
        twice = [key for key, count in groups if count == 2]
        seen[len(twice)] = seen.get(len(twice), 0) + 1
        for key in twice:
            places[key] = places.get(key, 0) + 1
    # 6 tokens at rate 0.5: 0, 1, 2 or 3 of them, evenly; 1.5 of 6 on average, each alike.
    assert sorted(seen) == [0, 1, 2, 3]
    assert all(abs(count - 500) < 80 for count in seen.values())
    assert sorted(places) == [10, 11, 12, 13, 14, 15]
    assert all(abs(count - 500) < 80 for count in places.values())


def test_a_low_rate_still_repeats_up_to_two() -> None:
    lengths = {len(repeated([1, 10, 11, 12, 2], seed, rate=0.01)) for seed in range(50)}
    assert lengths == {5, 6, 7}


def test_repeating_goes_no_further_than_the_tokens_and_the_room_there_are() -> None:
    assert {len(repeated([1, 10, 2], seed, rate=1.0)) for seed in range(50)} == {3, 4}
    assert {len(repeated([1, *range(10, 20), 2], s, max_length=13)) for s in range(50)} == {12, 13}
    assert repeated([1, 10, 11, 2], 0, max_length=4) == [1, 10, 11, 2]
    assert repeated([1, 3, 2], 0) == [1, 3, 2]


def test_rate_nought_repeats_nothing() -> None:
    assert all(repeated([1, 10, 11, 2], seed, rate=0.0) == [1, 10, 11, 2] for seed in range(20))
