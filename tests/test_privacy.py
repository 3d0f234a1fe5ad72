"""Nothing is reported home, and nothing is left in the user's home folder.

Native code cannot be watched by patching Python. So each command runs in a process of its own
with an empty home, which must stay empty: a library that reports keeps an id and a queue there.
Where strace is installed, no process may ask for a name or an address of the internet either.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = "from mirror_rt_cli.app import main; main()"
SWITCHES = ("ORT_DISABLE_TELEMETRY", "RAY_USAGE_STATS_ENABLED", "HF_HUB_DISABLE_TELEMETRY")
LOOKED_UP = re.compile(r"sa_family=AF_INET6?, sin6?_port=htons\((?!0\))")


def run(home: Path, code: str, *arguments: object, work: Path, watch: bool = True) -> str:
    """Run code with an empty home; return what the system was asked for on the network."""
    away = {*SWITCHES, "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR", "HF_HUB_OFFLINE"}
    environment = {name: value for name, value in os.environ.items() if name not in away}
    environment["HOME"] = str(home)
    command = [sys.executable, "-c", code, *map(str, arguments)]
    log = work / "strace.log"
    watched = watch and shutil.which("strace") is not None
    if watched:
        command = ["strace", "-f", "-qq", "-e", "trace=connect,sendto", "-o", str(log), *command]
    done = subprocess.run(
        command, env=environment, cwd=work, capture_output=True, text=True, check=False
    )
    if watched and "ptrace" in done.stderr.lower():
        return run(home, code, *arguments, work=work, watch=False)
    assert done.returncode == 0, done.stderr
    return log.read_text(errors="replace") if watched else ""


@pytest.fixture(scope="module")
def made(tiny_bert: Path, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a bundle, names, gold and a knowledge base."""
    from mirror_rt.knowledge import KnowledgeBase
    from mirror_rt.knowledge.formats import read_entities

    work = tmp_path_factory.mktemp("private")
    rows = "".join(f"A:{n}\tname {n}\n" for n in range(40))
    (work / "kb.tsv").write_text(f"id\tname\n{rows}")
    (work / "gold.tsv").write_text(
        "mention\tid\n" + "".join(f"nam {n}\tA:{n}\n" for n in range(40))
    )
    (work / "names.txt").write_text("".join(f"name {n}\n" for n in range(40)))
    shutil.copytree(tiny_bundle, work / "bundle")
    shutil.copytree(tiny_bert, work / "base")
    KnowledgeBase.build(work / "bundle", read_entities(work / "kb.tsv"), work / "kb").close()
    return work


COMMANDS = {
    "help": "--help",
    "corpus": "corpus names kb.tsv --out corpus.txt",
    "train": "train names.txt --base base --out model --batch-size 8 --max-steps 2",
    "export": "export base --out exported --precision fp32",
    "embed": "embed bundle names.txt --out v.npy",
    "index": "index bundle kb.tsv --out kb2",
    "add": "kb add kb kb.tsv",
    "stats": "kb stats kb.tsv",
    "link": "link kb names.txt",
    "workers": "link kb names.txt --workers 2",
    "search": "search kb names.txt",
    "calibrate": "calibrate kb gold.tsv --plot bins.png",
    "evaluate": "evaluate kb --gold gold.tsv --plot scores.png",
    "info": "info bundle",
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_leaves_the_home_empty_and_looks_nothing_up(
    made: Path, tmp_path: Path, name: str
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    asked = run(home, PROGRAM, *COMMANDS[name].split(), work=made)
    assert [path.name for path in home.rglob("*")] == []
    assert not [line for line in asked.splitlines() if LOOKED_UP.search(line)]


@pytest.mark.parametrize(
    "module",
    [
        "mirror_rt.runtime.session",
        "mirror_rt.knowledge",
        "mirror_rt.spacy_linker",
        "mirror_rt.runtime.ray_worker",
    ],
)
def test_an_import_from_python_is_as_quiet(tmp_path: Path, module: str) -> None:
    if module == "mirror_rt.spacy_linker":
        pytest.importorskip("spacy")
    home = tmp_path / "home"
    home.mkdir()
    run(home, f"import {module}, onnxruntime", work=tmp_path)
    assert [path.name for path in home.rglob("*")] == []


@pytest.mark.parametrize("switch", SWITCHES)
def test_what_the_user_has_set_stands(monkeypatch: pytest.MonkeyPatch, switch: str) -> None:
    code = f"import os, mirror_rt; print(os.environ[{switch!r}])"
    for given in ("0", "1", "yes"):
        monkeypatch.setenv(switch, given)
        told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert told.stdout.strip() == given
