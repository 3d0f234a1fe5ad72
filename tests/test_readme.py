"""What the README tells a reader to type exists, and its tree is the tree."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from mirror_rt_cli.app import app

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("mirror-rt ")
]


def test_the_readme_has_the_whole_way() -> None:
    told = {shlex.split(line)[1] for line in COMMANDS}
    assert {"train", "export", "embed", "index", "link", "search", "evaluate", "info"} <= told


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_readme_parses(line: str) -> None:
    _, name, *words = shlex.split(line)
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    context = command.make_context(name, words, resilient_parsing=False)
    assert context.args == []


def test_every_place_in_the_tree_is_there() -> None:
    tree = README.split("## Where things are")[1].split("```")[1]
    folder = ""
    for line in tree.splitlines():
        for name in re.findall(r"(?<!\S)[\w./]+(?:/|\.py)(?!\S)", line.split("   ")[0] + "   "):
            folder = name if not line.startswith(" ") else folder
            path = ROOT / name if not line.startswith(" ") else ROOT / folder / name
            assert path.exists(), f"{path.relative_to(ROOT)} is in the README's tree only"


def test_every_link_to_a_page_leads_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_make_targets_it_names_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)", README)) <= targets


@pytest.mark.slow
def test_its_python_runs_where_a_quickstart_was_made(tmp_path: Path) -> None:
    made = ROOT / "quickstart"
    if not (made / "kb").is_dir():
        pytest.skip("no quickstart/ folder; make it with: make quickstart")
    (tmp_path / "quickstart").symlink_to(made)
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        done = subprocess.run(
            [sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout


def test_no_placeholder_is_left() -> None:
    assert re.findall(r"^[A-Z_]{8,}$", README, re.MULTILINE) == []
