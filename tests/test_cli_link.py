import json
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.cells import cell_len
from typer.testing import CliRunner

from mirror_rt._count import counted
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.knowledge.linking import job
from mirror_rt.runtime.encoder import Encoder
from mirror_rt_cli.app import app
from tests.kb import HEARTS, entity


@pytest.fixture(scope="module")
def hearts(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("kb") / "hearts"
    KnowledgeBase.build(tiny_bundle, HEARTS, out)
    return out


def _run(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments), input=stdin)
    return result.exit_code, result.stdout, result.stderr


def test_link_prints_an_object_a_mention_in_order(hearts: Path) -> None:
    code, out, _ = _run("link", str(hearts), "Liver Cancer", "", "a liver tumor", "--top", "2")
    assert code == 0
    first, empty, last = map(json.loads, out.splitlines())
    with KnowledgeBase.open(hearts) as kb:
        sure = kb.link(["liver cancer"])[0][0].probability
    assert first == {
        "mention": "Liver Cancer",
        "status": "linked",
        "candidates": [
            {
                "entity_id": "H:4",
                "entity_name": "liver cancer",
                "matched_name": "liver cancer",
                "match_type": "case",
                "relation": "exact",
                "score": 1.0,
                "probability": pytest.approx(sure, abs=1e-4),
                "tied": False,
                "expanded_form": "",
            }
        ],
    }
    assert empty == {"mention": "", "status": "nil", "candidates": [], "nil_reason": "empty"}
    assert len(last["candidates"]) == 2
    assert last["candidates"][0]["match_type"] in {"dense", "lexical"}


