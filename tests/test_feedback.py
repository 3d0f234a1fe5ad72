"""Decisions of people come back: names, gold links, calibration; and can be taken back."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xlsxwriter
from typer.testing import CliRunner

from mirror_rt.errors import ConfigError, InputError, KnowledgeBaseError, MirrorError
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.knowledge.linking import calibration
from mirror_rt.knowledge.linking.accepted import all_but_accepted
from mirror_rt.knowledge.linking.results import fingerprint
from mirror_rt.knowledge.storage.feedback import FeedbackLog
from mirror_rt.types import LinkStatus, Name, NameKind, NilReason
from mirror_rt_cli.app import app
from tests.errors import about
from tests.kb import HEARTS, LetterEncoder, entity, fake_bundle

MORE = [entity(f"N:{i}", f"name number {i}", f"alias of number {i}") for i in range(60)]
MENTIONS = [f"nme numbr {i} now" for i in range(40)]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    bundle = fake_bundle(folder / "bundle")
    entities = [*HEARTS, *MORE]
    KnowledgeBase.build(bundle, entities, folder / "kb", encoder=LetterEncoder()).close()
    return folder


@pytest.fixture
def kb(built: Path, tmp_path: Path) -> KnowledgeBase:
    shutil.copytree(built / "kb", tmp_path / "kb")
    return KnowledgeBase.open(tmp_path / "kb", encoder=LetterEncoder())


def _reviewed(path: Path, rows: Sequence[Mapping[str, str]]) -> Path:
    names = list(dict.fromkeys(name for row in rows for name in row))
    with open(path, "w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, names)
        writer.writeheader()
        writer.writerows(rows)
    return path


def _row(mention: str, id_: str, decision: str = "", correct: str = "") -> dict[str, str]:
    return {"mention": mention, "entity_id": id_, "decision": decision, "correct_id": correct}


def _decided(path: Path, right: Callable[[str], str]) -> list[dict[str, str]]:
    """Fill a review list in as a person would who knows the right ids."""
    with open(path, encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    for row in rows:
        wanted = right(row["mention"])
        if row["entity_id"] == wanted:
            row["decision"] = "accept"
        elif wanted:
            row["correct_id"] = wanted
        else:
            row["decision"] = "reject"
    return rows


def _gold(mention: str) -> str:
    return f"N:{mention.split()[2]}" if mention.startswith("nme") else ""


def _state(kb: KnowledgeBase) -> object:
    """Return what a knowledge base says: its names, its numbers, and all those of its links."""
    names = [(e.id, sorted(map(str, e.names))) for e in kb.resources.catalogue.entities()]
    links = [result.to_dict() for result in kb.link([*MENTIONS, "something else", "ASD"])]
    # An undo leaves a new object with lists for the tuples that a build has made.
    return names, links, json.dumps(asdict(kb.resources.reranker))


def test_the_loop_of_review_teaches_and_is_undone(kb: KnowledgeBase, tmp_path: Path) -> None:
    before = _state(kb)
    mentions = [*MENTIONS, *(f"something else {i}" for i in range(10))]
    kb.link_file(mentions, tmp_path / "a.csv", review_below=0.99999, review=tmp_path / "r.csv")
    rows = _decided(tmp_path / "r.csv", _gold)
    assert len(rows) > 40
    reviewed = _reviewed(tmp_path / "done.csv", rows)
    report = kb.feedback(reviewed)
    counts = (report.accepted + report.corrected, report.rejected, report.undecided)
    assert counts == (sum(bool(_gold(row["mention"])) for row in rows), 10, 0)
    assert report.gold_links == len({row["mention"] for row in rows})
    assert report.aliases == counts[0]
    assert report.calibration is not None
    for mention, found in zip(MENTIONS, kb.link(MENTIONS), strict=True):
        assert found[0].entity_id == _gold(mention)
    given = Name(text=MENTIONS[7], kind=NameKind.ACCEPTED, source="feedback")
    assert given in kb.entity("N:7").names
    assert kb.link([MENTIONS[7]])[0][0].match_type.is_exact
    assert kb.entity("N:7").name == "name number 7"
    # The same file again changes nothing.
    taught = _state(kb)
    assert kb.feedback(reviewed).known
    assert _state(kb) == taught
    with KnowledgeBase.open(kb.path, encoder=LetterEncoder()) as other:
        assert _state(other) == taught
        assert other.undo_feedback().gold_links == 0
        assert _state(other) == before
        with pytest.raises(InputError):
            other.undo_feedback()


def test_probabilities_are_fitted_without_the_names_that_were_accepted(
    kb: KnowledgeBase, tmp_path: Path
) -> None:
    gold = [(mention, frozenset({_gold(mention)})) for mention in MENTIONS]
    gold += [(f"something else {i}", frozenset[str]()) for i in range(10)]
    rows = [
        _row(mention, *ids, "accept") if ids else _row(mention, "N:1", "no")
        for mention, ids in gold
    ]
    report = kb.feedback(_reviewed(tmp_path / "r.csv", rows))
    assert report.calibration is not None
    assert report.calibration.accuracy < 1, "those without an entity"
    assert kb.resources.reranker.fitted_on["decisions"] == len(gold)
    # Each accepted mention would be found by name, and teach that names are always right.
    encode = LetterEncoder().encode
    mask = all_but_accepted(kb.resources)
    assert calibration._link(kb.resources, gold, encode).exact_S.sum() == len(MENTIONS)
    assert not calibration._link(kb.resources, gold, encode, mask=mask).exact_S.any()


def test_accepted_mentions_are_not_for_review_again(kb: KnowledgeBase, tmp_path: Path) -> None:
    """A name itself, and one but for punctuation or case, are for review before and not after."""
    requested = ["name number 7", "Name-number 8", "NAME NUMBER 9."]
    wanted = {"review_below": 0.98}
    assert {found.status.value for found in kb.link(requested, **wanted)} == {"review"}
    rows = [_row(requested[i], f"N:{i + 7}", "accept") for i in range(3)]
    assert kb.feedback(_reviewed(tmp_path / "r.csv", rows)).aliases == 3
    for found in kb.link(requested, **wanted):
        assert (found.status.value, found[0].probability) == ("linked", 0.99)
    assert kb.link(["name number 10"], **wanted)[0].status.value == "review"
    assert kb.entity("N:7").name == "name number 7"
    kb.undo_feedback()
    assert {found.status.value for found in kb.link(requested, **wanted)} == {"review"}


def test_a_mention_decided_as_nil_stays_nil(kb: KnowledgeBase, tmp_path: Path) -> None:
    """A near one, one that is a name, and one in another spelling; until decided otherwise."""
    mentions = ["name numbr 7", "name number 8", "Name-Number 9"]
    before = _state(kb)
    assert all(found.candidates for found in kb.link(mentions))
    rows = [_row("name numbr 7", "N:7", "reject"), _row("name number 8", "", "", "-")]
    rows.append(_row("name number 9", "N:9", "no"))
    reviewed = _reviewed(tmp_path / "r.csv", rows)
    assert kb.feedback(reviewed, aliases=False).rejected == 3
    assert all(found.candidates for found in kb.link(mentions))
    kb.undo_feedback()
    kb.feedback(reviewed)
    for one in (kb, KnowledgeBase.open(kb.path, encoder=LetterEncoder())):
        for found in one.link(mentions, review_below=0.99):
            assert (found.status, found.nil_reason) == (LinkStatus.NIL, NilReason.DECIDED)
        assert one.link(["name numbr 6"])[0].candidates
    assert kb.feedback(reviewed).known
    # A part of a composite that was decided asks for no review; its other part is linked.
    (both,) = kb.link(["name number 8, name number 10"], split_composites=True)
    assert [c.entity_id for c in both] == ["N:10"]
    assert both.status is LinkStatus.LINKED
    kb.feedback(_reviewed(tmp_path / "s.csv", [_row("name numbr 7", "N:7", "accept")]))
    assert kb.link(mentions)[0][0].entity_id == "N:7"
    kb.undo_feedback()
    kb.undo_feedback()
    assert _state(kb) == before


def test_a_name_that_is_added_later_links_a_mention_decided_as_nil(
    kb: KnowledgeBase, tmp_path: Path
) -> None:
    rows = [_row("Garden hose", "N:7", "reject"), _row("name number 8", "N:8", "reject")]
    kb.feedback(_reviewed(tmp_path / "r.csv", rows))
    kb.add([entity("X:1", "garden hose")])
    found, nil = kb.link(["Garden hose", "name number 8"])
    assert found[0].entity_id == "X:1"
    assert nil.nil_reason is NilReason.DECIDED


def test_an_entity_that_is_accepted_often_is_likelier(kb: KnowledgeBase, tmp_path: Path) -> None:
    """Mentions that say little are meant as the others of their kind were, and no longer."""
    words = "red blue wide tall slow warm cold soft hard open shut long flat deep rare".split()
    vague = [f"name numbr {a} {b}" for a in words[:6] for b in words[6:]]
    requested = [f"name numbr {a} {b}" for a in words[6:] for b in words[:6]]

    def right() -> float:
        return sum(found[0].entity_id == "N:7" for found in kb.link(requested)) / len(requested)

    def weight() -> float:
        return kb.resources.reranker.weights["accepted_mentions"]

    before = right()
    assert (before < 0.5, weight()) == (True, 0.0)
    kb.feedback(_reviewed(tmp_path / "r.csv", [_row(m, "", "", "N:7") for m in vague]))
    assert (right() > 0.95, weight() > 0) == (True, True)
    kb.undo_feedback()
    assert (right(), weight()) == (before, 0.0)
    # One mention each says nothing of any: a mention's own decision does not count.
    kb.feedback(_reviewed(tmp_path / "r.csv", [_row(m, _gold(m), "yes") for m in MENTIONS]))
    assert weight() == 0.0


def test_doubtful_mentions_teach_no_threshold(kb: KnowledgeBase, tmp_path: Path) -> None:
    """What is for review is hardly ever right: a precision among it is none of a whole table."""
    wanted = 0.9
    before = kb.resources.reranker.threshold(wanted)
    linked = kb.link([name.name for name in MORE], target_precision=wanted)
    rows = [_row(f"something else {i}", "N:1", "no") for i in range(30)]
    report = kb.feedback(_reviewed(tmp_path / "r.csv", rows))
    assert report.calibration is not None
    after = kb.resources.reranker
    assert after.threshold(wanted) <= max(before, 0.99)
    points = {one["target_precision"]: one for one in after.operating_points}
    assert points[wanted]["linked"] > len(rows) / 2, "names, not decisions"
    again = kb.link([name.name for name in MORE], target_precision=wanted)
    assert [one.status for one in again] == [one.status for one in linked]
    assert {one.status for one in again} == {LinkStatus.LINKED}


def test_where_names_are_few_decisions_teach_thresholds(built: Path, tmp_path: Path) -> None:
    with KnowledgeBase.build(
        built / "bundle", HEARTS, tmp_path / "kb", encoder=LetterEncoder()
    ) as few:
        assert not few.resources.reranker.precision_curve
        rows = [_row(f"hart hole {i}", "H:1", "ok") for i in range(30)]
        few.feedback(_reviewed(tmp_path / "r.csv", rows))
        assert few.resources.reranker.threshold(0.9) > 0


def test_without_aliases_only_the_probabilities_change(kb: KnowledgeBase, tmp_path: Path) -> None:
    rows = [_row(mention, _gold(mention), "yes") for mention in MENTIONS]
    before = _state(kb)
    names = sorted(path.name for path in kb.path.iterdir())
    report = kb.feedback(_reviewed(tmp_path / "r.csv", rows), aliases=False)
    after = _state(kb)
    assert (report.aliases, report.gold_links) == (0, len(MENTIONS))
    assert after[0] == before[0]  # type: ignore[index]
    assert kb.resources.reranker.fitted_on["decisions"] == len(MENTIONS)
    assert sorted(p.name for p in kb.path.iterdir()) == sorted([*names, "feedback.jsonl"])
    kb.undo_feedback()
    assert _state(kb) == before


@pytest.mark.parametrize("change", ["add", "update", "remove", "refit", "build"])
def test_feedback_outlasts_a_change_of_the_knowledge_base(
    kb: KnowledgeBase, built: Path, tmp_path: Path, change: str
) -> None:
    rows = [_row(mention, _gold(mention), "accept") for mention in MENTIONS]
    kb.feedback(_reviewed(tmp_path / "r.csv", rows))
    new = [entity("N:7", "another name of seven"), entity("X:1", "something new")]
    match change:
        case "add":
            kb.add(new)
        case "update":
            kb.update(new)
        case "remove":
            kb.remove(["N:8"])
        case "refit":
            kb.refit()
        case _:
            kb.close()
            kb = KnowledgeBase.build(
                built / "bundle", [*HEARTS, *MORE, *new], kb.path, encoder=LetterEncoder(),
                force=True,
            )  # fmt: skip
    assert kb.link([MENTIONS[7]])[0][0].entity_id == "N:7"
    assert kb.resources.reranker.fitted_on["decisions"] == len(MENTIONS) - (change == "remove")
    report = kb.undo_feedback()
    assert report.aliases == 0
    assert kb.entity("N:7").name == (
        "another name of seven" if change == "update" else MORE[7].name
    )


def test_ids_that_are_gone_are_counted_and_teach_nothing(kb: KnowledgeBase, tmp_path: Path) -> None:
    rows = [_row(mention, _gold(mention), "accept") for mention in MENTIONS]
    kb.feedback(_reviewed(tmp_path / "r.csv", rows))
    kb.remove(["N:3", "N:4"])
    report = kb.feedback(_reviewed(tmp_path / "s.csv", [_row("hart", "H:1", "accept")]))
    assert (report.gone, report.gold_links) == (2, len(MENTIONS) + 1)
    assert report.calibration is not None
    assert report.calibration.links == len(MENTIONS) - 1


def test_the_last_decision_of_a_mention_counts(kb: KnowledgeBase, tmp_path: Path) -> None:
    kb.feedback(_reviewed(tmp_path / "a.csv", [_row("hart hole", "H:1", "accept")]))
    kb.feedback(_reviewed(tmp_path / "b.csv", [_row("hart hole", "H:1", "", "H:2")]))
    assert [c.entity_id for c in kb.link(["hart hole"], top=1)[0]] == ["H:2"]
    assert FeedbackLog.read(kb.path).gold() == [("hart hole", frozenset({"H:2"}))]
    kb.undo_feedback()
    assert [c.entity_id for c in kb.link(["hart hole"], top=1)[0]] == ["H:1"]


def test_the_same_file_after_another_counts_again(kb: KnowledgeBase, tmp_path: Path) -> None:
    first = _reviewed(tmp_path / "a.csv", [_row("hart hole", "H:1", "accept")])
    second = _reviewed(tmp_path / "b.csv", [_row("hart hole", "H:1", "", "H:2")])
    known = [kb.feedback(path).known for path in (first, second, first, first)]
    assert known == [False, False, False, True]
    assert FeedbackLog.read(kb.path).gold() == [("hart hole", frozenset({"H:1"}))]
    kb.undo_feedback()
    assert FeedbackLog.read(kb.path).gold() == [("hart hole", frozenset({"H:2"}))]


def test_a_calibration_by_other_means_stays_until_decisions_replace_it(
    kb: KnowledgeBase, tmp_path: Path
) -> None:
    gold = [(mention, frozenset({_gold(mention)})) for mention in MENTIONS[:30]]
    kb.calibrate(gold)
    mine = asdict(kb.resources.reranker)
    few = kb.feedback(_reviewed(tmp_path / "a.csv", [_row(MENTIONS[31], "N:31", "accept")]))
    assert (few.calibration, few.replaced) == (None, 0)
    assert asdict(kb.resources.reranker)["fitted_on"] == mine["fitted_on"]
    rows = [_row(mention, _gold(mention), "accept") for mention in MENTIONS]
    many = kb.feedback(_reviewed(tmp_path / "b.csv", rows))
    assert many.calibration is not None
    assert (many.calibration.links, many.replaced) == (len(MENTIONS), len(gold))
    # One that is made on top of decisions outlasts other changes.
    kb.calibrate(gold)
    kb.add([entity("X:1", "something new")])
    assert kb.resources.reranker.fitted_on["gold_links"] == len(gold)
    assert kb.link([MENTIONS[33]])[0][0].entity_id == "N:33"


def test_numbers_as_ids_may_have_become_floats(built: Path, tmp_path: Path) -> None:
    """As pandas writes a column of whole numbers with gaps."""
    entities = [entity("12", "twelve"), entity("13", "thirteen"), entity("13.0", "thirteen point")]
    folder = tmp_path / "kb"
    with KnowledgeBase.build(
        built / "bundle", entities, folder, encoder=LetterEncoder()
    ) as numbered:
        rows = [
            _row("a dozen", "12", "", "12.0"),
            _row("twelv", "12.0", "ok") | {"check": fingerprint("twelv", "12")},
            _row("baker's dozen", "12", "", "13.0"),
        ]
        report = numbered.feedback(_reviewed(tmp_path / "r.csv", rows))
    assert (report.accepted, report.corrected) == (2, 1)
    assert dict(FeedbackLog.read(folder).gold()) == {
        "a dozen": {"12"}, "twelv": {"12"}, "baker's dozen": {"13.0"},
    }  # fmt: skip


def test_an_id_that_others_list_means_its_entity(kb: KnowledgeBase, tmp_path: Path) -> None:
    kb.feedback(_reviewed(tmp_path / "a.csv", [_row("autstic", "H:50", "accept")]))
    assert kb.link(["autstic"])[0][0].entity_id == "H:5"
    kb.update([entity("H:5", "autism", alternative_ids=("H:50",))])
    assert kb.link(["autstic"])[0][0].entity_id == "H:5"


ROW = _row("hart hole", "H:1")
BAD = {
    "unknown id": [_row("a", "H:1", "accept"), _row("b", "H:99", "accept")],
    "unknown correct id": [_row("b", "H:1", "", "H:99")],
    "no word": [ROW | {"decision": "maybe"}],
    "accept and correct": [ROW | {"decision": "accept", "correct_id": "H:2"}],
    "reject and correct is the same": [ROW | {"decision": "reject", "correct_id": "H:1"}],
    "accept nothing": [_row("hart hole", "", "accept")],
    "no mention": [_row("", "H:1", "accept")],
    "corrected to nothing": [ROW | {"decision": "corrected"}],
    "accept none": [ROW | {"decision": "accept", "correct_id": "-"}],
    "contradiction": [ROW | {"decision": "accept"}, ROW | {"decision": "reject"}],
    "contradiction by another": [ROW | {"decision": "accept"}, ROW | {"correct_id": "H:2"}],
    "changed mention": [ROW | {"decision": "accept", "check": fingerprint("hart whole", "H:1")}],
    "sorted alone": [ROW | {"decision": "accept", "check": fingerprint("hart hole", "H:2")}],
    "no columns": [{"mention": "a", "entity_id": "H:1"}],
    "no mentions": [{"title": "a", "entity_id": "H:1", "decision": "accept"}],
    "no ids": [{"mention": "a", "decision": "accept"}],
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_row_is_refused_and_nothing_changes(
    kb: KnowledgeBase, tmp_path: Path, case: str
) -> None:
    files = {path: path.stat().st_mtime_ns for path in kb.path.iterdir()}
    whole = {"mention", "entity_id", "decision"} <= BAD[case][0].keys()
    good = [_row(mention, _gold(mention), "accept") for mention in MENTIONS] if whole else []
    with pytest.raises(MirrorError) as output:
        kb.feedback(_reviewed(tmp_path / "r.csv", [*good, *BAD[case]]))
    assert isinstance(output.value, (InputError, ConfigError))
    assert {path: path.stat().st_mtime_ns for path in kb.path.iterdir()} == files


def test_a_review_of_another_knowledge_base_is_refused(kb: KnowledgeBase, tmp_path: Path) -> None:
    """Ids are often numbers, which another knowledge base has too."""
    name = kb.entity("H:1").name  # type: ignore[union-attr]
    rejected = [_row(m, f"X:{i}", "reject") for i, m in enumerate("abc")] + [_row("e", "", "", "-")]
    named = [_row(m, "H:1", "accept") | {"entity_name": "Bolt"} for m in "abc"]
    corrected = _row("f", "H:1", "", "H:2") | {"entity_name": "Bolt"}
    for rows, hint in ((rejected, "decisions"), (named, "entity_name")):
        with pytest.raises(InputError, check=about("r.csv", hint=hint)) as error:
            kb.feedback(_reviewed(tmp_path / "r.csv", rows))
        assert ("entity_name" in str(error.value)) == (rows is named), "there may be no such column"
    with pytest.raises(InputError):  # the right id may be there by chance too
        kb.feedback(_reviewed(tmp_path / "r.csv", [*named, corrected]))
    assert not (kb.path / "feedback.jsonl").exists()
    # One that is known will do: others may have been renamed or removed since.
    own = [_row("d", "H:1", "reject") | {"entity_name": name}]
    assert kb.feedback(_reviewed(tmp_path / "r.csv", [*named, *own])).rejected == 1
    assert kb.feedback(_reviewed(tmp_path / "s.csv", [*rejected, *own])).rejected == 5
    # Without the column, as the message says, the names do not matter.
    unnamed = [{k: v for k, v in row.items() if k != "entity_name"} for row in named]
    assert kb.feedback(_reviewed(tmp_path / "t.csv", unnamed)).accepted == 3


@pytest.mark.parametrize(
    "rows",
    [
        [_row("foo bar", "ZZZ9", "", "H:3")],
        [_row(f"foo {i}", "ZZZ9", "", "H:3") for i in range(4)],
        [*(_row(f"foo {i}", "ZZZ9", "reject") for i in range(4)), _row("bar", "ZZZ9", "", "H:3")],
        [_row("foo bar", "ZZZ9", "reject")],
        [_row("foo bar", "H:1", "accept") | {"entity_name": "renamed since"}],
        [_row(f"foo {i}", "N:1", "accept") | {"entity_name": " NAME  number\t1"} for i in range(4)],
    ],
    ids=["corrected", "all corrected", "one corrected", "removed", "renamed", "case and spaces"],
)
def test_a_review_from_before_a_change_of_the_knowledge_base_is_taken(
    kb: KnowledgeBase, tmp_path: Path, rows: list[dict[str, str]]
) -> None:
    report = kb.feedback(_reviewed(tmp_path / "r.csv", rows))
    assert report.accepted + report.corrected + report.rejected == len(rows)


def test_a_review_from_before_a_merge_is_taken(kb: KnowledgeBase, tmp_path: Path) -> None:
    kb.update([entity("H:5", "autism", alternative_ids=("H:50",))])
    rows = [_row(f"foo {i}", "H:50", "accept") | {"entity_name": "old name"} for i in range(3)]
    assert kb.feedback(_reviewed(tmp_path / "r.csv", rows)).accepted == 3


@pytest.mark.parametrize("ending", ["jsonl", "parquet", "memory", "csv"])
@pytest.mark.parametrize("values", [[True, False, None], [1.0, 0.0, None], [1, 0, None]])
def test_a_decision_may_be_a_truth_value_or_a_number(
    kb: KnowledgeBase, tmp_path: Path, ending: str, values: list[object]
) -> None:
    table = pa.table({"mention": list("abc"), "entity_id": ["H:1"] * 3, "decision": values})
    source: object = tmp_path / f"r.{ending}"
    match ending:
        case "jsonl":
            lines = "".join(json.dumps(row) + "\n" for row in table.to_pylist())
            Path(str(source)).write_text(lines)
        case "parquet":
            pq.write_table(table, source)
        case "memory":
            source = table
        case _:
            table.to_pandas().to_csv(source, index=False)
    report = kb.feedback(source)  # type: ignore[arg-type]
    assert (report.accepted, report.rejected, report.undecided) == (1, 1, 1)


def test_rows_that_are_gone_or_have_no_decision_are_passed_over(
    kb: KnowledgeBase, tmp_path: Path
) -> None:
    rows = [ROW, ROW | {"mention": "x"}, _row("both", "H:1|H:2", "accept"), _row("y", "H:2", "No"),
            _row("z", "H:2", "", "nil"), _row("w", "H:3", "reject", "H:4")]  # fmt: skip
    report = kb.feedback(_reviewed(tmp_path / "r.csv", rows))
    assert (report.undecided, report.composites) == (2, 1)
    assert (report.accepted, report.corrected, report.rejected) == (0, 1, 2)
    assert dict(FeedbackLog.read(kb.path).gold()) == {
        "y": frozenset(),
        "z": frozenset(),
        "w": frozenset({"H:4"}),
    }


def test_nothing_decided_changes_nothing(kb: KnowledgeBase, tmp_path: Path) -> None:
    report = kb.feedback(_reviewed(tmp_path / "r.csv", [ROW]))
    assert (report.undecided, report.known, report.gold_links) == (1, False, 0)
    assert not (kb.path / "feedback.jsonl").exists()


def test_a_knowledge_base_that_changed_meanwhile_takes_none(
    kb: KnowledgeBase, tmp_path: Path
) -> None:
    reviewed = _reviewed(tmp_path / "r.csv", [ROW | {"decision": "accept"}])
    with KnowledgeBase.open(kb.path, encoder=LetterEncoder()) as late:
        kb.add([entity("X:1", "something new")])
        for aliases in (True, False):
            with pytest.raises(KnowledgeBaseError):
                late.feedback(reviewed, aliases=aliases)
    assert not (kb.path / "feedback.jsonl").exists()


def test_a_damaged_file_of_feedback_is_reported_with_its_line(
    kb: KnowledgeBase, tmp_path: Path
) -> None:
    rows = [_row(mention, _gold(mention), "accept") for mention in MENTIONS[:3]]
    kb.feedback(_reviewed(tmp_path / "r.csv", rows))
    path = kb.path / "feedback.jsonl"
    path.write_text(path.read_text() + '{"batch": 1}\n')
    with pytest.raises(KnowledgeBaseError, check=about("feedback.jsonl", line=4)):
        kb.undo_feedback()


def test_a_workbook_with_formulas_dates_merged_cells_and_two_sheets(
    kb: KnowledgeBase, tmp_path: Path
) -> None:
    from datetime import date

    path = tmp_path / "reviewed.xlsx"
    with xlsxwriter.Workbook(str(path)) as book:
        sheet, notes = book.add_worksheet("links"), book.add_worksheet("notes")
        notes.write_string(0, 0, "decision")
        for column, name in enumerate(("day", "mention", "entity_id", "decision", "correct_id")):
            sheet.write_string(0, column, name)
        day = book.add_format({"num_format": "yyyy-mm-dd"})
        for i, mention in enumerate(MENTIONS[:6], start=1):
            sheet.write_datetime(i, 0, date(2024, 1, i), day)
            sheet.write_string(i, 1, mention)
            sheet.write_formula(i, 2, f'="N:"&{i - 1}', None, f"N:{i - 1}")
        sheet.merge_range(1, 3, 3, 3, "accept")  # a decision of three rows
        sheet.write_boolean(4, 3, True)
        sheet.write_number(5, 3, 0)
    report = kb.feedback(path)
    assert (report.accepted, report.rejected, report.undecided) == (4, 1, 1)
    output = " ".join(report.notes.sentences())
    assert "notes" in output
    assert "1 merged" in output
    assert dict(FeedbackLog.read(kb.path).gold()) == {
        **{MENTIONS[i]: frozenset({f"N:{i}"}) for i in range(4)},
        MENTIONS[4]: frozenset(),
    }


def test_a_table_in_memory_and_every_format_say_the_same(kb: KnowledgeBase, tmp_path: Path) -> None:
    logs = []
    for ending in ("csv", "tsv", "xlsx", "jsonl", "parquet"):
        review = tmp_path / f"r.{ending}"
        kb.link_file(MENTIONS[:4], tmp_path / f"a.{ending}", review_below=0.99999, review=review)
        reader = {
            "csv": pd.read_csv, "tsv": pd.read_table, "parquet": pd.read_parquet,
            "jsonl": partial(pd.read_json, lines=True),
            "xlsx": partial(pd.read_excel, engine="calamine"),
        }[ending]  # fmt: skip
        decided = reader(review).drop(columns=["candidates", "correct_id"])
        decided["decision"] = "accept"
        kb.feedback(decided)
        logs.append(sorted(FeedbackLog.read(kb.path).gold()))
        kb.undo_feedback()
    assert logs[0]
    assert logs == [logs[0]] * 5


def test_the_command_takes_decisions_and_takes_them_back(built: Path, tmp_path: Path) -> None:
    shutil.copytree(built / "kb", tmp_path / "kb")
    kb = str(tmp_path / "kb")
    rows = [_row("ASD", "H:1", "accept"), _row("VSD", "H:2", "no"), ROW]
    reviewed = str(_reviewed(tmp_path / "r.csv", rows))
    run = CliRunner()
    done = run.invoke(app, ["feedback", kb, reviewed, "--no-aliases"])
    assert done.exit_code == 0
    assert "1 accepted, 0 corrected, 1 rejected, 1 without a decision" in done.stderr
    lines = (tmp_path / "kb/feedback.jsonl").read_text().splitlines()
    assert [json.loads(line)["decision"] for line in lines] == ["accepted", "rejected"]
    assert "given before" in run.invoke(app, ["feedback", kb, reviewed, "--no-aliases"]).stderr
    assert run.invoke(app, ["feedback", kb, "--undo"]).exit_code == 0
    for wrong in ([kb], [kb, reviewed, "--undo"], [kb, "--undo"], [kb, str(tmp_path / "no.csv")]):
        assert run.invoke(app, ["feedback", *wrong]).exit_code == 1


def test_info_counts_decisions_and_only_names_that_are_there(
    kb: KnowledgeBase, tmp_path: Path
) -> None:
    def output() -> tuple[str, object]:
        run = CliRunner()
        (names,) = [
            line for line in run.invoke(app, ["info", str(kb.path)]).stdout.splitlines()
            if line.startswith("names")
        ]  # fmt: skip
        whole = json.loads(run.invoke(app, ["info", str(kb.path), "--json"]).stdout)
        return names.removeprefix("names").strip(), whole["feedback"]

    texts = kb.manifest.counts["texts"]
    rows = [_row("a hole", "H:1", "accept"), _row("VSD", "H:2", "no")]
    kb.feedback(_reviewed(tmp_path / "r.csv", rows))
    words, counts = output()
    assert words.startswith(f"{texts + 1} different")
    assert words.endswith("1 by feedback")
    assert counts == {"files": 1, "gold_links": 2, "names": 1}
    kb.undo_feedback()
    words, counts = output()
    assert words.startswith(f"{texts} different"), "whatever rows the index keeps"
    assert counts == {"files": 0, "gold_links": 0, "names": 0}


def test_a_review_asks_no_more_for_what_was_accepted(kb: KnowledgeBase, tmp_path: Path) -> None:
    rows = [_row(mention, _gold(mention), "accept") for mention in MENTIONS]
    kb.feedback(_reviewed(tmp_path / "r.csv", rows))
    linked = kb.link(MENTIONS, review_below=0.9)
    assert {found.status for found in linked} == {LinkStatus.LINKED}
