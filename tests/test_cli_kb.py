"""The ``kb`` commands from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mirror_rt_cli import inputs
from mirror_rt_cli.app import app
from tests.test_formats_libraries import TRIPLES, atom, umls

ROWS = (
    "id\tname\tkind\tlang\n1\tfever\tlabel\ten\n1\tpyrexia\texact\ten\n1\tfever\texact\ten\n"
    "2\tfever\tlabel\ten\n2\tFieber\texact\tde\n3\t\tlabel\ten\n2\t[bold]x[/nothing]\texact\ten\n"
)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "kb.tsv"
    path.write_text(ROWS)
    return path


def test_stats_prints_one_json_document_with_what_was_left_out(rows: Path) -> None:
    result = CliRunner().invoke(app, ["kb", "stats", str(rows), "--format", "jsonl"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["entities"], found["names"], found["distinct_names"]) == (2, 6, 4)
    assert (found["repeated_names"], found["ambiguous_names"]) == (1, 1)
    assert found["most_ambiguous"] == [{"name": "fever", "entities": 2}]
    assert found["names_by_language"] == {"en": 5, "de": 1}
    assert found["left_out"]["bad"] == 1
    assert found["left_out"]["messages"] == [f"{rows}: line 7: no name"]


@pytest.mark.parametrize("width", ["30", "80", "200"])
def test_stats_fits_narrow_and_wide_windows(rows: Path, width: str) -> None:
    result = CliRunner().invoke(
        app, ["kb", "stats", str(rows), "-f", "table"], env={"COLUMNS": width}
    )
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= int(width)
    assert any(line.startswith("entities") and line.endswith(" 2") for line in lines)
    assert "[bold]x" not in result.stdout  # not a name of several entities
    whole = "".join(result.stdout.split())
    assert "line7:noname" in whole


def test_stats_filters_by_language(rows: Path) -> None:
    arguments = ["kb", "stats", str(rows), "--language", "de", "-f", "tsv"]
    result = CliRunner().invoke(app, arguments)
    assert "names\t1\n" in result.stdout
    assert "names filtered out\t5\n" in result.stdout


def test_stats_chooses_sources_and_takes_suppressed_names(tmp_path: Path) -> None:
    folder = umls(tmp_path)
    for options, by_source, filtered in (
        ([], {"MSH": 4, "NCI": 1}, 1),
        (["--source", "MSH"], {"MSH": 4}, 2),
        (["--source", "NCI"], {"NCI": 1}, 5),
        (["--suppressed"], {"MSH": 5, "NCI": 1}, 0),
        (["--source", "MSH", "--suppressed"], {"MSH": 5}, 1),
    ):
        result = CliRunner().invoke(app, ["kb", "stats", str(folder), *options, "-f", "jsonl"])
        assert result.exit_code == 0, result.output
        found = json.loads(result.stdout)
        assert found["names_by_source"] == by_source
        assert found["left_out"]["filtered"] == filtered


@pytest.mark.parametrize(
    ("kb_format", "text"),
    [
        ("tsv", "A\tone\nB\ttwo\n"),
        ("csv", "A,one\nB,two\n"),
        ("jsonl", '{"id": "A", "name": "one"}\n{"id": "B", "name": "two"}\n'),
        ("dictionary", "A||one\nB||two\n"),
        ("obo", "format-version: 1.2\n\n[Term]\nid: A\nname: one\n\n[Term]\nid: B\nname: two\n"),
        (
            "rdf",
            "@prefix skos: <http://www.w3.org/2004/02/skos/core#> .\n"
            '<e:A> a skos:Concept ; skos:prefLabel "one" .\n'
            '<e:B> a skos:Concept ; skos:prefLabel "two" .\n',
        ),
    ],
)
def test_stats_reads_standard_input(kb_format: str, text: str) -> None:
    arguments = ["kb", "stats", "-", "--kb-format", kb_format, "-f", "jsonl"]
    result = CliRunner().invoke(app, arguments, input=text)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["entities"] == 2


def test_stats_refuses_what_it_cannot_read_in_one_line(tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("heart\nlung\n")
    for path, fault in [(tmp_path / "none.tsv", "no such file"), (words, "cannot tell its format")]:
        result = CliRunner().invoke(app, ["kb", "stats", str(path)])
        assert result.exit_code == 1
        assert result.stderr.count("\n") == 1
        assert fault in result.stderr


def test_index_skips_bad_rows_on_request_and_says_so(
    rows: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    arguments = ["index", str(tiny_bundle), str(rows), "--out", str(tmp_path / "kb")]
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code == 1
    assert "line 7: no name" in refused.stderr
    result = CliRunner().invoke(app, [*arguments, "--skip-bad", "--language", "en"])
    assert result.exit_code == 0, result.output
    assert "left out: 1 bad row, 1 name filtered out" in result.stderr
    assert "2 entities, 3 different names" in result.stderr


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        (
            "kb.obo",
            "format-version: 1.2\n\n[Term]\nid: A\nname: a\n\n[Term]\nid: B\n",
            "line 8: B: no name",
        ),
        ("kb.nt", TRIPLES, "line 2: not N-Triples"),
        ("MRCONSO.RRF", atom("C0000001", "fever") + "C2|\n", "line 2: 1 column, "),
    ],
)
def test_bad_rows_of_the_big_vocabularies_are_skipped_on_request(
    tiny_bundle: Path, tmp_path: Path, name: str, text: str, fault: str
) -> None:
    (tmp_path / name).write_text(text)
    arguments = ["index", str(tiny_bundle), str(tmp_path / name), "--out", str(tmp_path / "kb")]
    refused = CliRunner().invoke(app, arguments)
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    assert f"{tmp_path / name}: {fault}" in refused.stderr
    done = CliRunner().invoke(app, [*arguments, "--skip-bad"])
    assert done.exit_code == 0, done.output
    assert f"{tmp_path / name}: {fault}" in done.stderr
    assert "left out: 1 bad row\n" in done.stderr
    assert "1 entity, 1 different name\n" in done.stderr


def test_index_says_how_many_classes_have_no_name(tiny_bundle: Path, tmp_path: Path) -> None:
    stubs = "@prefix : <http://e.org/> . @prefix owl: <http://www.w3.org/2002/07/owl#> ."
    label = "<http://www.w3.org/2000/01/rdf-schema#label>"
    path = tmp_path / "kb.ttl"
    path.write_text(f'{stubs} :a a owl:Class ; {label} "fever" . :b a owl:Class .')
    arguments = ["index", str(tiny_bundle), str(path), "--out", str(tmp_path / "kb")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "left out: 1 class without a name" in done.stderr
    stats = CliRunner().invoke(app, ["kb", "stats", str(path), "--format", "tsv"])
    assert "classes without a name\t1\n" in stats.stdout


def test_add_update_and_remove_change_a_knowledge_base(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = CliRunner().invoke
    kbdir, first, second = tmp_path / "kb", tmp_path / "a.tsv", tmp_path / "b.tsv"
    first.write_text("1\tfever\n2\tcough\n")
    second.write_text("2\ttussis\n3\trash\n")
    made = run(app, ["index", str(tiny_bundle), str(first), "--out", str(kbdir)])
    assert made.exit_code == 0, made.output
    result = run(app, ["kb", "add", str(kbdir), str(second)])
    assert result.exit_code == 0, result.output
    expected = "1 entity added, 1 changed, 0 removed, 3 now; 2 names embedded, 2 vectors kept"
    assert expected in result.stderr
    assert "cut off" not in result.stderr
    result = run(app, ["kb", "add", str(kbdir), str(second)])
    expected = "0 entities added, 0 changed, 0 removed, 3 now; 0 names embedded, 4 vectors kept; 2"
    assert f"{expected} repeated names read once\n" in result.stderr
    second.write_text("4\t" + "a giant name " * 100 + "\n")
    result = run(app, ["kb", "add", str(kbdir), str(second)])
    assert "cut off at 64 tokens: 1 of 1 string" in result.stderr
    encoder = inputs.CountingEncoder(kbdir / "bundle")
    encoder.calls = [(3, 1, 0), (2, 2, 0), (5, 4, 0)]
    encoder.report_truncated(5)
    assert capsys.readouterr().err == "cut off at 64 tokens: 3 of 5 strings\n"
    result = run(app, ["kb", "remove", str(kbdir), "4"])
    second.write_text("2\tcough\n")
    result = run(app, ["kb", "update", str(kbdir), str(second)])
    assert "0 entities added, 1 changed, 0 removed, 3 now; 0 names embedded" in result.stderr
    refused = run(app, ["kb", "remove", str(kbdir), "1", "7"])
    assert refused.exit_code == 1
    assert "no entity 7; nothing removed" in refused.stderr
    (tmp_path / "ids.txt").write_text("1\n\n7\n")
    result = run(
        app, ["kb", "remove", str(kbdir), "--from", str(tmp_path / "ids.txt"), "--missing-ok"]
    )
    assert "1 removed, 2 now" in result.stderr
    assert result.stderr.endswith("vectors kept; 1 id not found\n")
    linked = run(app, ["link", str(kbdir), "Cough", "rash"])
    found = [json.loads(line)["candidates"][0] for line in linked.stdout.splitlines()]
    assert [(c["entity_id"], c["match_type"]) for c in found] == [("2", "case"), ("3", "exact")]
    (tmp_path / "plain.csv").write_text("3,rash\n9,gone\n")
    asked = run(app, ["kb", "remove", str(kbdir), "--from", str(tmp_path / "plain.csv")])
    assert "--id-column: 1, 2" in asked.stderr
    command = ["kb", "remove", str(kbdir), "--from", str(tmp_path / "plain.csv"), "--missing-ok"]
    for column, status in (("9", 1), ("1", 0)):
        assert run(app, [*command, "--id-column", column]).exit_code == status
    (tmp_path / "empty.csv").write_text("")
    empty = run(app, ["kb", "remove", str(kbdir), "--from", str(tmp_path / "empty.csv")])
    assert empty.exit_code == 1
    assert "empty.csv" in empty.stderr
    nothing = run(app, ["kb", "remove", str(kbdir)])
    assert "no ids to remove" in nothing.stderr


def test_the_columns_of_tables_can_be_named_wherever_vocabularies_are_read(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    run = CliRunner().invoke
    old, new, kbdir = tmp_path / "a.csv", tmp_path / "b.csv", tmp_path / "kb"
    old.write_text("sku;titel;syn;brand\n1;fever;heat;x\n2;rash;;y\n")
    new.write_text("sku;titel;syn;brand\n1;fever;heat|hot;x\n3;cough;;y\n")
    obo = tmp_path / "c.obo"
    obo.write_text("format-version: 1.2\n\n[Term]\nid: 1\nname: fever\n")
    named = ["--id-column", "sku", "--name-column", "titel", "--alias-column", "syn"]
    result = run(app, ["index", str(tiny_bundle), str(old), "--out", str(kbdir), *named])
    assert result.exit_code == 0, result.output
    for one in (old, kbdir):
        assert run(app, ["kb", "diff", str(one), str(new)]).exit_code == 1
        result = run(app, ["kb", "diff", str(one), str(new), *named, "--field", "brand"])
        record = json.loads(result.stdout)
        assert record["counts"] == {"retired": 1, "added": 1, "name added": 1}
        assert "brand" not in result.stderr
    assert run(app, ["kb", "diff", str(obo), str(new), *named]).exit_code == 0
    assert "--id-column" in run(app, ["kb", "diff", str(obo), str(obo), *named]).stderr
    out = tmp_path / "e.jsonl"
    command = ["kb", "enrich", str(old), "--from", str(new), "--out", str(out), *named]
    assert run(app, [*command, "--field", "brand"]).exit_code == 0
    first = json.loads(out.read_text().splitlines()[0])
    assert [alias["name"] for alias in first["aliases"]] == ["heat", "hot"]
    assert first["fields"] == {"brand": ["x"]}
    new.write_text(new.read_text() + ";nothing;;\n")
    assert run(app, [*command, "--force"]).exit_code == 1
    result = run(app, [*command, "--force", "--skip-bad"])
    assert "1 bad row" in result.stderr
    mapped = run(app, ["map", str(old), str(kbdir), "--out", str(tmp_path / "m.sssom.tsv"), *named])
    assert "2 of 2 entities mapped" in mapped.stderr
    calibrated = run(
        app, ["calibrate", str(kbdir), "--from-kb", str(new), *named, "--skip-bad", "--dry-run"]
    )
    assert "1 bad row" in calibrated.stderr
    assert "1 name of twins" in calibrated.stderr
    for wrong in (
        [str(old), "--name-column", "titel"],
        ["--from-kb", str(new), "--mention-column", "x"],
    ):
        assert "--name-column" in run(app, ["calibrate", str(kbdir), *wrong]).stderr