def test_one_mention_takes_the_path_for_single_strings(
    hearts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[object] = []
    monkeypatch.setattr(Encoder, "encode_counted", lambda *texts, **_: batches.append(texts))
    code, out, err = _run("link", str(hearts), "a lone unknown mention", "--top", "1")
    assert (code, batches, err) == (0, [], "")
    assert json.loads(out)["candidates"]


def test_mentions_from_a_file_standard_input_and_words_give_the_same(
    hearts: Path, tmp_path: Path
) -> None:
    (tmp_path / "mentions").write_text("ASD\nfever\n")
    outs = [
        _run("link", str(hearts), "ASD", "fever"),
        _run("link", str(hearts), str(tmp_path / "mentions")),
        _run("link", str(hearts), "-", stdin="ASD\nfever\n"),
    ]
    assert outs[0][0] == 0
    assert outs[0] == outs[1] == outs[2]


def test_tsv_has_a_row_a_candidate_and_keeps_the_unmatched(hearts: Path) -> None:
    _, out, _ = _run("link", str(hearts), "ASD", "?", "--format", "tsv")
    rows = [line.split("\t") for line in out.splitlines()]
    assert {len(row) for row in rows} == {14}
    assert [(*row[:3], *row[-2:]) for row in rows] == [
        ("mention", "rank", "entity_id", "status", "nil_reason"),
        ("ASD", "1", "H:1", "review", ""),
        ("ASD", "2", "H:5", "review", ""),
        ("?", "", "", "nil", "punctuation"),
    ]


def test_a_table_has_its_columns_aligned(hearts: Path) -> None:
    _, out, _ = _run("link", str(hearts), "ASD", "VSD", "--format", "table")
    head, *rows = out.splitlines()
    assert len(rows) == 3
    assert {row.index("H:") for row in rows} == {head.index("entity_id ")}


def test_search_asks_the_model_even_for_a_name(hearts: Path) -> None:
    code, out, _ = _run("search", str(hearts), "VSD", "--top", "1")
    (found,) = json.loads(out)["candidates"]
    assert code == 0
    assert (found["entity_id"], found["match_type"]) == ("H:2", "dense")


def test_another_bundle_a_missing_file_and_no_knowledge_base_are_reported_in_a_line(
    hearts: Path, tiny_bundle_int8: Path, tmp_path: Path
) -> None:
    for arguments, fault in (
        (["link", str(hearts), "x", "--bundle", str(tiny_bundle_int8)], "was not built with"),
        (["link", str(hearts), "none.txt"], "none.txt: no such file"),
        (["link", str(tmp_path), "x"], "not a knowledge base"),
    ):
        code, out, err = _run(*arguments)
        assert (code, out) == (1, "")
        assert fault in err
        assert err.count("\n") == 1


def test_a_knowledge_base_moved_elsewhere_still_links(hearts: Path, tmp_path: Path) -> None:
    shutil.copytree(hearts, tmp_path / "moved with spaces & ümlaut")
    code, out, _ = _run("link", str(tmp_path / "moved with spaces & ümlaut"), "unknown thing")
    assert code == 0
    assert json.loads(out)["candidates"]


def test_explain_shows_features_ranks_and_the_nearest_others(hearts: Path) -> None:
    code, out, _ = _run("link", str(hearts), "liver cancers", "ASD", "", "--top", "1", "--explain")
    assert code == 0
    liver, asd, empty = (json.loads(line)["candidates"] for line in out.splitlines())
    first, *others = liver
    assert (first["entity_id"], first["rank"], first["returned"]) == ("H:4", 1, True)
    assert set(first["contributions"]) == set(first["features"]) > {"dense_cosine"}
    assert not any(other["returned"] for other in others)
    assert len(others) == 3
    for rank in ("dense_rank", "lexical_rank", "rank_without_context"):
        assert min(c[rank] for c in liver) == 1 < max(c[rank] for c in liver)
    assert [c["tied"] for c in asd[:2]] == [True, True]
    assert asd[0]["features"]["dense_cosine"] == pytest.approx(1.0, abs=1e-2)
    assert empty == []
    options = ["--explain", "--min-probability", "0.999"]
    code, out, _ = _run("link", str(hearts), "liver cancers", "?!", *options)
    assert code == 0
    below, blank = map(json.loads, out.splitlines())
    assert below["nil_reason"] == "below_threshold", "and what came nearest to it"
    assert below["candidates"][0]["entity_id"] == "H:4"
    assert not any(candidate["returned"] for candidate in below["candidates"])
    assert (blank["nil_reason"], blank["candidates"]) == ("punctuation", [])


def test_doubtful_links_are_left_out_in_place(hearts: Path) -> None:
    code, out, _ = _run("link", str(hearts), "qqqq", "VSD", "--min-probability", "0.9")
    assert code == 0
    assert [len(json.loads(line)["candidates"]) for line in out.splitlines()] == [0, 1]
    code, out, err = _run("link", str(hearts), "x", "--explain", "--format", "tsv")
    assert (code, out) == (1, "")
    assert "--explain" in err


def test_a_document_and_composites_are_read(hearts: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("The short stature (SS) of …\n")
    options = ["--document", str(tmp_path / "text"), "--split-composites", "--top", "1"]
    code, out, _ = _run("link", str(hearts), "SS", "liver cancer and short stature", *options)
    assert code == 0
    first, second = (json.loads(line)["candidates"] for line in out.splitlines())
    assert [(c["entity_id"], c["expanded_form"]) for c in first] == [("H:3", "short stature")]
    assert [c["entity_id"] for c in second] == ["H:4", "H:3"]
    options += ["--explain", "--min-probability", "0.5"]
    code, out, err = _run("link", str(hearts), "SS", "liver cancer, qqqq", "qqqq", *options)
    assert code == 0, err
    explained = [json.loads(line)["candidates"] for line in out.splitlines()]
    own = [
        [(c["entity_id"], c["rank"], c["expanded_form"]) for c in e if c["returned"]]
        for e in explained
    ]
    assert own == [[("H:3", 1, "short stature")], [("H:4", 1, "liver cancer")], []]
    _, out, _ = _run("link", str(hearts), "liver cancer, qqqq", *options[:-3], *options[-2:])
    assert json.loads(out)["nil_reason"] == "below_threshold", "of the second part"


def test_a_mention_may_be_any_column_of_any_file_that_embed_reads(
    hearts: Path, tmp_path: Path
) -> None:
    files = {
        "a.csv": 'n,mention\n1,"ASD"\n2,fever\n',
        "a.tsv": "mention\tid\nASD\tH:1\nfever\tH:2\n",
        "a.jsonl": '{"mention": "ASD"}\n{"mention": "fever"}\n',
    }
    words = _run("link", str(hearts), "ASD", "fever")
    for name, content in files.items():
        (tmp_path / name).write_text(content)
        assert _run("link", str(hearts), str(tmp_path / name)) == words
    _, out, _ = _run("search", str(hearts), str(tmp_path / "a.csv"), "--column", "n")
    assert [json.loads(line)["query"] for line in out.splitlines()] == ["1", "2"]


@pytest.mark.parametrize("command", ["link", "search"])
def test_files_are_never_taken_for_mentions(hearts: Path, tmp_path: Path, command: str) -> None:
    (tmp_path / "names.txt").write_text("ASD\n")
    (tmp_path / "empty.txt").touch()
    names, empty = str(tmp_path / "names.txt"), str(tmp_path / "empty.txt")
    for arguments, fault in (
        ([names, empty], "names.txt: is a file among other arguments"),
        (["ASD", names], "names.txt: is a file among other arguments"),
        ([empty], "empty.txt: is empty"),
        (["gone.csv.zst"], "gone.csv.zst: no such file"),
        (["gone.XLSX"], "gone.XLSX: no such file"),
        (["gone.obo.xz"], "gone.obo.xz: no such file"),
        (["gone.bz2"], "gone.bz2: no such file"),
        (["."], ".: is a folder"),
        (["ASD", "--column", "x"], "words have no columns"),
        ([names, "--column", "x"], "plain text has no columns"),
    ):
        code, out, err = _run(command, str(hearts), *arguments)
        assert (code, out) == (1, "")
        assert fault in err
        assert err.count("\n") == 1
    assert _run(command, str(hearts), "x", "--top", "0")[0] == 2


def test_an_option_that_words_cannot_have_is_named(hearts: Path) -> None:
    for option in ("--column", "--context-column"):
        code, _, err = _run("link", str(hearts), "ASD", option, "sentence")
        assert (code, err) == (1, f"mirror-rt: {option}: words have no columns; name a file\n")


def test_a_whole_text_is_no_mention(hearts: Path) -> None:
    assert _run("link", str(hearts), "atrial septal defect " * 40)[0] == 0
    for text in ("atrial septal defect " * 80, "atrial septal defect.\nFever."):
        code, out, err = _run("link", str(hearts), "ASD", text)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert f"is a text of {len(text):,} characters" in err


@pytest.mark.parametrize("form", ["jsonl", "tsv", "table"])
def test_blocks_make_one_output(
    hearts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    (tmp_path / "names.txt").write_text("ASD\nVSD\nASD\nliver cancer\n\n")
    arguments = ["link", str(hearts), str(tmp_path / "names.txt"), "--format", form]
    whole = _run(*arguments)
    monkeypatch.setattr(job, "BLOCK", 2)
    in_blocks = _run(*arguments)

    def rows(out: str) -> list[list[str]]:  # a table has a heading for each set of columns
        return [line.split() for line in out.splitlines() if not line.startswith("mention  ")]

    assert rows(in_blocks[1]) == rows(whole[1])
    assert len(rows(whole[1])) > 4


def test_what_was_answered_is_out_before_a_later_row_fails(
    hearts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "BLOCK", 2)
    (tmp_path / "names.txt").write_bytes(b"ASD\nVSD\n\xff\n")
    code, out, err = _run("link", str(hearts), str(tmp_path / "names.txt"))
    assert code == 1
    assert [json.loads(line)["mention"] for line in out.splitlines()] == ["ASD", "VSD"]
    assert "line 3 is not UTF-8" in err


@pytest.mark.parametrize("extra", [[], ["--explain"]])
def test_mentions_cut_off_are_counted(hearts: Path, tmp_path: Path, extra: list[str]) -> None:
    long = "atrial septal defect " * 40
    (tmp_path / "m.txt").write_text(f"{long}\n{long * 2}\nx\n")
    _, _, err = _run("link", str(hearts), long, "x", *extra)
    assert err == "cut off at 64 tokens: 1 string\n"
    _, _, err = _run("link", str(hearts), str(tmp_path / "m.txt"), *extra)
    first, second = err.splitlines()
    assert first.startswith("1 long mention: ")
    assert "1,024 characters" in first
    assert second == "cut off at 64 tokens: 2 strings"
    _, _, err = _run("link", str(hearts), "x", *extra)
    assert err == ""


def test_contexts_cut_off_are_counted_apart_and_descriptions_are_not(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = "atrial septal defect " * 40
    entities = [replace(entity(id_, "cold"), description=long) for id_ in ("C:1", "C:2")]
    KnowledgeBase.build(tiny_bundle, entities, tmp_path / "kb").close()
    monkeypatch.setattr(job, "BLOCK", 2)
    (tmp_path / "m.tsv").write_text(f"mention\tc\ncold\t{long}\ncold\tx\ncold\t{long}\ncold\tred\n")
    kb, mentions, output = str(tmp_path / "kb"), str(tmp_path / "m.tsv"), "cut off at 64 tokens: "
    _, _, err = _run("link", kb, "cold", "--context", "red rash")
    assert err == ""
    for extra in ([], ["--explain"]):
        # Two equal mentions without context or document are one; in a column, each block counts.
        for more, count in ((["--context", long], 1), (["--context-column", "c"], 2)):
            _, _, err = _run("link", kb, mentions, "--column", "mention", *more, *extra)
            assert err == f"{output}{counted(count, 'context')}\n"
    _, _, err = _run("link", kb, long, "cold", "--context", long)
    assert err == f"{output}1 string\n{output}1 context\n"


@pytest.mark.parametrize("width", [20, 60, 100, 160])
def test_a_table_fits_the_terminal(
    hearts: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    long = "a very long mention of nothing in particular that goes on and on and on"
    code, out, _ = _run("link", str(hearts), "ASD", "心房中隔欠損症" * 6, long, "-f", "table")
    lines = out.splitlines()
    assert code == 0
    assert len(lines) > 8
    assert max(map(cell_len, lines)) <= width
    head = lines[0].split()
    assert "entity_id" in head
    assert ("status" in head, "tied" in head) == (width >= 60, width >= 160)
    if width >= 60:
        assert {cell_len(line[: line.index("H:")]) for line in lines[1:]} == {
            cell_len(lines[0][: lines[0].index("entity_id ")])
        }


def test_a_table_holds_no_control_characters(hearts: Path) -> None:
    _, out, _ = _run("link", str(hearts), "evil\x1b[31m\x9b2Jtext\r", "-f", "table")
    assert not any(ord(sign) < 32 or 127 <= ord(sign) < 160 for sign in out if sign != "\n")
    assert "evil" in out


def test_filters_restrict_link_and_search(hearts: Path) -> None:
    for command in ("link", "search"):
        code, out, _ = _run(command, str(hearts), "atrial defect", "--filter", "id=H:3,H:4")
        assert code == 0
        assert {c["entity_id"] for c in json.loads(out)["candidates"]} == {"H:3", "H:4"}
        both = ["--filter", "id=H:3,H:4", "--filter", "type=growth"]
        _, out, _ = _run(command, str(hearts), "atrial defect", *both)
        assert [c["entity_id"] for c in json.loads(out)["candidates"]] == ["H:3"]
        for condition, fault in (("growth", "give FIELD=VALUE"), ("type=x", "has the type 'x'")):
            code, out, err = _run(command, str(hearts), "x", "--filter", condition)
            assert (code, out, err.count("\n")) == (1, "", 1)
            assert fault in err


def test_a_context_decides_on_the_command_line_and_in_a_column(
    hearts: Path, tmp_path: Path
) -> None:
    profiles = {
        "H:1": "atrial septal defect; ASD; hole in the heart",
        "H:5": "autism spectrum disorder; ASD",
    }
    (tmp_path / "a.tsv").write_text(
        "mention\tsentence\n" + "".join(f"ASD\t{text}\n" for text in profiles.values()) + "ASD\t\n"
    )
    options = ["--context-column", "sentence"]
    _, out, _ = _run("link", str(hearts), str(tmp_path / "a.tsv"), *options)
    rows = [json.loads(line)["candidates"] for line in out.splitlines()]
    assert [row[0]["entity_id"] for row in rows] == ["H:1", "H:5", "H:1"]
    assert [["context_score" in c for c in row] for row in rows] == [[True] * 2] * 2 + [[False] * 2]
    for id_, text in profiles.items():
        _, out, _ = _run("link", str(hearts), "ASD", "--context", text)
        assert json.loads(out)["candidates"][0]["entity_id"] == id_
    _, out, _ = _run("link", str(hearts), "ASD", "--context", profiles["H:5"], "--explain")
    first = json.loads(out)["candidates"][0]
    assert (first["entity_id"], first["rank"], first["rank_without_context"]) == ("H:5", 1, 2)
    for extra, fault in (
        (["ASD", *options], "words have no columns"),
        ([str(tmp_path / "a.tsv"), *options, "--context", "x"], "give one of them"),
        ([str(tmp_path / "a.tsv"), "--context-column", "text"], "no column 'text'"),
    ):
        code, out, err = _run("link", str(hearts), *extra)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert fault in err


def test_json_sends_no_control_character_to_a_terminal(hearts: Path) -> None:
    code, out, _ = _run("link", str(hearts), "liver \x9b31m \x1b[31m \x7f cancer")
    assert code == 0
    assert not set(out) & {"\x9b", "\x1b", "\x7f"}
    assert json.loads(out)["mention"] == "liver \x9b31m \x1b[31m \x7f cancer"


def test_a_null_is_an_empty_mention_in_its_place_and_blank_rows_are_counted(
    hearts: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"mention": "ASD", "c": "x"}\n\n'
        '{"mention": null, "c": null}\n'
        '{"mention": "VSD", "c": ""}\n'
    )
    (tmp_path / "a.csv").write_text("mention,c\nASD,x\n\n,\n\nVSD,\n")
    columns = {"mention": ["ASD", None, "VSD"], "c": ["x", None, ""]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    for name, blank in (("a.jsonl", 1), ("a.csv", 2), ("a.parquet", 0)):
        file = str(tmp_path / name)
        output = f"{file}: {counted(blank, 'blank row')} passed over\n" if blank else ""
        output += f"{file}: 1 row without text\n"
        code, out, err = _run("link", str(hearts), file, "--context-column", "c")
        records = [json.loads(line) for line in out.splitlines()]
        assert (code, err) == (0, output)
        assert [record["mention"] for record in records] == ["ASD", "", "VSD"]
        nothing = {"mention": "", "status": "nil", "candidates": [], "nil_reason": "empty"}
        assert records[1] == nothing
        code, out, err = _run("search", str(hearts), file, "--top", "1")
        assert (code, err) == (0, output)
        assert [json.loads(line)["query"] for line in out.splitlines()] == ["ASD", "", "VSD"]
    (tmp_path / "a.jsonl").write_text('{"mention": "ASD"}\n{"mentoin": "VSD"}\n')
    code, out, _ = _run("link", str(hearts), str(tmp_path / "a.jsonl"))
    assert code == 0
    assert [json.loads(line)["mention"] for line in out.splitlines()] == ["ASD", ""]


def test_each_mention_may_have_a_document_of_its_own(hearts: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.tsv"
    texts = ["The short stature (SS) of", "no SS", "A septal spot (SS) is"]
    rows = "".join(f"SS\t{text}\tc{i}\n" for i, text in enumerate(texts))
    file.write_text("mention\ttext\tc\n" + rows)
    options = [str(file), "--column", "mention", "--document-column", "text", "--top", "1"]
    for more in ([], ["--context-column", "c"]):
        code, out, _ = _run("link", str(hearts), *options, *more)
        found = [json.loads(line)["candidates"][0] for line in out.splitlines()]
        assert code == 0
        assert [c["expanded_form"] for c in found] == ["short stature", "", "septal spot"]
        assert found[0]["entity_id"] == "H:3"
    for arguments, fault in (
        ([*options, "--document", str(file)], "--document and --document-column: give one"),
        (
            [*options, "--no-expand-abbreviations"],
            "--no-expand-abbreviations: a document only expands",
        ),
        (["SS", "--document-column", "text"], "--document-column: words have no columns"),
        ([str(file), "--document-column", "txt"], "no column 'txt'"),
    ):
        code, out, err = _run("link", str(hearts), *arguments)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert fault in err
