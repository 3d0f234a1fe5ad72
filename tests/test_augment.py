"""Properties of span masking."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mirror_rt.training.augment import mask_span

MASK = "<mask>"


def parts(text: str, length: int, seed: int, min_length: int = 0) -> str:
    rng = np.random.default_rng(seed)
    return mask_span(text, length=length, mask_token=MASK, rng=rng, min_length=min_length)


@given(st.text(min_size=1), st.integers(1, 8), st.integers(0, 2**32))
def test_exactly_one_span_of_the_given_length_is_replaced(
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
    # The authors' code splits at the first occurrence of the span's text, wherever it was drawn.
    seen = {parts("aaaaaa", 2, seed) for seed in range(50)}
    assert "aaaa <mask>" in seen
    assert len(seen) == 5


def test_the_guard_spares_short_strings_and_is_off_by_default() -> None:
    assert parts("short stature", 2, 0, min_length=30) == "short stature"
    assert MASK in parts("short stature", 2, 0)
