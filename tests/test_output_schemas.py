"""The JSON output of the commands matches ``docs/output.schema.json``."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner

from mirror_rt.bundle import STARTER
from mirror_rt.types import LinkStatus, MatchType, NilReason, Relation
from mirror_rt_cli.app import app
from tests.schemas import SCHEMA, check
from tests.tiny import NAMES


def lines(text: str) -> list[object]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def work(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with names, passages, gold links, mentions and the knowledge bases of both."""
    folder = tmp_path_factory.mktemp("schemas")
    rows = "".join(f"A:{i}\t{name}\n" for i, name in enumerate(NAMES))
    (folder / "kb.tsv").write_text(f"id\tname\n{rows}")
    (folder / "newer.tsv").write_text(f"id\tname\n{rows}B:1\tmigraine\n")
    gold = "".join(f"{name} x\tA:{i}\n" for i, name in enumerate(NAMES))
    (folder / "gold.tsv").write_text(f"mention\tid\n{gold}nothing of these\t\n")
    (folder / "mentions.txt").write_text("fever\nacute cougf\n\nzzz\n")
    (folder / "passages.jsonl").write_text('{"id": "P1", "title": "Cough", "text": "It lasts."}\n')
    run("index", tiny_bundle, folder / "kb.tsv", "--out", folder / "names-kb")
    run(
        "index",
        tiny_bundle,
        folder / "passages.jsonl",
        "--passages",
        "--out",
        folder / "passages-kb",
    )
    run("embed", tiny_bundle, folder / "mentions.txt", "--out", folder / "vectors")
    return folder


def run(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_schema_is_one_and_has_all_the_words_of_the_fields() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    candidate = SCHEMA["$defs"]["candidate"]["properties"]
    assert candidate["match_type"]["enum"] == [member.value for member in MatchType]
    assert candidate["relation"]["enum"] == [*(member.value for member in Relation), None]
    link = SCHEMA["$defs"]["link"]["properties"]
    assert link["status"]["enum"] == [member.value for member in LinkStatus]
    assert link["nil_reason"]["enum"] == [member.value for member in NilReason]


def test_a_field_too_many_or_too_few_does_not_fit() -> None:
    empty = {"mention": "", "status": "nil", "candidates": [], "nil_reason": "empty"}
    check("link", [empty])
    for wrong in ({**empty, "how": "exact"}, {"mention": ""}, {**empty, "status": "none"}):
        with pytest.raises(jsonschema.ValidationError):
            check("link", [wrong])


@pytest.mark.parametrize(
    ("format_", "options"),
    [
        ("link", ["link", "names-kb", "mentions.txt"]),
        ("explain", ["link", "names-kb", "mentions.txt", "--explain"]),
        ("search", ["search", "names-kb", "fever", "nothing"]),
        ("search", ["search", "names-kb", "fever", "--hybrid"]),
        ("search", ["search", "passages-kb", "cough"]),
    ],
)
def test_lines_that_are_printed_fit(work: Path, format_: str, options: list[str]) -> None:
    words = [work / word if (work / word).exists() else word for word in options]
    check(format_, lines(run(*words)))
    if "--explain" not in options:  # which prints lines only
        check(format_, json.loads(run(*words, "--format", "json")))


@pytest.mark.parametrize(("format_", "options"), [("link_row", []), ("link_row_long", ["--long"])])
def test_rows_that_are_written_fit(
    work: Path, tmp_path: Path, format_: str, options: list[str]
) -> None:
    out = tmp_path / "out.jsonl"
    run("link", work / "names-kb", work / "mentions.txt", "--out", out, *options)
    check(format_, lines(out.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("format_", "options"),
    [
        ("evaluate", ["evaluate", "names-kb", "--gold", "gold.tsv"]),
        ("calibrate", ["calibrate", "names-kb", "gold.tsv", "--dry-run"]),
        ("kb_stats", ["kb", "stats", "kb.tsv"]),
        ("kb_diff", ["kb", "diff", "kb.tsv", "newer.tsv"]),
    ],
)
def test_reports_fit(work: Path, format_: str, options: list[str]) -> None:
    words = [work / word if (work / word).exists() else word for word in options]
    check(format_, [json.loads(run(*words, "--format", "json"))])


def test_changes_of_links_fit(work: Path, tmp_path: Path) -> None:
    earlier = tmp_path / "earlier.csv"
    earlier.write_text("mention,entity_id,entity_name,status\nfever,A:999,Heat,linked\n")
    command = ["link", work / "names-kb", work / "mentions.txt", "--against", earlier]
    check("link_change", lines(run(*command, "--format", "jsonl")))


def test_what_info_says_and_manifests_fit(work: Path, tiny_bert: Path, tiny_bundle: Path) -> None:
    for format_, folder in {
        "bundle": tiny_bundle,
        "knowledge_base": work / "names-kb",
        "vectors": work / "vectors",
        "checkpoint": tiny_bert,
    }.items():
        check(f"info_{format_}", lines(run("info", folder, "--json")))
        if format_ != "checkpoint":
            manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
            check(f"manifest_{format_}", [manifest])
    check("info_bundle", lines(run("info", STARTER, "--json")))
    manifest = json.loads((STARTER / "manifest.json").read_text(encoding="utf-8"))
    check("manifest_bundle", [manifest])
