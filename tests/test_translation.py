from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from mirror_rt.errors import KnowledgeBaseError
from mirror_rt.knowledge.wording import WORD_FILES, Wording, write_wording

NAMES = [
    "finger little short", "finger pinky short", "finger little long", "finger long pinky",
    "limb pain upper", "arm pain", "limb pain lower", "leg pain", "arm short", "limb short upper",
]  # fmt: skip
ALIASES = [(NAMES[0], NAMES[1]), (NAMES[2], NAMES[3]), (NAMES[4], NAMES[5]), (NAMES[6], NAMES[7])]


def _model_1(aliases: list[tuple[str, str]], rounds: int) -> dict[tuple[str, str], float]:
    """The textbook: t[given, told]."""
    sentences = [(a.split(), b.split()) for x, y in aliases for a, b in ((x, y), (y, x))]
    t: dict[tuple[str, str], float] = defaultdict(lambda: 1.0)
    for _ in range(rounds):
        counts: dict[tuple[str, str], float] = defaultdict(float)
        for given, told in sentences:
            for word in told:
                total = sum(t[g, word] for g in given)
                for g in given:
                    counts[g, word] += t[g, word] / total
        totals: dict[str, float] = defaultdict(float)
        for (g, _), value in counts.items():
            totals[g] += value
        t = defaultdict(float, {(g, w): v / totals[g] for (g, w), v in counts.items()})
    return t


def test_it_agrees_with_model_1_written_out(tmp_path: Path) -> None:
    write_wording(NAMES, ALIASES, tmp_path)
    wording = Wording.open(tmp_path)
    t = _model_1(ALIASES, 4)
    counts: dict[str, int] = defaultdict(int)
    for word in " ".join(NAMES).split():
        counts[word] += 1
    total, size = sum(counts.values()), len(counts)

    def explains(told: str, given: str) -> float:
        ratios = []
        for word in told.split():
            odds = [0.5 * (g == word) + 0.5 * t[g, word] for g in given.split()]
            rare = (counts[word] + 1) / (total + size + 1)
            ratios.append(np.log(0.1 + 0.9 * np.mean(odds) / rare))
        return float(np.mean(ratios))

    mention = "finger pinky lower"
    forward, backward = wording.alike(mention, NAMES)
    np.testing.assert_allclose(forward, [explains(mention, n) for n in NAMES], atol=2e-3)
    np.testing.assert_allclose(backward, [explains(n, mention) for n in NAMES], atol=2e-3)


def test_a_word_that_stands_for_another_counts_more_than_one_that_does_not(tmp_path: Path) -> None:
    write_wording(NAMES, ALIASES, tmp_path)
    forward, backward = Wording.open(tmp_path).alike(
        "pain upper limb", ["arm pain", "leg pain", "short upper limb"]
    )
    assert forward[0] > forward[1]
    assert backward[0] > backward[1]


def test_unknown_and_no_words_are_taken(tmp_path: Path) -> None:
    write_wording(NAMES, [], tmp_path)
    wording = Wording.open(tmp_path)
    forward, _ = wording.alike("something else", ["arm pain", "something else"])
    assert forward[1] > forward[0]
    for mention, names in (("", ["arm"]), ("arm", []), ("arm", [""])):
        assert len(wording.alike(mention, names)[0]) == len(names)


def test_a_missing_table_is_refused(tmp_path: Path) -> None:
    write_wording(NAMES, ALIASES, tmp_path)
    (tmp_path / WORD_FILES[2]).unlink()
    with pytest.raises(KnowledgeBaseError, match="cannot be read"):
        Wording.open(tmp_path)
