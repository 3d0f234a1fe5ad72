"""Unusual knowledge bases: odd ids, many scripts, circles, a single name, equal names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from mirror_rt.knowledge.formats import KbFormat, SkippedRows, read_entities
from mirror_rt_cli.app import app

HARD = [
    {"id": 'a|b "c"', "name": "x" * 10_000},
    {"id": "rtl", "name": "אוטם שריר הלב", "aliases": ["احتشاء عضلة القلب"]},
    {"id": "cjk", "name": "心肌梗死", "aliases": ["心筋梗塞"]},
    {"id": "marks", "name": "E\u0301pilepsie", "aliases": ["épilepsie myoclonique"]},
    {"id": "circle 1", "name": "first", "alternative_ids": ["circle 2", "nowhere"]},
    {"id": "circle 2", "name": "second", "alternative_ids": ["circle 1", "circle 2"]},
    {"id": "emoji", "name": "🫀", "aliases": ["'; DROP TABLE names; --", "%s {0} \\n"]},
]


def run(*arguments: str | Path, stdin: str = "") -> tuple[list[dict[str, object]], str]:
    result = CliRunner().invoke(app, [str(a) for a in arguments], input=stdin)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()], result.stderr


@pytest.fixture(scope="module")
def kbdir(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hard")
    (folder / "kb.jsonl").write_text("\n".join(json.dumps(e) for e in HARD), encoding="utf-8")
    run("index", tiny_bundle, folder / "kb.jsonl", "--out", folder / "kb")
    return folder / "kb"


@pytest.mark.parametrize(
    ("mention", "expected"),
    [
        ("x" * 10_000, 'a|b "c"'),
        ("אוטם שריר הלב", "rtl"),
        ("احتشاء عضلة القلب", "rtl"),
        ("心筋梗塞", "cjk"),
        ("\u00c9pilepsie", "marks"),
        ("E\u0301PILEPSIE MYOCLONIQUE", "marks"),
        ("'; DROP TABLE names; --", "emoji"),
        ("%s {0} \\n", "emoji"),
    ],
)
def test_a_name_of_any_script_and_length_finds_its_entity(
    kbdir: Path, mention: str, expected: str
) -> None:
    ((first, _), _) = run("link", kbdir, "-", stdin=f"{mention}\nsecond\n")
    candidate = first["candidates"][0]  # type: ignore[index]
    assert candidate["entity_id"] == expected


def test_alternative_ids_in_a_circle_or_to_nowhere_do_no_harm(kbdir: Path) -> None:
    from mirror_rt import KnowledgeBase

    with KnowledgeBase.open(kbdir) as kb:
        assert kb.entity("circle 1").id == "circle 1"
        assert kb.entity("nowhere").id == "circle 1"
    (stats,), _ = run("kb", "stats", kbdir.parent / "kb.jsonl", "--format", "jsonl")
    assert stats["alternative_ids_that_are_entities"] == 2
    assert stats["name_length"]["max"] == 10_000  # type: ignore[index]


@pytest.mark.parametrize(
    ("rows", "entities", "tied"),
    [("A\tfever\n", 1, False), ("A\tfever\nB\tfever\nC\tfever\n", 3, True)],
)
def test_a_knowledge_base_of_one_name_links(
    tiny_bundle: Path, tmp_path: Path, rows: str, entities: int, tied: bool
) -> None:
    (tmp_path / "kb.tsv").write_text(rows)
    run("index", tiny_bundle, tmp_path / "kb.tsv", "--out", tmp_path / "kb")
    (by_name, by_vector), _ = run("link", tmp_path / "kb", "FEVER", "feverish")
    for answer in (by_name, by_vector):
        candidates = answer["candidates"]
        assert len(candidates) == entities  # type: ignore[arg-type]
        assert {c["tied"] for c in candidates} == {tied}  # type: ignore[attr-defined]


lines = st.lists(
    st.one_of(
        st.text(st.characters(codec="utf-8"), max_size=12),
        st.sampled_from(["A\tone", "A||one", '{"id": "A", "name": "one"}', "A,one", "id\tname"]),
    ).map(lambda text: text.replace("\n", "").replace("\r", "").lstrip("\ufeff")),
    max_size=12,
)


GOOD = {
    KbFormat.TSV: "A1\tone",  # an id without a digit above others with digits may be a heading
    KbFormat.JSONL: '{"id": "A", "name": "one"}',
    KbFormat.DICTIONARY: "A||one",
}


@given(lines, st.sampled_from(list(GOOD)))
def test_rows_in_are_entities_out_and_rows_counted(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], format: KbFormat
) -> None:
    path = tmp_path_factory.mktemp("rows") / "kb"
    path.write_text("\n".join([GOOD[format], *lines]), encoding="utf-8", newline="")
    skipped = SkippedRows()
    found = sum(1 for _ in read_entities(path, format=format, skip_bad=skipped))
    assert found + skipped.bad == 1 + sum(bool(line.strip()) for line in lines)
