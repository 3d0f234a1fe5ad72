"""Evaluation on gold mentions beside scores: intervals, NIL, comparisons, errors."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import binomtest
from typer.testing import CliRunner

from mirror_rt.errors import ConfigError, InputError, KnowledgeBaseError
from mirror_rt.evaluation.baselines import ExactMatch
from mirror_rt.evaluation.compare import compare
from mirror_rt.evaluation.gold import Gold, Query, read_gold
from mirror_rt.evaluation.intervals import bootstrap_intervals
from mirror_rt.evaluation.link_errors import COLUMNS, error_rows
from mirror_rt.evaluation.link_report import (
    LinkingEvaluation,
    LinkSettings,
    Outcome,
    evaluate_linking,
)
from mirror_rt.evaluation.overlap import overlaps
from mirror_rt.evaluation.reliability import outcome_bins
from mirror_rt.evaluation.result import Report
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.knowledge.entities.sketch import SIZE, share_among, sketch
from mirror_rt.knowledge.linking.inputs import MentionNotes, read_mentions
from mirror_rt.types import Entity, LinkStatus, Name, Passage
from mirror_rt_cli.app import app
from tests.kb import HEARTS, LetterEncoder, entity, fake_bundle, with_numbers

PUBTATOR = (
    "1|t|Atrial septal defect (ASD) in a child.\n"
    "1|a|We saw an ASD and a short stature.\n"
    "1\t49\t52\tASD\tDisease\tH:1\n"
    "1\t59\t72\tshort stature\tDisease\tH:3\n"
    "1\t31\t37\tchild\tDisease\t-\n"
)
MORE = [entity(f"N:{i}", f"name number {i}", f"alias {i} of it") for i in range(40)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("gold")
    bundle = fake_bundle(work / "bundle")
    KnowledgeBase.build(bundle, [*HEARTS, *MORE], work / "kb", encoder=LetterEncoder()).close()
    return work / "kb"


@pytest.fixture
def kb(folder: Path, tmp_path: Path) -> Iterator[KnowledgeBase]:
    own = shutil.copytree(folder, tmp_path / "kb")
    with KnowledgeBase.open(own, encoder=LetterEncoder()) as opened:
        yield opened


def query(mention: str, *ids: str, **more: str) -> Query:
    return Query(parts=(mention,), ids=frozenset(ids), **more)


def score_of(found: LinkingEvaluation, task: str) -> dict[str, float | None]:
    (result,) = [r for r in found.report.results if r.task == task]
    return dict(result.scores)


def test_intervals_are_those_of_a_bootstrap_drawn_one_by_one() -> None:
    rng = np.random.default_rng(5)
    keys = rng.integers(0, 60, 200).tolist()
    values = (rng.random((200, 2)) < [0.7, 0.2]).astype(float)
    low, high = bootstrap_intervals(values, keys, draws=4_000)
    clusters = [np.flatnonzero(np.array(keys) == key) for key in sorted(set(keys))]
    means = []
    for _ in range(4_000):
        rows = np.concatenate([clusters[i] for i in rng.integers(0, len(clusters), len(clusters))])
        means.append(values[rows].mean(axis=0))
    expected = np.percentile(means, [2.5, 97.5], axis=0)
    np.testing.assert_allclose([low, high], expected, atol=0.01)
    assert (low < values.mean(axis=0)).all()
    assert (values.mean(axis=0) < high).all()


def test_a_mention_that_comes_again_makes_an_interval_no_narrower() -> None:
    values = np.array([[1.0], [0.0]] * 25)
    once = bootstrap_intervals(values, range(50))
    often = bootstrap_intervals(np.tile(values, (40, 1)), [*range(50)] * 40)
    np.testing.assert_array_equal(once, often)


def test_scores_of_a_knowledge_base_have_intervals_around_them(kb: KnowledgeBase) -> None:
    queries = tuple(query(f"name numbr {i}", f"N:{i}" if i % 3 else "H:1") for i in range(40))
    found = evaluate_linking("kb", kb, Gold(queries=queries))
    for result in found.report.results:
        assert set(result.intervals) == set(result.scores)
        for metric, (low, high) in result.intervals.items():
            assert 0.0 <= low <= (result.scores[metric] or 0.0) <= high <= 1.0
    assert Report.from_dict(json.loads(json.dumps(found.report.to_dict()))) == found.report


def test_shares_have_the_intervals_of_wilson(kb: KnowledgeBase) -> None:
    """Also if all are right; and a mention that comes again is no more evidence."""
    once = tuple(query(f"name number {i}", f"N:{i}") for i in range(3))
    for queries, right in ((once, 3), (once * 5, 3), ((*once, query("name number 5", "N:6")), 3)):
        (result,) = evaluate_linking("kb", kb, Gold(queries=queries)).report.results
        wilson = binomtest(right, len({q.parts for q in queries})).proportion_ci(method="wilson")
        assert result.intervals["acc@1"] == pytest.approx([wilson.low, wilson.high], abs=1e-6)
    assert result.intervals["acc@1"][1] < 1


def test_nil_is_counted_as_a_person_would(kb: KnowledgeBase) -> None:
    queries = (
        *(query(f"name numbr {i}", f"N:{i}") for i in range(20)),
        *(query(f"zzq {i} vwx") for i in range(10)),
        query("short statur", "X:1"),  # its id is not in the knowledge base, so nothing is right
        query("?", "H:1"),
    )
    settings = LinkSettings(min_probability=0.3)
    found = evaluate_linking("kb", kb, Gold(queries=queries), task="t", settings=settings)
    answers = kb.link([q.parts[0] for q in queries], min_probability=0.3)
    linked = [bool(answer) for answer in answers]
    nil = [not q.ids or "X:1" in q.ids for q in queries]
    right = [bool(a) and a[0].entity_id in q.ids for a, q in zip(answers, queries, strict=True)]
    assert [o.linked for o in found.outcomes] == linked
    assert 0 < sum(linked) < len(linked)
    unlinked = len(linked) - sum(linked)
    both = sum(n and not k for n, k in zip(nil, linked, strict=True))
    assert score_of(found, "t, with NIL") == pytest.approx(
        {
            "coverage": sum(linked) / len(linked),
            "precision": sum(right) / sum(linked),
            "nil precision": both / unlinked,
            "nil recall": both / sum(nil),
        }
    )
    # Unlinked mentions are ranked too, and NIL is not one of the mentions with an id.
    (whole,) = [r for r in found.report.results if r.task == "t"]
    assert whole.items == 22


def test_confidence_is_what_link_compares_with_a_threshold(kb: KnowledgeBase) -> None:
    with_numbers(kb, fitted_on={"gold_links": 9})  # names are compared with it, too
    queries = tuple(
        query(text) for text in ("ASD", "hole in a heart", "liver cancr", "ventricular", "?", "VSD")
    )
    found = evaluate_linking("kb", kb, Gold(queries=queries)).outcomes
    for outcome in found:
        p, mention = outcome.confidence or 0.0, [outcome.query.parts[0]]
        assert bool(kb.link(mention, min_probability=p)[0]) == (outcome.best is not None)
        if p < 1.0:
            (above,) = kb.link(mention, min_probability=min(p + 1e-6, 1.0))
            assert not above
    assert [o.tied for o in found[:1]] == [True]


def test_operating_points_are_measured_at_the_thresholds_of_the_knowledge_base(
    kb: KnowledgeBase,
) -> None:
    with_numbers(kb, precision_curve=[[0.2, 0.85], [0.6, 0.96]], fitted_on={"gold_links": 9})
    queries = (*(query(f"name numbr {i}", f"N:{i}") for i in range(30)), query("ASD", "H:1"))
    found = evaluate_linking("kb", kb, Gold(queries=queries))
    thresholds = [point.probability for point in found.operating_points]
    assert thresholds == [0.2, 0.2, 0.6, 0.6, None, None, None]
    for point in found.operating_points[:4]:
        above = [
            o
            for o in found.outcomes
            if not o.tied and (o.confidence or 0.0) >= (point.probability or 0.0)
        ]
        assert point.linked == len(above)
        assert point.coverage == pytest.approx(len(above) / 31)
    wanted = LinkSettings(target_precision=0.95)
    strict = evaluate_linking("kb", kb, Gold(queries=queries), settings=wanted)
    assert sum(o.linked for o in strict.outcomes) == found.operating_points[3].linked
    assert not strict.outcomes[-1].linked, "of several entities alike none has the precision"


@pytest.mark.parametrize("links", [{}, {"gold_links": 9}])
@pytest.mark.parametrize(
    "settings", [LinkSettings(min_probability=0.95), LinkSettings(target_precision=0.9)]
)
def test_a_mention_is_linked_where_link_says_so(
    kb: KnowledgeBase, links: dict[str, int], settings: LinkSettings
) -> None:
    with_numbers(kb, precision_curve=[[0.96, 0.92]], fitted_on=links)
    mentions = ["ASD", "VSD", "short stature", "liver cancr", "name numbr 3", "?", "hole in heart"]
    found = evaluate_linking(
        "kb", kb, Gold(queries=tuple(map(query, mentions))), settings=settings
    ).outcomes
    answers = kb.link(
        mentions, min_probability=settings.min_probability,
        target_precision=settings.target_precision,
    )  # fmt: skip
    expected = [answer.status is LinkStatus.LINKED for answer in answers]
    assert [o.linked for o in found] == expected
    assert set(expected) == {True, False} or links


def test_contexts_documents_and_composites_are_used_as_in_link(kb: KnowledgeBase) -> None:
    document = "An atrial septal defect (ATSD) was seen."
    plain = query("ATSD", "H:1")
    expanded = query("ATSD", "H:1", document=document)
    composite = query("short stature and liver cancer", "H:3", "H:4")
    half = query("short stature and liver cancer", "H:3")
    split = LinkSettings(split_composites=True)
    found = evaluate_linking(
        "kb", kb, Gold(queries=(plain, expanded, composite, half)), settings=split
    ).outcomes
    assert found[1].rank == 1
    assert found[1].best is not None
    assert found[1].best.match_type == "exact"
    assert found[0].best is not None
    assert found[0].best.match_type != "exact"
    assert found[2].rank == 1
    assert found[3].rank != 1, "each part must be right"
    (whole,) = evaluate_linking("kb", kb, Gold(queries=(composite,))).outcomes
    assert whole.confidence != found[2].confidence


def test_pubtator_is_gold_with_documents(tmp_path: Path) -> None:
    (tmp_path / "a.pubtator").write_text(PUBTATOR)
    found = read_gold(tmp_path / "a.pubtator", context_column="sentence")
    assert found.without_id == 1
    first, second = found.queries
    assert (first.parts, first.ids) == (("ASD",), frozenset({"H:1"}))
    assert first.document.startswith("Atrial septal defect (ASD)")
    assert second.context == "We saw an ASD and a short stature."
    with pytest.raises(ConfigError):
        read_gold(tmp_path / "a.pubtator", context_column="text")
    with pytest.raises(ConfigError):
        read_gold(tmp_path / "a.pubtator", id_column="id")


def test_a_table_has_contexts_and_documents_in_columns(tmp_path: Path) -> None:
    rows = 'mention,id,around,whole\nASD,H:1,an ASD,"a defect, (ASD)"\nVSD,H:2,,\n'
    (tmp_path / "gold.csv").write_text(rows)
    found = read_gold(tmp_path / "gold.csv", context_column="around", document_column="whole")
    assert [(q.context, q.document) for q in found.queries] == [
        ("an ASD", "a defect, (ASD)"), ("", ""),
    ]  # fmt: skip
    with pytest.raises(InputError):
        read_gold(tmp_path / "gold.csv", context_column="none such")


def outcomes(ranks: list[int | None], mentions: list[str]) -> tuple[Outcome, ...]:
    return tuple(
        Outcome(
            query=query(mention, "X"), rank=rank, best=None, hit=rank == 1, known=False,
            reachable=True,
        )
        for rank, mention in zip(ranks, mentions, strict=True)
    )  # fmt: skip


def evaluation(name: str, ranks: list[int | None], mentions: list[str]) -> LinkingEvaluation:
    return LinkingEvaluation(
        report=Report(model=name, results=()), outcomes=outcomes(ranks, mentions)
    )


def test_a_comparison_is_of_paired_mentions() -> None:
    mentions = [f"m{i}" for i in range(40)]
    a = evaluation("a", [1] * 30 + [2] * 10, mentions)
    b = evaluation("b", [1] * 20 + [None] * 18 + [1] * 2, mentions)
    found = compare(a, b)
    assert (found.only_first, found.only_second, found.mentions) == (10, 2, 40)
    assert found.differences["acc@1"].value == pytest.approx(30 / 40 - 22 / 40)
    expected_mrr = (30 + 10 / 2) / 40 - 22 / 40
    assert found.differences["mrr"].value == pytest.approx(expected_mrr)
    assert found.p_value == pytest.approx(binomtest(10, 12).pvalue)
    gap = found.differences["acc@1"]
    assert gap.low < gap.value < gap.high
    # Pairs tell more than two intervals: with the same errors, the difference is exact.
    same = compare(a, a)
    assert (same.differences["acc@1"].low, same.differences["acc@1"].high) == (0.0, 0.0)
    assert same.p_value == 1.0
    back = compare(b, a).differences["acc@1"]
    assert (back.value, back.low, back.high) == pytest.approx((-gap.value, -gap.high, -gap.low))


def test_repeated_mentions_count_once_in_the_sign_test() -> None:
    mentions = ["x"] * 30 + ["y", "z"]
    found = compare(
        evaluation("a", [1] * 30 + [2, 1], mentions), evaluation("b", [2] * 30 + [1, 1], mentions)
    )
    assert (found.only_first, found.only_second) == (30, 1)
    assert found.p_value == pytest.approx(1.0)  # one mention each way


def test_errors_say_what_went_wrong(kb: KnowledgeBase) -> None:
    queries = (
        query("short stature", "H:3"),
        query("short stature", "H:4"),
        query("hole in the heart", "H:2"),
        query("liver cancer", "X:9"),
        query("VSD"),
        query("?", "H:1"),
    )
    found = evaluate_linking("kb", kb, Gold(queries=queries))
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in error_rows(kb, found.outcomes)]
    assert [(r["row"], r["why"]) for r in rows if r["row"] != 3] == [
        (2, "not among the candidates"),
        (4, "no right id in the knowledge base"),
        (5, "NIL"),
        (6, "not among the candidates"),
    ]
    assert (rows[0]["gold_names"], rows[0]["entity_name"]) == ("liver cancer", "short stature")
    third = found.outcomes[2].rank
    assert [r["rank"] for r in rows if r["row"] == 3] == ([] if third == 1 else [third])


def test_a_review_is_gold_by_its_decisions_and_a_result_is_none(
    kb: KnowledgeBase, tmp_path: Path
) -> None:
    mentions = [f"name numbr {i}" for i in range(8)]
    kb.link_file(mentions, tmp_path / "out.csv", review_below=1.0, review=tmp_path / "review.csv")
    with open(tmp_path / "review.csv", encoding="utf-8", newline="") as file:
        rows = {row["mention"]: row for row in csv.DictReader(file)}
    assert [*sorted(rows)] == mentions
    first, second, third, fourth, fifth, *_ = (rows[mention] for mention in mentions)
    first["decision"] = "Accept"
    second["decision"] = "no"
    third["correct_id"] = "N:7"
    fourth["decision"] = "reject"
    fifth["correct_id"] = "-"
    also = fourth | {"decision": "", "correct_id": "N:30"}
    with open(tmp_path / "done.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, first)
        writer.writeheader()
        writer.writerows([*rows.values(), also])
    gold = read_gold(tmp_path / "done.csv", keep_nil=True)
    assert {q.parts[0]: q.ids for q in gold.queries} == {
        mentions[0]: {first["entity_id"]}, mentions[1]: set(), mentions[2]: {"N:7"},
        mentions[3]: {"N:30"}, mentions[4]: set(),
    }  # fmt: skip
    assert read_gold(tmp_path / "done.csv").without_id == 2
    with pytest.raises(InputError):
        read_gold(tmp_path / "out.csv")
    assert len(read_gold(tmp_path / "out.csv", id_column="entity_id").queries) == len(mentions)


def test_what_people_have_decided_is_warned_of(kb: KnowledgeBase) -> None:
    gold = Gold(queries=tuple(query(f"name numbr {i}", f"N:{i}") for i in range(40)))
    decided = {
        "mention": [f"Name Numbr {i}" for i in range(10)],
        "entity_id": [f"N:{i}" for i in range(10)],
        "decision": ["accept"] * 10,
    }
    kb.feedback(pa.table(decided))
    (warning,) = overlaps(str(kb.path), kb, evaluate_linking("kb", kb, gold))
    assert "25 %" in warning


def test_what_was_trained_on_the_gold_is_warned_of(tmp_path: Path, kb: KnowledgeBase) -> None:
    gold = Gold(queries=tuple(query(f"name numbr {i}", f"N:{i}") for i in range(40)))
    name = str(kb.path)
    assert not list(overlaps(name, kb, evaluate_linking("kb", kb, gold)))
    kb.calibrate([(q.parts[0], q.ids) for q in gold.queries[:30]])
    (warning,) = overlaps(name, kb, evaluate_linking("kb", kb, gold))
    assert "75 %" in warning
    other = Gold(queries=tuple(query(f"a name numbr {i}", f"N:{i}") for i in range(40)))
    assert not list(overlaps(name, kb, evaluate_linking("kb", kb, other)))
    checkpoint = tmp_path / "encoder"
    checkpoint.mkdir()
    trained = {"strings_sketch": sketch([q.parts[0].upper() for q in gold.queries[:10]])}
    (checkpoint / "training.json").write_text(json.dumps(trained))
    requested = evaluate_linking("kb", kb, gold)
    (warning,) = overlaps(str(checkpoint), object(), requested)
    assert "25 %" in warning
    known = Gold(queries=tuple(query(f"name number {i}", f"N:{i}") for i in range(10)))
    (checkpoint / "training.json").write_text(
        json.dumps({"strings_sketch": sketch(q.parts[0] for q in known.queries)})
    )
    requested = evaluate_linking("kb", kb, known)
    assert not list(overlaps(str(checkpoint), object(), requested)), "names are found by look-up"


def test_a_sketch_of_many_texts_estimates_the_share() -> None:
    texts = [f"text {i}" for i in range(20_000)]
    record = sketch(texts)
    assert len(record) < 6_000
    requested = texts[:4_000] + [f"other {i}" for i in range(6_000)]
    assert share_among(requested, record) == pytest.approx(0.4, abs=0.1)
    small = sketch(texts[: SIZE - 1])
    assert share_among(texts[: 2 * (SIZE - 1)], small) == 0.5
    assert share_among([], small) == 0.0


@pytest.fixture(scope="module")
def real(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    entities = [
        Entity(id=f"N:{i}", names=(Name(text=f"name number {i}"), Name(text=f"alias {i} of it")))
        for i in range(40)
    ]
    out = tmp_path_factory.mktemp("real") / "kb"
    KnowledgeBase.build(tiny_bundle, entities, out).close()
    return out


@pytest.fixture
def built(real: Path, tmp_path: Path) -> Path:
    shutil.copytree(real, tmp_path / "kb")
    rows = [f"name numbr {i}\tN:{i if i % 4 else i + 1}" for i in range(39)] + [
        "zzqx\t",
        "zzqy\t-1",
    ]
    (tmp_path / "gold.tsv").write_text("mention\tid\n" + "\n".join(rows) + "\n")
    return tmp_path


def run(*words: object, width: str = "80") -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["evaluate", *map(str, words)], env={"COLUMNS": width})
    return done.exit_code, done.stdout, done.stderr


def test_the_command_reads_only_and_gives_every_file(built: Path) -> None:
    kb = built / "kb"
    calibrated = CliRunner().invoke(app, ["calibrate", str(kb), str(built / "gold.tsv")])
    assert calibrated.exit_code == 0, calibrated.output
    before = {p: p.read_bytes() for p in kb.rglob("*") if p.is_file()}
    code, out, err = run(
        kb, "--gold", built / "gold.tsv", "--errors", built / "e.csv", "--reliability",
        built / "r.png", "-f", "json", "--compare", kb, "--min-probability", "0.1",
    )  # fmt: skip
    assert code == 0, err
    assert before == {p: p.read_bytes() for p in kb.rglob("*") if p.is_file()}
    assert "warning: " in err
    assert "calibrated on 100 %" in err
    record = json.loads(out)
    assert [r["task"] for r in record["reports"][0]["results"]][-1] == "gold, with NIL"
    assert record["comparisons"][0]["differences"]["mrr"]["value"] == 0.0
    assert len(record["operating_points"][str(kb)]) == 7
    assert (built / "r.png").read_bytes().startswith(b"\x89PNG")
    with open(built / "e.csv", newline="") as handle:
        errors = list(csv.DictReader(handle))
    assert tuple(errors[0]) == COLUMNS
    assert {row["why"] for row in errors} >= {"ranked below"}
    for path in ("e.csv", "r.png"):
        option = "--errors" if path == "e.csv" else "--reliability"
        code, _, err = run(kb, "--gold", built / "gold.tsv", option, built / path)
        assert (code, len(err.splitlines())) == (1, 1), "not replaced without --force"


@pytest.mark.parametrize("width", ["80", "200"])
def test_the_table_has_counts_and_intervals_and_fits(built: Path, width: str) -> None:
    gold = ("--gold", built / "gold.tsv", "-f", "table", "--compare", "baseline:exact")
    names = built / "names.tsv"
    names.write_text("id\tname\n" + "".join(f"N:{i}\tname number {i}\n" for i in range(40)))
    code, out, err = run(built / "kb", *gold, "--kb", names, width=width)
    assert code == 0, err
    lines = out.splitlines()
    assert max(map(len, lines)) <= int(width)
    row = next(line for line in lines if "acc@1" in line)
    assert row.split()[:3] == ["gold", "39", "acc@1"]
    assert "[" in row
    assert any(line.startswith(f"{built / 'kb'}"[:20]) for line in lines)
    assert "less baseline:exact" in " ".join(" ".join(lines).split())


def test_the_same_scores_stand_in_every_format(built: Path) -> None:
    gold = (built / "kb", "--gold", built / "gold.tsv")
    shown = {form: run(*gold, "-f", form)[1] for form in ("json", "jsonl", "csv", "tsv")}
    record = json.loads(shown["json"])
    assert json.loads(shown["jsonl"]) == record
    expected = {
        (result["task"], metric): score
        for result in record["reports"][0]["results"]
        for metric, score in result["scores"].items()
    }
    for form, delimiter in (("csv", ","), ("tsv", "\t")):
        rows = csv.DictReader(shown[form].splitlines(), delimiter=delimiter)
        assert {
            (row["task"], row["metric"]): float(row["score"]) if row["score"] else None
            for row in rows
        } == expected
    out = built / "scores.csv"
    assert run(*gold, "--out", out)[1] == ""
    assert out.read_text() == shown["csv"]


def test_options_of_a_knowledge_base_are_refused_elsewhere(built: Path) -> None:
    gold = ("baseline:exact", "--gold", built / "gold.tsv", "--kb", built / "gold.tsv")
    for words in (
        ("baseline:exact", "--data", built, "--errors", built / "e.csv"),
        ("baseline:exact", "--data", built, "--split-composites"),
        (*gold, "--reliability", built / "r.png"),
        (built / "kb", "--gold", built / "gold.tsv", "--errors", built / "e.xyz"),
        (built / "kb", "--gold", built / "gold.tsv", "--reliability", built / "r.svg"),
        (built / "kb", "--gold", built / "gold.tsv", "--min-probability", "2"),
        (built / "kb", "--gold", built / "gold.tsv", "--errors", built / "gold.tsv", "--force"),
    ):
        code, out, err = run(*words)
        assert (code, out, len(err.splitlines())) == (1, "", 1), words
    assert not (built / "r.png").exists()


def test_reliability_bins_are_of_what_has_a_candidate(kb: KnowledgeBase) -> None:
    queries = (*(query(f"name numbr {i}", f"N:{i}") for i in range(30)), query("?", "H:1"))
    found = evaluate_linking("kb", kb, Gold(queries=queries)).outcomes
    bins, error = outcome_bins(found)
    assert sum(b.count for b in bins) == 30
    p = np.array([o.confidence for o in found[:30]])
    hit = np.array([o.hit for o in found[:30]])
    tenth = np.minimum((p * 10).astype(int), 9)
    gaps = [
        abs(p[tenth == t].mean() - hit[tenth == t].mean()) * (tenth == t).sum() for t in set(tenth)
    ]
    assert error == pytest.approx(sum(gaps) / 30)


def test_gold_without_any_id_and_passages_are_reported(kb: KnowledgeBase, tmp_path: Path) -> None:
    nothing = Gold(queries=(query("zzq"), query("vwx")))
    found = evaluate_linking("kb", kb, nothing, task="t")
    assert [result.task for result in found.report.results] == ["t, with NIL"]
    with pytest.raises(InputError):
        compare(found, found)
    with pytest.raises(InputError):
        evaluate_linking("exact", ExactMatch(), nothing, kb=HEARTS)
    passages = [Passage(id="1", text="a text"), Passage(id="2", text="another")]
    with KnowledgeBase.build(
        fake_bundle(tmp_path / "other"), passages, tmp_path / "store", passages=True,
        encoder=LetterEncoder(),
    ) as store, pytest.raises(KnowledgeBaseError):  # fmt: skip
        evaluate_linking("store", store, Gold(queries=(query("a", "1"),)))


@pytest.mark.parametrize(
    ("whole", "elsewhere"),
    [
        (["101", "102", "103"], 3),
        (["Some ASD here.", "no gout", ""], 0),
        (["a defect", "GOUT", "fever"], 1),
    ],
)
def test_documents_without_their_mentions_are_counted(
    tmp_path: Path, whole: list[str], elsewhere: int
) -> None:
    rows = zip(["asd", "gout", "fever"], whole, strict=True)
    lines = ["mention,id,doc", *(f"{mention},X,{text}" for mention, text in rows)]
    path = tmp_path / "gold.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    remarks = read_gold(path, document_column="doc").remarks
    assert len(remarks) == bool(elsewhere)
    notes = MentionNotes()
    assert len([*read_mentions(path, column="mention", document_column="doc", notes=notes)]) == 3
    assert notes.elsewhere == elsewhere
    assert all(f"{elsewhere} mention" in remark for remark in remarks)
