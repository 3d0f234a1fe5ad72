"""Rules of the whole repository: one writer, complete extras, one spelling of options."""

from __future__ import annotations

import ast
import itertools
import re
import sys
from pathlib import Path

import pytest
import typer.main

import mirror_rt
from mirror_rt_cli.app import app

ROOT = Path(__file__).resolve().parent.parent
if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")


def commands() -> dict[str, dict[str, object]]:
    """Return the parameters of each command by their options."""
    found = {}
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        for one, parts in {name: command, **getattr(command, "commands", {})}.items():
            found[one if one == name else f"{name} {one}"] = {
                option: parameter
                for parameter in parts.params
                for option in (*parameter.opts, *parameter.secondary_opts)
            }
    return found


def test_only_staging_renames_over_a_target_and_locks() -> None:
    # These two move what is built into the folder from ``staging``.
    inside = {"mirror_rt/quickstart.py", "mirror_rt/exporting/pipeline.py"}
    for path in [*ROOT.glob("mirror_rt/**/*.py"), *ROOT.glob("cli/*.py")]:
        name = path.relative_to(ROOT).as_posix()
        if name.startswith("mirror_rt/staging"):
            continue
        code = path.read_text(encoding="utf-8")
        assert not re.search(r"\bfcntl\b|\bflock\b|os\.replace\(|BEGIN EXCLUSIVE", code), name
        assert "os.rename(" not in code or name in inside, name


def test_only_hashing_writes_json_with_its_own_checksum() -> None:
    for path in ROOT.glob("mirror_rt/**/*.py"):
        code = path.read_text(encoding="utf-8")
        assert path.name == "hashing.py" or '["manifest_sha256"] =' not in code, path


COUNT = re.compile(r"""(:[,d]|\b(len|sum)\([^{}]*\)|\.sum\(\))\} ("\s+f?")?(?!of )[a-z -]*s\b""")


def counts_before_plurals(code: str) -> list[str]:
    """Return the numbers in f-strings that stand before a plural noun."""
    found: list[str] = []
    if not COUNT.search(code):  # parsing takes long
        return found
    for node in ast.walk(ast.parse(code)):
        parts = node.values if isinstance(node, ast.JoinedStr) else []
        for value, after in itertools.pairwise(parts):
            if not isinstance(value, ast.FormattedValue) or not isinstance(after, ast.Constant):
                continue
            what = ast.unparse(value.value)
            spec = ast.unparse(value.format_spec) if value.format_spec else ""
            number = spec in {"f','", "f'd'"} or re.match(r"(len|sum)\(|.*\.sum\(\)", what)
            limit = re.fullmatch(r"_?[A-Z_]+|self\._config\.limits\.\w+", what)
            words = re.match(r" (?!of )(?:[a-z-]+ ){0,2}?([a-z-]+s)\b", after.value)
            if number and not limit and words and words[1] not in {"is", "was", "has", "its", "as"}:
                found.append(f"line {value.lineno}: {what}{words[0]}")
    return found


def test_a_count_before_a_noun_is_written_by_one_function() -> None:
    assert counts_before_plurals(
        'f"{len(rows)} rows"; f"{n:,} different names"; f"{n:,} has it"'
    ) == [
        "line 1: len(rows) rows",
        "line 1: n different names",
    ]
    for path in [*ROOT.glob("mirror_rt/**/*.py"), *ROOT.glob("cli/*.py")]:
        assert counts_before_plurals(path.read_text(encoding="utf-8")) == [], path


BRITISH = re.compile(
    r"(normal|token|quant|optim|initial|serial|summar|organ|recogn|local|standard)is(e|ed|er|es|ing|"
    r"ation)(_|$)|colour|behaviour|centre|neighbour|favour|labell|licence|judgement|analyse|honour",
    re.IGNORECASE,
)


def test_identifiers_have_american_spelling() -> None:
    folders = ("mirror_rt", "cli", "benchmarks", "tests")
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        code = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(code)) if BRITISH.search(code) else ():
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                name = node.name
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                name = node.id
            elif isinstance(node, ast.arg):
                name = node.arg
            else:
                continue
            assert not BRITISH.search(name), f"{path.name}:{node.lineno}: {name}"


def test_the_extra_all_has_what_every_feature_needs() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
        "optional-dependencies"
    ]
    (whole,) = extras["all"]
    listed = set(whole.removeprefix("mirror-rt[").removesuffix("]").split(","))
    for_the_repository = {"all", "bench", "starter", "students", "docs", "dev"}
    assert listed == set(extras) - for_the_repository
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert {name for name in listed if f"`{name}`" not in readme} == set()


def test_a_word_of_an_option_means_one_thing_in_every_command() -> None:
    found = commands()
    assert {name for name, options in found.items() if "--no-force" in options} == set()
    assert {name for name, options in found.items() if "--precision" in options} == {"export"}
    writes = {name for name, options in found.items() if "--out" in options}
    assert len(writes) > 10
    assert {name for name in writes if "-o" not in found[name]} == set()
    assert not hasattr(mirror_rt.Encoder, "calibrate")


def test_an_option_of_several_commands_has_one_help_text() -> None:
    # These say what is counted, written or drawn, which differs between commands.
    by_command = {
        "--bundle", "--count", "--data", "--dims", "--epochs", "--from", "--gold", "--id-column",
        "--kb", "--max-length", "--max-steps", "--min-probability", "--min-top1", "--out",
        "--pairs", "--plot", "--pooling", "--review-below", "--seed", "--source", "--split",
        "--target-precision", "--threads", "--top", "--workers",
    }  # fmt: skip
    helps: dict[str, set[str]] = {}
    for options in commands().values():
        for option, parameter in options.items():
            if option.startswith("--"):
                text = str(getattr(parameter, "help", ""))
                helps.setdefault(option, set()).add(text.split(";")[0].rstrip("."))
    assert {option for option, texts in helps.items() if len(texts) > 1} == by_command


def test_a_virtual_environment_is_ignored_whether_folder_or_link() -> None:
    assert ".venv" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
