"""Changes of links compared with an earlier result: the same from every format."""

from __future__ import annotations

import csv
import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from mirror_rt.errors import ConfigError, InputError
from mirror_rt.knowledge import KnowledgeBase, knowledge_base
from mirror_rt.knowledge.linking.changes import EarlierLinks, Link, LinkChange, LinkChangeKind
from mirror_rt.knowledge.linking.job import LinkReport
from mirror_rt.types import Entity, LinkStatus
from mirror_rt_cli.app import app
from tests.kb import HEARTS, LetterEncoder, entity, fake_bundle

MENTIONS = ["ASD", "hepatic carcinoma", "VSD", "short stature", "?", "liver cancer", "hernia",
            "VSD", "autism spectrum disorder"]  # fmt: skip
LATER = [
    entity("H:1", "atrial septal defect"),  # "ASD" means autism alone now
    HEARTS[1],
    entity("H:3b", "stature", "short stature", alternative_ids=("H:3",)),
    HEARTS[4],
    entity("H:6", "hernia"),
    entity("H:7", "hepatic carcinoma"),  # of H:4, which was removed without a successor
]
ENDINGS = (".csv", ".tsv", ".xlsx", ".jsonl", ".parquet", ".sssom.tsv")
SURE = 0.5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("changes")
    bundle = fake_bundle(folder / "bundle")
    for name, entities in (("old", HEARTS), ("new", LATER)):
        KnowledgeBase.build(bundle, entities, folder / name, encoder=LetterEncoder()).close()
    return folder


@pytest.fixture(scope="module")
def old(folder: Path) -> Iterator[KnowledgeBase]:
    with KnowledgeBase.open(folder / "old", encoder=LetterEncoder()) as kb:
        yield kb


@pytest.fixture(scope="module")
def new(folder: Path) -> Iterator[KnowledgeBase]:
    with KnowledgeBase.open(folder / "new", encoder=LetterEncoder()) as kb:
        yield kb


def table(path: Path, mentions: list[str]) -> Path:
    with open(path, "w", encoding="utf-8", newline="") as handle:
        csv.writer(handle).writerows([("nr", "mention"), *enumerate(mentions)])
    return path


def answer(change: LinkChange) -> tuple[object, ...]:
    ids = change.before.linked_id, change.after.linked_id
    return change.after.mention, change.kind.value, *ids, change.successors


def changes_of(report: LinkReport) -> list[tuple[object, ...]]:
    assert report.changes is not None
    return [answer(change) for change in report.changes.changes]


def by_hand(
    old: KnowledgeBase, new: KnowledgeBase, mentions: list[str]
) -> dict[str, tuple[str, str]]:
    """Return the old and the new id of each mention whose link differs, from links alone."""
    found = {}
    for mention in mentions:
        first, second = (
            next(iter(kb.link([mention], min_probability=SURE)[0]), None) for kb in (old, new)
        )
        ids = tuple("" if one is None else one.entity_id for one in (first, second))
        if ids[0] != ids[1]:
            found[mention] = ids
    return found  # type: ignore[return-value]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("long", [False, True])
def test_every_format_tells_the_same_changes(
    old: KnowledgeBase, new: KnowledgeBase, tmp_path: Path, ending: str, long: bool
) -> None:
    if long and ending == ".sssom.tsv":
        return
    source, earlier = table(tmp_path / "in.csv", MENTIONS), tmp_path / f"old{ending}"
    old.link_file(source, earlier, min_probability=SURE, long=long)
    report = new.link_file(source, tmp_path / "new.csv", min_probability=SURE, against=earlier)
    changes = changes_of(report)
    expected = by_hand(old, new, MENTIONS)
    # SSSOM lists all entities of a mention: none of them is a change.
    if ending == ".sssom.tsv" and expected.get("ASD", ("",))[0] in ("H:1", "H:5"):
        del expected["ASD"]
    assert {str(one[0]): one[2:4] for one in changes} == expected
    kinds = {one[0]: (one[1], one[4]) for one in changes}
    assert kinds["short stature"] == ("retired", ("H:3b",))
    assert kinds["hepatic carcinoma"] == kinds["liver cancer"] == ("retired", ())
    assert kinds["hernia"] == ("new", ())
    assert report.changes is not None
    assert report.changes.compared == len(MENTIONS)
    rows = [change.row for change in report.changes.changes]
    assert rows == sorted(rows)
    assert all(MENTIONS[row - 1] == one[0] for row, one in zip(rows, changes, strict=True))


