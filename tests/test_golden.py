"""Answers that were recorded before a rewrite are the same after it; see ``golden.answers``.

They were recorded again when features and built-in weights changed. The answers are compared
under the recorded weights, and the learned weights with the recorded ones.
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.knowledge.ranking.reranker import Reranker
from mirror_rt.knowledge.storage.manifest import RERANKER
from tests.golden import answers
from tests.kb import LetterEncoder

RECORDED: dict[str, Any] = json.loads(
    (Path(answers.__file__).parent / "link_answers.json").read_text(encoding="utf-8")
)
SCORE, PROBABILITY = (answers.FIELDS.index(field) for field in ("score", "probability"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KnowledgeBase]:
    with answers.built(tmp_path_factory.mktemp("golden")) as made:
        yield made


@pytest.fixture(scope="module")
def kb(built: KnowledgeBase) -> Iterator[KnowledgeBase]:
    Reranker(**RECORDED["reranker"]).write(built.path / RERANKER)
    with KnowledgeBase.open(built.path, encoder=LetterEncoder()) as made:
        yield made


def test_the_numbers_learned_are_about_those_recorded(built: KnowledgeBase) -> None:
    assert tuple(RECORDED["reranker"]) == answers.LEARNED
    for name, numbers in RECORDED["reranker"].items():
        assert getattr(built.resources.reranker, name) == pytest.approx(numbers, abs=0.01), name


@pytest.mark.parametrize("call", answers.CALLS)
def test_the_answers_are_those_recorded(kb: KnowledgeBase, call: str) -> None:
    assert tuple(RECORDED["fields"]) == answers.FIELDS
    recorded = RECORDED[call]
    assert recorded
    for text, output in zip(recorded, answers.ask(kb, call, list(recorded)), strict=True):
        wanted = recorded[text]
        assert output["nil_reason"] == wanted["nil_reason"], text
        apart = [[_without_numbers(row) for row in one["candidates"]] for one in (output, wanted)]
        assert apart[0] == apart[1], text
        for mine, row in zip(output["candidates"], wanted["candidates"], strict=True):
            for column in (SCORE, PROBABILITY):
                assert (mine[column] is None) == (row[column] is None), text
                assert mine[column] == pytest.approx(row[column], abs=1e-5), (text, row)


def _without_numbers(row: list[Any]) -> list[Any]:
    return [value for i, value in enumerate(row) if i not in (SCORE, PROBABILITY)]


def test_what_is_recorded_is_of_every_kind() -> None:
    calls = [output for call in answers.CALLS for output in RECORDED[call].values()]
    reasons = Counter(output["nil_reason"] for output in calls)
    assert {*reasons} == {None, "empty", "punctuation", "below_threshold", "filtered_out"}
    rows = [
        dict(zip(answers.FIELDS, row, strict=True))
        for output in calls
        for row in output["candidates"]
    ]
    kinds = {row["match_type"] for row in rows}
    assert kinds == {
        "exact", "case", "punctuation", "number", "plural", "accents", "spelling", "numeral",
        "word_order", "lexical", "dense",
    }  # fmt: skip
    assert {row["tied"] for row in rows} == {True, False}
    assert any(row["expanded_form"] for row in rows)
