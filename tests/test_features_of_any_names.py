"""All features of any names and mentions, compared with plain Python, pair by pair."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror_rt.knowledge.ranking.features import (
    FEATURES,
    FeatureInputs,
    compute_features,
)
from mirror_rt.knowledge.retrieval.candidates import CandidateBatch, generate_candidates
from mirror_rt.knowledge.text.match_levels import token_bag_key
from mirror_rt.knowledge.text.normalize import normalize
from mirror_rt.knowledge.text.numbers import fold_numbers, number_tokens
from mirror_rt.types import NameKind
from tests.model_1 import explained
from tests.name_arrays import Names, unit_rows
from tests.spelling import edits

DISTANT = {NameKind.BROAD, NameKind.NARROW, NameKind.RELATED}
WORDS = [
    "liver", "livers", "lievr", "heart", "of", "the", "Type", "II", "2", "2a", "12", "c", "é",
    "e\u0301", "漢字", "心臓", "ß", "Straße", "co", "عقار", "?",
]  # fmt: skip


@dataclass
class Pair:
    """A normalized mention and a normalized name, among other names."""

    mention: str
    name: str
    names: Names
    held_out: bool = False


def _trigrams(text: str) -> set[str]:
    padded = f" {text} "
    return {padded[i - 1 : i + 2] for i in range(1, len(padded) - 1) if padded[i] != " "}


def _trigram_cosine(pair: Pair) -> float:
    having = Counter(g for text in pair.names.texts for g in _trigrams(text))

    def mass(trigrams: set[str]) -> float:
        rows = len(pair.names.texts)
        return sum((math.log((1 + rows) / (1 + having[g])) + 1) ** 2 for g in trigrams)

    mine, other = _trigrams(pair.mention), _trigrams(pair.name)
    norms = math.sqrt(mass(mine) * mass(other))
    return mass(mine & other) / norms if norms else 0.0


def _jaccard(pair: Pair) -> float:
    mine, other = ({*fold_numbers(text).split()} for text in (pair.mention, pair.name))
    return len(mine & other) / max(len(mine | other), 1)


def _similarity(pair: Pair) -> float:
    longest = max(len(pair.mention), len(pair.name), 1)
    return 1 - edits(pair.mention, pair.name) / longest


def _typo(pair: Pair) -> float:
    mine = token_bag_key(pair.mention).split()
    own = Counter(mine if pair.held_out else [])
    counts = Counter(w for text in pair.names.texts for w in token_bag_key(text).split()) - own
    spoilt = [word for word in mine if word not in token_bag_key(pair.name).split()]
    digits = [[s for s in text if s.isdigit()] for text in (pair.mention, pair.name)]
    fits = (
        _similarity(pair) >= 0.65
        and digits[0] == digits[1]
        and bool(spoilt)
        and not any(counts[word] for word in spoilt)
    )
    by_edits = {1: 1.0, 2: 2 / 3, 3: 1 / 3}
    return by_edits.get(edits(pair.mention, pair.name), 0.0) if fits else 0.0


def _explained(pair: Pair, target: str, given: str) -> tuple[float, float]:
    keys = [token_bag_key(text) for text in pair.names.texts]
    return explained(token_bag_key(target), token_bag_key(given), pair.names.t, keys)


SLOW: dict[str, Callable[[Pair], float]] = {
    "trigram_cosine": _trigram_cosine,
    # A name of punctuation alone is similar to nothing, not even to itself.
    "same_token_bag": lambda p: bool(p.name) and token_bag_key(p.mention) == token_bag_key(p.name),
    "number_mismatch": lambda p: number_tokens(p.mention) != number_tokens(p.name),
    "log_length_ratio": lambda p: abs(math.log((len(p.mention) + 1) / (len(p.name) + 1))),
    "token_jaccard": _jaccard,
    "translation_forward": lambda p: _explained(p, p.mention, p.name)[0],
    "translation_backward": lambda p: _explained(p, p.name, p.mention)[0],
    "gap_forward": lambda p: _explained(p, p.mention, p.name)[1],
    "gap_backward": lambda p: _explained(p, p.name, p.mention)[1],
    "one_sided_gap": lambda p: math.log1p(
        abs(_explained(p, p.mention, p.name)[1] - _explained(p, p.name, p.mention)[1])
    ),
    "edit_similarity": _similarity,
    "typo_match": _typo,
}


def _compare(
    names: Names, mentions: Sequence[str], *, without: Sequence[int] | None = None
) -> CandidateBatch:
    """Compare every feature of every candidate with the slow computation."""
    vectors = unit_rows(len(mentions), 2)
    batch = generate_candidates(mentions, vectors, names.retrievers, without=without)
    found = compute_features(FeatureInputs(batch, names.retrievers, names.translation))
    assert found.shape == (len(batch.entity_P), len(FEATURES))
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    accepted = [*names.kinds.items()]
    for p, (k, entity) in enumerate(
        zip(batch.name_P.tolist(), batch.entity_P.tolist(), strict=True)
    ):
        mention, row = int(batch.mention_K[k]), int(batch.row_K[k])
        pair = Pair(
            mention=normalize(mentions[mention]),
            name=names.texts[row],
            names=names,
            held_out=without is not None,
        )
        expected = {feature: float(slow(pair)) for feature, slow in SLOW.items()} | {
            "dense_cosine": float(vectors[mention] @ names.vectors[row]),
            "top_edit_similarity": float(
                all(
                    _similarity(replace(pair, name=names.texts[other])) <= _similarity(pair)
                    for other in batch.row_K[batch.mention_K == mention].tolist()
                )
            ),
            "non_exact_synonym": float(names.kinds[row, entity] in DISTANT),
            "accepted_mentions": math.log1p(
                sum(kind is NameKind.ACCEPTED and e == entity for (_, e), kind in accepted)
            ),
        }
        assert expected.keys() == {*FEATURES}
        values = dict(zip(FEATURES, found[p].tolist(), strict=True))
        assert values == pytest.approx(expected, abs=1e-5), (pair.mention, pair.name)
    return batch


texts = st.one_of(
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join),
    st.text(alphabet="abé漢 -2ßİ\u0301😀", min_size=1, max_size=8),
)


@given(
    names=st.lists(texts, min_size=1, max_size=10, unique=True),
    mentions=st.lists(texts, max_size=4),
    data=st.data(),
)
@settings(max_examples=40)
def test_features_of_any_names_are_those_of_each_pair_alone(
    names: list[str],
    mentions: list[str],
    data: st.DataObject,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    rows = st.integers(0, len(names) - 1)
    aliases = data.draw(st.lists(st.tuples(rows, rows), max_size=6))
    pairs = data.draw(st.lists(st.tuples(rows, st.integers(0, 4)), max_size=8))
    kinds = {(row, row + 5): NameKind.EXACT for row in range(len(names))} | {
        pair: data.draw(st.sampled_from(NameKind)) for pair in pairs
    }
    folder = tmp_path_factory.mktemp("names")
    made = Names.of(names, folder, aliases=aliases, kinds=kinds)
    batch = _compare(made, [*mentions, names[0]])
    # There are so few names that the vectors return all of them: no pair is left out.
    requested = len(mentions) + 1
    assert [*zip(batch.mention_K.tolist(), batch.row_K.tolist(), strict=True)] == [
        (mention, row) for mention in range(requested) for row in range(len(names))
    ]
    assert len(batch.entity_P) == requested * len(kinds)
    held_out = data.draw(st.lists(rows, min_size=1, max_size=4))
    batch = _compare(made, [names[row] for row in held_out], without=held_out)
    assert len(batch.row_K) == len(held_out) * (len(names) - 1)


def test_a_word_that_a_held_out_name_has_twice_is_not_known_by_it(tmp_path: Path) -> None:
    made = Names.of(["cogh cogh", "cough cough", "a cough"], tmp_path)
    batch = _compare(made, ["cogh cogh"], without=[0])
    found = compute_features(FeatureInputs(batch, made.retrievers, made.translation))
    assert found[:, FEATURES.index("typo_match")] == pytest.approx([2 / 3, 0])