def test_a_result_is_replaced_and_says_what_changed(
    old: KnowledgeBase, new: KnowledgeBase, tmp_path: Path
) -> None:
    source, out = table(tmp_path / "in.csv", MENTIONS), tmp_path / "out.csv"
    old.link_file(source, out, min_probability=SURE)
    first = new.link_file(source, out, min_probability=SURE, against=out, force=True)
    again = new.link_file(source, out, min_probability=SURE, against=out, force=True)
    assert len(changes_of(first)) >= 4
    assert changes_of(again) == []
    back = old.link_file(source, out, min_probability=SURE, against=out, force=True)
    lost = {one[0]: one[1] for one in changes_of(back)}
    assert lost["hernia"] == "retired"  # H:6 is not an entity of the earlier release
    assert {one[3]: one[2] for one in changes_of(first) if one[2] and one[3]} == {
        one[2]: one[3] for one in changes_of(back) if one[2] and one[3]
    }


@pytest.mark.parametrize("seed", range(5))
def test_rows_may_come_go_and_move(
    old: KnowledgeBase, new: KnowledgeBase, tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    before = rng.choices(MENTIONS, k=20)
    after = [*rng.sample(before, 15), "heart", "short stature", "growth"]
    rng.shuffle(after)
    old.link_file(table(tmp_path / "a.csv", before), tmp_path / "old.tsv", min_probability=SURE)
    source = table(tmp_path / "b.csv", after)
    report = new.link_file(
        source, tmp_path / "new.jsonl", min_probability=SURE, against=tmp_path / "old.tsv"
    )
    found = report.changes
    assert found is not None
    shared = Counter(before) & Counter(after)
    assert found.compared == shared.total()
    assert (found.added, found.gone) == (len(after) - shared.total(), 20 - shared.total())
    expected = by_hand(old, new, MENTIONS)
    wanted = Counter({mention: shared[mention] for mention in expected if shared[mention]})
    assert Counter(str(change[0]) for change in changes_of(report)) == wanted


def test_a_mention_for_review_has_no_link(new: KnowledgeBase, tmp_path: Path) -> None:
    source, out = table(tmp_path / "in.csv", ["hernia", "VSD"]), tmp_path / "out.csv"
    new.link_file(source, out, review_below=1.0)
    linked = new.link_file(source, tmp_path / "b.csv", against=out)
    assert [one[1:4] for one in changes_of(linked)] == [("new", "", "H:6"), ("new", "", "H:2")]
    lost = new.link_file(source, tmp_path / "c.csv", review_below=1.0, against=tmp_path / "b.csv")
    assert [one[1:4] for one in changes_of(lost)] == [("lost", "H:6", ""), ("lost", "H:2", "")]
    assert lost.changes is not None
    cells = [change.cells() for change in lost.changes.changes]
    assert [(c[3], c[6], c[9]) for c in cells] == [
        ("H:6", "H:6", "review"), ("H:2", "H:2", "review"),
    ]  # fmt: skip


def test_tables_in_memory_and_headings_that_clash(old: KnowledgeBase, new: KnowledgeBase) -> None:
    frame = pd.DataFrame({"entity_id": ["x", "y"], "rank": [2, 7], "mention": ["hernia", "VSD"]})
    results = [kb.link_table(frame, min_probability=SURE) for kb in (old, new)]
    found = new.link_changes(results[0], results[1])
    assert [answer(change) for change in found.changes] == [("hernia", "new", "", "H:6", ())]
    other = results[0].to_pandas().rename(columns={"mention": "disease"})
    now = results[1].to_pandas().rename(columns={"mention": "disease"})
    assert new.link_changes(other, now, column="disease").changes == found.changes  # type: ignore[arg-type]
    with pytest.raises(InputError):
        new.link_changes(other, now)  # type: ignore[arg-type]


def test_one_column_of_any_heading_and_pubtator(
    old: KnowledgeBase, new: KnowledgeBase, tmp_path: Path
) -> None:
    plain, article = tmp_path / "a.csv", tmp_path / "a.pubtator"
    plain.write_text("words\nhernia\nVSD\n")
    article.write_text("1|t|hernia\n1|a|VSD\n1\t0\t6\thernia\tDisease\n1\t7\t10\tVSD\tDisease\n\n")
    for source in (plain, article):
        earlier = tmp_path / f"old{source.suffix}"
        old.link_file(source, earlier, min_probability=SURE)
        report = new.link_file(
            source, tmp_path / f"new{source.suffix}", min_probability=SURE, against=earlier
        )
        assert [one[:4] for one in changes_of(report)] == [("hernia", "new", "", "H:6")]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "mention,name\nVSD,x\n"),  # no ids
        ("a.csv", "entity_id,name\nH:1,x\n"),  # no mentions
        ("a.csv", "mention,entity_id,status\nVSD,H:2,perhaps\n"),
        ("a.csv", "mention,entity_id,probability\nVSD,H:2,high\n"),
        ("a.csv", "mention,entity_id\nVSD,H:2,x\n"),
        ("a.csv", "mention,entity_id\n"),
        ("a.csv", "mention,entity_id\nanother table,H:2\n"),
        ("a.jsonl", '{"mention": "VSD", "candidates": [3]}\n'),
        ("a.sssom.tsv", "# x\nsubject_label\tpredicate_id\nVSD\ty\n"),
        ("a.sssom.tsv", "subject_label\tobject_id\tconfidence\nVSD\tH:2\thigh\n"),
        ("a.sssom.tsv", "subject_label\tobject_id\nVSD\n"),
        ("a.sssom.tsv", ""),
        ("missing.csv", None),
    ],
)
def test_what_is_no_earlier_result_is_refused_and_nothing_written(
    new: KnowledgeBase, tmp_path: Path, name: str, text: str | None
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    out = tmp_path / "out.csv"
    with pytest.raises(InputError):
        new.link_file(["VSD", "hernia"], out, against=tmp_path / name)
    assert not out.exists()
    with pytest.raises(ConfigError):
        new.link_file(["VSD"], out, against=table(tmp_path / "plain.txt", []))


def test_equal_mentions_are_compared_by_their_number(new: KnowledgeBase, tmp_path: Path) -> None:
    links = [("ASD", "H:5"), ("ASD", "H:1"), ("VSD", "H:2")]
    path = tmp_path / "old.csv"
    path.write_text("mention,entity_id\n" + "".join(f"{m},{i}\n" for m, i in links))
    earlier = EarlierLinks(path, new.resources.catalogue)
    records = [
        {"mention": m, "status": "linked", "candidates": [{"entity_id": i, "expanded_form": None}]}
        for m, i in [("ASD", "H:5"), ("ASD", "H:2"), ("ASD", "H:2")]
    ]
    changes = [earlier.take(record) for record in records]
    assert [changes[0], changes[2]] == [None, None]
    assert changes[1] is not None
    assert changes[1].kind is LinkChangeKind.CHANGED
    found = earlier.compared()
    assert (found.compared, found.added, found.gone) == (2, 1, 1)


def test_the_command_prints_the_changes(
    folder: Path, tmp_path: Path, old: KnowledgeBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(knowledge_base, "open_encoder", lambda _: LetterEncoder())
    source, earlier = table(tmp_path / "in.csv", MENTIONS), tmp_path / "old.csv"
    old.link_file(source, earlier, min_probability=SURE)
    base = ["link", str(folder / "new"), str(source), "--min-probability", str(SURE)]
    requested = [*base, "--against", str(earlier), "--format", "csv"]
    printed = CliRunner().invoke(app, requested)
    assert printed.exit_code == 0, printed.output
    written = CliRunner().invoke(app, [*requested, "--out", str(tmp_path / "new.csv")])
    assert written.exit_code == 0, written.output
    assert written.stdout == printed.stdout
    rows = {row["mention"]: row for row in csv.DictReader(printed.stdout.splitlines())}
    assert rows["short stature"]["change"] == "retired"
    assert rows["short stature"]["successors"] == rows["short stature"]["entity_id"] == "H:3b"
    assert "VSD" not in rows
    # The printed output of link is an earlier result too.
    for form in ("jsonl", "tsv"):
        result = CliRunner().invoke(app, [*base, "--format", form])
        path = tmp_path / f"printed.{form}"
        path.write_text(result.stdout)
        again = CliRunner().invoke(app, [*base, "--against", str(path), "--format", "jsonl"])
        assert (again.exit_code, again.stdout) == (0, ""), again.output
    lines = CliRunner().invoke(app, [*base, "--against", str(earlier), "--format", "jsonl"])
    assert [json.loads(line)["mention"] for line in lines.stdout.splitlines()] == [*rows]


def test_a_link_reads_what_a_record_says() -> None:
    entity_id = "H:1"
    found = {
        "mention": "m", "status": "review",
        "candidates": [{"entity_id": entity_id, "expanded_form": None, "probability": 0.5}],
    }  # fmt: skip
    link = Link.of(found)
    assert (link.entity_id, link.linked_id, link.status) == (entity_id, "", LinkStatus.REVIEW)
    assert isinstance(HEARTS[0], Entity)
