"""The commands, links and targets in the README exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer.main

from mirror_rt_cli.app import app

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.removeprefix("$ ").split("#")[0].strip()
    for block in re.findall(r"```(?:sh|console)\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.startswith(("mirror-rt ", "$ mirror-rt "))
]


def test_the_readme_has_the_whole_way() -> None:
    output = {shlex.split(line)[1] for line in COMMANDS}
    assert {"train", "export", "embed", "index", "link", "search", "evaluate", "info"} <= output


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_readme_parses(line: str) -> None:
    _, name, *words = shlex.split(re.split(" [>|] ", line)[0])
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    context = command.make_context(name, words, resilient_parsing=False)
    assert context.args == []


def test_every_link_to_a_page_leads_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_make_targets_it_names_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)", README)) <= targets


def test_no_placeholder_is_left() -> None:
    assert re.findall(r"^[A-Z_]{8,}$", README, re.MULTILINE) == []
