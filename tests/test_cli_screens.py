"""What a person sees: help, completion, tables on a terminal and lines in a pipe, at any width."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.types import Entity, Name
from mirror_rt_cli import output
from mirror_rt_cli.app import app

PROGRAM = [
    sys.executable,
    "-c",
    "import sys; sys.argv[0] = 'mirror-rt'; from mirror_rt_cli.app import main; main()",
]
WIDTHS = ("80", "200")
pty = pytest.importorskip("pty", reason="no pseudo-terminals here")


def commands() -> dict[str, object]:
    """Return every command by its words."""
    found: dict[str, object] = {}

    def walk(group: object, words: str) -> None:
        for name, command in group.commands.items():  # type: ignore[attr-defined]
            found[f"{words} {name}".strip()] = command
            if hasattr(command, "commands"):
                walk(command, f"{words} {name}")

    walk(typer.main.get_command(app), "")
    return found


def on_terminal(*words: object, width: int = 80) -> tuple[list[str], list[str]]:
    """Run the program on a pseudo-terminal; return its lines, and those of a progress bar."""
    first, second = pty.openpty()
    code = (
        "import fcntl, struct, termios, os; fcntl.ioctl(1, termios.TIOCSWINSZ, "
        f"struct.pack('HHHH', 50, {width}, 0, 0)); from mirror_rt_cli.app import main; main()"
    )
    environment = {k: v for k, v in os.environ.items() if k not in {"COLUMNS", "LINES"}}
    running = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        stdin=second, stdout=second, stderr=second, env={**environment, "TERM": "xterm"},
    )  # fmt: skip
    os.close(second)
    shown = b""
    while True:
        try:
            some = os.read(first, 65_536)
        except OSError:  # the other end is closed
            break
        if not some:
            break
        shown += some
    os.close(first)
    assert running.wait() == 0, shown.decode()
    lines = shown.decode().replace("\r\n", "\n").replace("\r", "\n").split("\n")
    plain = [re.sub(r"\x1b\[[?0-9;]*[a-zA-Z]", "", line) for line in lines]
    plain = [line for line in plain if not line.startswith("no room here for")]  # a sentence
    bar = [line for line in plain if "━" in line]
    return [line for line in plain if line.strip() and line not in bar], bar


@pytest.fixture(scope="module")
def kb(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("screens")
    entities = [
        Entity(id=f"N:{i}", names=(Name(text=f"name number {i}"), Name(text=f"alias {i} of it")))
        for i in range(40)
    ]
    KnowledgeBase.build(tiny_bundle, entities, work / "kb").close()
    rows = "".join(f"name numbr {i}\tN:{i}\n" for i in range(30))
    (work / "gold.tsv").write_text("mention\tid\n" + rows)
    return work / "kb"


@pytest.mark.parametrize("width", WIDTHS)
def test_every_command_and_option_has_help_that_is_not_cut(width: str) -> None:
    whole = commands()
    overview = CliRunner().invoke(app, ["--help"], env={"COLUMNS": width}).stdout
    assert max(map(len, overview.splitlines())) <= int(width)
    for words, command in whole.items():
        shown = CliRunner().invoke(app, [*words.split(), "--help"], env={"COLUMNS": width}).stdout
        assert max(map(len, shown.splitlines())) <= int(width), words
        there = set(shown.split())
        for parameter in command.params:  # type: ignore[attr-defined]
            for option in parameter.opts:
                if option.startswith("--"):
                    assert option in shown, (words, option)
            lost = {word for word in (getattr(parameter, "help", "") or "").split()} - there
            assert not lost, (words, parameter.name)
        first = (command.help or "").split("\n\n")[0].replace("\n", " ")  # type: ignore[attr-defined]
        assert first.endswith("."), words
        assert len(first) <= 60, (words, first)
        if " " not in words and width == "80":
            assert any(words in line and first in line for line in overview.splitlines()), words


@pytest.mark.parametrize("command", ["link", "index", "evaluate", "calibrate"])
def test_examples_in_the_help_name_options_that_are_there(command: str) -> None:
    found = commands()[command]
    examples = [
        line.strip()
        for line in (found.help or "").splitlines()  # type: ignore[attr-defined]
        if line.strip().startswith(f"mirror-rt {command} ")
    ]
    assert examples
    known = {option for p in found.params for option in p.opts}  # type: ignore[attr-defined]
    for example in examples:
        assert {word for word in example.split() if word.startswith("-")} <= known


@pytest.mark.parametrize("command", ["train", "link", "evaluate"])
def test_options_are_in_groups(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "100"}).stdout
    panels = [line for line in shown.splitlines() if line.startswith("╭")]
    assert len(panels) >= 5


def test_completion_knows_commands_and_options() -> None:
    def completed(line: str) -> list[str]:
        environment = {
            **os.environ,
            "_MIRROR_RT_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(line.split(" ")) - 1),
        }
        done = subprocess.run(PROGRAM, env=environment, capture_output=True, text=True, check=False)
        return done.stdout.split()

    assert "evaluate" in completed("mirror-rt ev")
    assert "link" not in completed("mirror-rt ev")
    assert {"--target-precision", "--top"} <= set(completed("mirror-rt link --t"))
    assert completed("mirror-rt kb sp") == ["split"]
    script = subprocess.run(
        [*PROGRAM, "--show-completion", "bash"], capture_output=True, text=True, check=False
    )
    assert "complete" in script.stdout or "shell" in script.stdout.lower() + script.stderr.lower()


def test_the_package_runs_as_the_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mirror_rt", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("mirror-rt ")


def test_a_terminal_gets_tables_and_bars_and_a_pipe_gets_json_lines(kb: Path) -> None:
    gold = kb.parent / "gold.tsv"
    for words, width, heading in (
        (["link", kb, "name numbr 3", "alias 4 of it"], 200, "mention"),
        (["evaluate", kb, "--gold", gold], 110, "task"),
    ):
        shown, bar = on_terminal(*words, width=width)
        assert max(map(len, shown)) <= width, words
        assert any(line.startswith(heading) for line in shown), words
    assert any("30/30" in line and "mentions/s" in line for line in bar)
    piped = CliRunner().invoke(app, ["link", str(kb), "name numbr 3"]).stdout
    assert json.loads(piped)["mention"] == "name numbr 3"
    piped = CliRunner().invoke(app, ["evaluate", str(kb), "--gold", str(gold)]).stdout
    assert json.loads(piped)["reports"]


def test_columns_without_room_are_named(kb: Path) -> None:
    for width, result in (("80", True), ("250", False)):
        done = CliRunner().invoke(
            app, ["link", str(kb), "name numbr 3", "-f", "table"], env={"COLUMNS": width}
        )
        assert done.exit_code == 0, done.output
        headings = done.stdout.splitlines()[0].split()
        assert ("no room here for" in done.stderr) is result
        if result:
            named = done.stderr.split("for ")[1].split(";")[0].split(", ")
            assert not set(named) & set(headings)
            record = json.loads(CliRunner().invoke(app, ["link", str(kb), "name numbr 3"]).stdout)
            filled = {name for name, value in record["candidates"][0].items() if value}
            assert filled - set(headings) <= set(named)


@pytest.mark.parametrize("form", ["json", "csv"])
def test_results_in_one_document_are_whole(kb: Path, form: str, tmp_path: Path) -> None:
    import csv

    words = ["name numbr 3", "?", "alias 4 of it"]
    done = CliRunner().invoke(app, ["link", str(kb), *words, "-f", form, "-k", "2"])
    if form == "json":
        assert [found["mention"] for found in json.loads(done.stdout)] == words
        return
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert list(dict.fromkeys(row["mention"] for row in rows)) == words
    assert next(row for row in rows if row["mention"] == "?")["nil_reason"] == "punctuation"
    done = CliRunner().invoke(
        app, ["search", str(kb), *words[:1], "--out", str(tmp_path / "found.json")]
    )
    assert (done.exit_code, done.stdout) == (0, "")
    (found,) = json.loads((tmp_path / "found.json").read_text())
    assert found["query"] == words[0]


def test_a_folder_and_a_whole_text_are_no_mentions(kb: Path) -> None:
    for word in (str(kb.parent), "A long report.\n" * 3, "x" * 5_000):
        for command in ("link", "search"):
            done = CliRunner().invoke(app, [command, str(kb), word])
            assert (done.exit_code, done.stdout) == (1, ""), word[:20]
            assert done.stderr.count("\n") == 1


def test_link_says_which_probability_a_precision_took(kb: Path) -> None:
    gold = kb.parent / "gold.tsv"
    with KnowledgeBase.open(kb) as opened:
        reached = [p for p in opened.resources.reranker.operating_points if p["probability"]]
    wanted = reached[-1]["target_precision"] if reached else 0.0
    if not wanted:
        pytest.skip("no precision of the table is reached by these names")
    done = CliRunner().invoke(
        app, ["link", str(kb), str(gold), "--column", "mention", "--target-precision", str(wanted)]
    )
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    below = sum(line["status"] != "linked" for line in lines)
    assert f"from probability {reached[-1]['probability']:.3f} on" in done.stderr
    assert f"{below} of {len(lines)} mentions" in done.stderr


def test_an_export_tells_its_stages(tiny_bert: Path, tmp_path: Path) -> None:
    from mirror_rt.exporting.pipeline import export
    from mirror_rt.types import Precision

    result: list[tuple[int, int, str]] = []
    export(
        tiny_bert, tmp_path / "out", precision=Precision.FP32,
        progress=lambda done, total, words: result.append((done, total, words)),
    )  # fmt: skip
    assert [(done, total) for done, total, _ in result] == [(0, 3), (1, 3), (2, 3)]


def test_a_table_has_no_empty_columns_and_says_when_its_columns_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    candidate = {"entity_id": "D:1", "entity_name": "Diabetes", "score": 0.9, "tied": False}
    plain, expanded = (
        json.dumps({"mention": "dm", "status": "linked", "candidates": [{**candidate, **more}]})
        for more in ({}, {"expanded_form": "diabetes mellitus"})
    )
    written: list[str] = []
    with output.results(output.Format.TABLE, written.append) as add:
        for block in ([plain], [plain, plain], [expanded]):
            add(block)
    shared = ["mention", "rank", "entity_id", "entity_name", "score"]
    assert written[0].split() == [*shared, "tied", "status"]
    assert [line.split()[0] for line in written] == ["mention", "dm", "dm", "dm", "mention", "dm"]
    assert set(written[4].split()) == {*written[0].split(), "expanded_form"}
