"""The pages of tasks and the README: every block is run, in order, and prints what the page says.

In a page a block with a title is a file; ``sh`` and ``python`` are run; ``text`` is what the block
before it prints, where numbers with a point may differ a little; ``console`` shows what needs
other data or machines, and must at least be a command with these options.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from mirror_rt_cli.app import app

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = [*sorted((DOCS / "tasks").glob("*.md")), DOCS.parent / "README.md"]
NEEDS = {"match-a-table": "matplotlib", "spacy": "spacy", "train-on-your-own-names": "torch"}
NUMBER = re.compile(r"(\d*\.\d+)")


def blocks_of(page: Path) -> list[tuple[str, str, str]]:
    """Language, title and text of each block."""
    found = re.findall(r"^```(\w+)([^\n]*)\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)
    return [
        (language, (re.search(r'title="([^"]+)"', rest) or ["", ""])[1], text)
        for language, rest, text in found
    ]


def same(printed: str, told: str) -> bool:
    """Whether two outputs are the same but for the ends of lines and .06 in numbers."""
    one, two = (
        NUMBER.split(
            "\n".join(re.sub(r" {2,}", "  ", line.rstrip()) for line in text.strip().splitlines())
        )
        for text in (printed, told)
    )
    return len(one) == len(two) and all(
        abs(float(a) - float(b)) < 0.06 if i % 2 else a == b
        for i, (a, b) in enumerate(zip(one, two, strict=True))
    )


SLOW = {"train-on-your-own-names"}


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.stem, marks=pytest.mark.slow if page.stem in SLOW else ())
        for page in PAGES
    ],
)
def test_a_page_runs_as_printed(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if page.stem in NEEDS:
        pytest.importorskip(NEEDS[page.stem])
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "100",
    }
    printed = ""
    for language, title, text in blocks_of(page):
        if title:
            (tmp_path / title).write_text(text, encoding="utf-8")
        elif language in ("sh", "python"):
            if "bert-base-uncased" in text:  # a name on the hub; here a small model stands for it
                base = request.getfixturevalue("tiny_bert")
                text = text.replace("bert-base-uncased", shlex.quote(str(base)))
            command = ["bash", "-e", "-c"] if language == "sh" else [sys.executable, "-c"]
            done = subprocess.run(
                [*command, text], cwd=tmp_path, env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, f"{text}\n{done.stderr}"
            printed = done.stdout
        elif language == "text":
            assert same(printed, text), f"the page says\n{text}\nand this is printed\n{printed}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_that_are_only_shown_parse(page: Path) -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for language, _, text in blocks_of(page):
        for line in text.splitlines() if language == "console" else ():
            if line.startswith(("$ make ", "$ pip ", "$ curl ")):
                continue
            assert line.startswith("$ mirror-rt ")
            name, *words = shlex.split(line)[2:]
            command = commands[name]
            assert command.make_context(name, words, resilient_parsing=True) is not None
            options = {o for parameter in command.params for o in parameter.opts}
            assert {word for word in words if word.startswith("-")} <= options


def test_every_page_is_in_the_menu() -> None:
    menu = (DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8")
    for page in DOCS.rglob("*.md"):
        assert f": {page.relative_to(DOCS).as_posix()}\n" in menu, f"{page.name} is in no menu"


def test_the_code_that_the_design_names_is_there() -> None:
    page = (DOCS / "design.md").read_text(encoding="utf-8")
    package = DOCS.parent / "mirror_rt"
    folders = [DOCS.parent, package, *(p for p in package.rglob("*") if p.is_dir())]
    named = re.findall(r"`([\w/]+\.py)(?:: ([\w., ]+))?`", page)
    assert len(named) > 50
    for file, names in named:
        if file == "cli/NAME.py":  # a command that is to be written
            continue
        found = [folder / file for folder in folders if (folder / file).is_file()]
        assert found, file
        code = "\n".join(path.read_text(encoding="utf-8") for path in found)
        for name in filter(None, (name.strip() for name in names.split(","))):
            last = re.escape(name.split(".")[-1])
            assert re.search(rf"\b(def|class) {last}\b|^{last}\b", code, re.MULTILINE), name
