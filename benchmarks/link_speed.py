"""Speed of linking: the code of an earlier commit, this code, and peers, interleaved.

The earlier code has a separate environment: that of --old PYTHON, or one that is made in the
folder of --work. Both codes, RapidFuzz and scispaCy's approach (see kb_scale.py) are processes
that hold the same names. They are measured one after another, each alone, on the same cores. No
mention is a name of the knowledge base. None is repeated within a round, or between rounds if
there are enough. Stages:

build   HPO, places: ``mirror-rt index`` of both, a process each, embedding included
medic   mentions of NCBI disease
places  place names with one or two letters changed (each size: links-SIZE)
file    ``mirror-rt link --out`` of a file of mentions over the smaller size, as of link_job.py

Each stage that is done is kept in --work, by both commits: run again, the rest is done. So run
it from a clean checkout.

    python benchmarks/link_speed.py --data DIR --work DIR --out benchmarks/results/link_speed.json
    python benchmarks/link_speed.py --small
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import harness
import kb_scale
import link_job
import name_peers
import places

OLD = "c6f4ef9"
NCBI = "el_ncbi_disease"
TURNS = 5
MANY = 2_000
ONE_BY_ONE = 200
PEER_SECONDS = 5.0
"""A peer is asked some of the mentions, until it has taken so long, in each turn and each way."""

SERVER = r"""
import json, sys, time
here, kb_folder, bundle = sys.argv[1:]
sys.path.insert(0, here)
import harness
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.runtime import Encoder
def timed(work, *given):
    start = time.perf_counter()
    found = work(*given)
    return time.perf_counter() - start, found
def best(found):
    return found[0].entity_id if len(found) else ""
def one(text):
    return kb.link([text])[0]
seconds, kb = timed(KnowledgeBase.open, kb_folder)
answer = {"open_seconds": seconds, "resident_mb": harness.resident_mb()}
encoder = Encoder.open(bundle)
kb.link(["a text to warm up", "and one more"])
encoder.encode(["a text to warm up"])
for line in sys.stdin if print(json.dumps(answer), flush=True) is None else ():
    do, texts = json.loads(line)
    if do == "many":
        seconds, found = timed(kb.link, texts)
        answer = {"seconds": seconds, "mentions": len(texts), "best": [best(f) for f in found]}
    elif do == "one":
        answer = {"each": [timed(one, text)[0] for text in texts]}
    elif do == "encode":
        answer = {"seconds": timed(encoder.encode, texts)[0], "mentions": len(texts)}
    else:
        answer = {"resident_mb": harness.resident_mb(), "peak_mb": harness.peak_mb()}
    print(json.dumps(answer), flush=True)
"""
CLI = r"""
import json, sys
here, *arguments = sys.argv[1:]
sys.path.insert(0, here)
import harness
from mirror_rt_cli.app import main
sys.argv = ["mirror-rt", *arguments]
try:
    main()
except SystemExit as end:
    if end.code:
        raise
print(json.dumps({"peak_mb": round(harness.peak_mb())}))
"""


class Server:
    """A process that holds names and answers requests, one line at a time."""

    def __init__(self, command: Sequence[str], work: Path) -> None:
        # In the work folder: Python looks for packages first where it is started.
        self._process = subprocess.Popen(
            command, cwd=work, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.hello = self._answer()

    def ask(self, do: str, texts: Sequence[str] = ()) -> dict[str, Any]:
        """Send a request, and wait for the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([do, list(texts)]) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args}: ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate()


def serve_peer(name: str, texts: Path) -> None:
    """Serve a peer; ``texts`` has an id and a name per line."""
    pairs = [line.split("\t", 1) for line in texts.read_text(encoding="utf-8").splitlines()]
    start = time.perf_counter()
    peer = name_peers.PEERS[name][1]([text for _, text in pairs], [id_ for id_, _ in pairs])
    answer: dict[str, Any] = {
        "how": peer.how,
        "build_seconds": round(time.perf_counter() - start, 1),
    }
    print(json.dumps(answer), flush=True)
    for line in sys.stdin:
        do, texts = json.loads(line)
        if do == "many":
            size = kb_scale.AT_ONCE
            blocks = [texts[i : i + size] for i in range(0, len(texts), size)]
            found, seconds = name_peers.within(PEER_SECONDS, peer.many, blocks)
            answer = {"seconds": sum(seconds), "mentions": len(found), "best": found}
        elif do == "one":
            _, each = name_peers.within(PEER_SECONDS, peer.one, [[text] for text in texts])
            answer = {"each": each}
        else:
            answer = {"resident_mb": harness.resident_mb(), "peak_mb": harness.peak_mb()}
        print(json.dumps(answer), flush=True)


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two versions of the code.

    Attributes:
        name: ``old`` or ``new``.
        python: Its Python.
        commit: Its commit.
    """

    name: str
    python: Path
    commit: str


@dataclass(frozen=True, kw_only=True)
class Source:
    """Names, and mentions that are not among them.

    Attributes:
        name: A short description.
        file: The names, as ``mirror-rt index`` reads them.
        queries: The mentions.
    """

    name: str
    file: Path
    queries: Sequence[str] = ()

    @cached_property
    def pairs(self) -> list[tuple[str, str]]:
        """Return (id, name) of every name."""
        from mirror_rt.knowledge.formats import read_entities

        return [(e.id, name.text) for e in read_entities(self.file) for name in e.names]


class Bench:
    """Shared by the stages: the two codes, the bundle, the folder."""

    def __init__(self, args: argparse.Namespace, work: Path) -> None:
        self.args = args
        self.work = work
        self.bundle: Path = args.bundle or work / "bundle"
        if not self.bundle.exists():
            from mirror_rt.exporting.pipeline import export
            from mirror_rt.quickstart import demo_model
            from mirror_rt.types import Pooling, Precision

            export(demo_model(), self.bundle, precision=Precision.INT8, pooling=Pooling.MEAN)
        old = args.old or made_python(work)
        self.sides = [
            Side(name=name, python=python, commit=commit_of(python, work))
            for name, python in (("old", old), ("new", Path(sys.executable)))
        ]
        self.turns = 2 if args.small else TURNS

    def folder(self, side: Side) -> Path:
        """Return the folder with the knowledge bases of one code."""
        folder = self.work / f"{side.name}-{side.commit}"
        folder.mkdir(exist_ok=True)
        return folder

    def run(self, side: Side, *arguments: str | Path) -> tuple[float, dict[str, Any]]:
        """Run a command; return its seconds from start to end, and its peak memory."""
        command = [side.python, "-c", CLI, harness.HERE, *arguments]
        start = time.perf_counter()
        done = subprocess.run(command, cwd=self.work, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - start
        if done.returncode:
            raise RuntimeError(f"{side.name}: {done.stderr[-2_000:]}")
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return seconds, answer

    def kb(self, side: Side, source: Source) -> Path:
        """Return the knowledge base of some names; build it if it does not exist."""
        out = self.folder(side) / source.name
        if not out.exists():
            self.run(side, "index", self.bundle, source.file, "--out", out)
        return out

    def medic(self) -> Source:
        """Return MEDIC's names, and the mentions of NCBI disease."""
        from mirror_rt.evaluation.gold import Convention, read_gold

        folder = self.args.data / NCBI
        parts = [folder / f"processed_{part}" for part in ("train", "dev", "test")]
        gold = [q for p in parts for q in read_gold(p, convention=Convention.BIOSYN).queries]
        source = Source(name="MEDIC", file=folder / "train_dictionary.txt")
        queries = unknown((part for query in gold for part in query.parts), source.pairs)
        return Source(name=source.name, file=source.file, queries=queries)

    def places(self, size: int) -> Source:
        """Return names of places, and misspelled ones as mentions."""
        file = self.work / f"places-{size}.jsonl"
        if not file.exists():
            entities, _, _ = places.places(size)
            part = file.with_suffix(".partial")
            with part.open("w", encoding="utf-8") as lines:
                for entity in entities:
                    name, *others = [name.text for name in entity.names]
                    line = {"id": entity.id, "name": name, "aliases": others, "types": entity.types}
                    lines.write(json.dumps(line) + "\n")
            part.replace(file)
        source = Source(name=f"places-{size}", file=file)
        rng = random.Random(5)
        texts = [text for _, text in source.pairs if len(text) > 5]
        count = 2 * self.turns * (self.many + self.one_by_one)
        wrong = (places.misspelt(text, rng) for text in rng.choices(texts, k=count))
        return Source(name=source.name, file=file, queries=unknown(wrong, source.pairs))

    @property
    def many(self) -> int:
        """The number of mentions per batch."""
        return 100 if self.args.small else MANY

    @property
    def one_by_one(self) -> int:
        """The number of mentions that are linked singly."""
        return 20 if self.args.small else ONE_BY_ONE


def unknown(texts: Iterable[str], pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Return the distinct texts that equal no name after normalization."""

    def plain(text: str) -> str:
        return "".join(sign for sign in text.casefold() if sign.isalnum())

    names = {plain(name) for _, name in pairs} | {""}
    first: dict[str, str] = {}
    for text in texts:
        first.setdefault(plain(text), text)
    return [text for key, text in first.items() if key not in names]


def made_python(work: Path) -> Path:
    """Return the Python of an environment with the earlier code; make it if it does not exist."""
    tree = work / f"checkout-{OLD}"
    python = tree / ".venv" / "bin" / "python"
    if not python.exists():
        repository = harness.HERE.parent
        if not tree.exists():
            git = ["git", "-C", str(repository), "worktree", "add", "--detach", str(tree), OLD]
            subprocess.run(git, check=True, stdout=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(tree / ".venv")], check=True)
        pip = [python, "-m", "pip", "install", "-q", "-c", "constraints.txt", "-e", "."]
        subprocess.run(pip, cwd=tree, check=True, stdout=sys.stderr)
    return python


def commit_of(python: Path, work: Path) -> str:
    """Return the commit of the code that a Python imports."""
    where = "import mirror_rt, pathlib; print(pathlib.Path(mirror_rt.__file__).parent)"
    answer = subprocess.run(
        [python, "-c", where], cwd=work, check=True, capture_output=True, text=True
    )
    describe = ["describe", "--always", "--dirty", "--exclude", "*"]
    git = ["git", "-C", answer.stdout.strip(), *describe]
    return subprocess.run(git, check=True, capture_output=True, text=True).stdout.strip()


def build(bench: Bench, source: Source, turns: int) -> dict[str, Any]:
    """Time ``mirror-rt index`` of both codes, interleaved."""
    seconds: dict[str, list[float]] = {side.name: [] for side in bench.sides}
    peaks: dict[str, int] = {}
    for _ in range(turns):
        for side in bench.sides:
            out = bench.folder(side) / source.name
            took, answer = bench.run(
                side, "index", bench.bundle, source.file, "--out", out, "--force"
            )
            seconds[side.name].append(took)
            peaks[side.name] = answer["peak_mb"]
            harness.say(f"build {source.name} {side.name}: {took:.1f} s")
    ways = {
        name: {"seconds": harness.spread(taken), "peak_mb": peaks[name]}
        for name, taken in seconds.items()
    }
    return {"what": source.name, "names": len({text for _, text in source.pairs}), "ways": ways}


def links(bench: Bench, source: Source) -> dict[str, Any]:
    """Measure all methods interleaved: batches, single mentions, exact names, encoding."""
    listing = bench.work / f"{source.name}.names.tsv"
    listing.write_text("".join(f"{i}\t{text}\n" for i, text in source.pairs), encoding="utf-8")
    names = sorted({text for _, text in source.pairs})
    random.Random(6).shuffle(names)
    commands: dict[str, list[str | Path]] = {}
    for side in bench.sides:
        folder = bench.kb(side, source)
        commands[side.name] = [side.python, "-c", SERVER, harness.HERE, folder, bench.bundle]
    for peer, (label, _) in {} if bench.args.no_peers else name_peers.PEERS.items():
        commands[label] = [sys.executable, __file__, "--serve", peer, "--names", listing]
    with ExitStack() as open_:
        servers: dict[str, Server] = {}
        for way, command in commands.items():
            if way in ("old", "new"):
                kb_scale.forget(Path(command[-2]))
            servers[way] = open_.enter_context(Server([str(c) for c in command], bench.work))
        harness.say(f"links {source.name}: all are open")
        rounds = Rounds(bench, source.queries, names)
        answer = {way: Measurements() for way in servers}
        for turn in range(bench.turns):
            for way, server in servers.items():
                time.sleep(0.5)  # threads of the previous process still spin for a moment
                answer[way].turn(server, rounds.texts(turn), encodes=way in ("old", "new"))
                rate = answer[way].rates[-1]
                harness.say(f"links {source.name} {turn + 1}/{bench.turns} {way}: {rate:,.0f}/s")
        found = {way: answer[way].summary(server) for way, server in servers.items()}
    same = [a == b for a, b in zip(answer["old"].best, answer["new"].best, strict=True)]
    return {
        "what": source.name,
        "names": len(names),
        "mentions": len(same),
        "same_first": round(sum(same) / len(same), 4),
        "ways": found,
    }


class Rounds:
    """The texts of each round; they differ between rounds as long as there are enough."""

    def __init__(self, bench: Bench, queries: Sequence[str], names: Sequence[str]) -> None:
        ones = bench.turns * bench.one_by_one
        self._one, rest = queries[:ones], queries[ones:]
        self._many, self._names = rest, names
        self._bench = bench

    def texts(self, turn: int) -> dict[str, Sequence[str]]:
        """Return the texts of a round."""
        many, one = self._bench.many, self._bench.one_by_one
        # If there are too few mentions, every round has the same ones.
        enough = len(self._many) >= many * self._bench.turns
        start = turn * many if enough else 0
        return {
            "many": self._many[start : start + many],
            "one": self._one[turn * one : (turn + 1) * one],
            "name": self._names[turn * one : (turn + 1) * one],
        }


class Measurements:
    """The measurements of one method over all rounds."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.best: list[str] = []
        self._encoded: list[float] = []
        self._one: list[float] = []
        self._name: list[float] = []

    def turn(self, server: Server, texts: dict[str, Sequence[str]], *, encodes: bool) -> None:
        """Measure one round."""
        many = server.ask("many", texts["many"])
        self.rates.append(many["mentions"] / many["seconds"])
        self.best += many["best"]
        self._one += server.ask("one", texts["one"])["each"]
        if encodes:
            self._name += server.ask("one", texts["name"])["each"]
            alone = server.ask("encode", texts["many"])
            self._encoded.append(alone["mentions"] / alone["seconds"])

    def summary(self, server: Server) -> dict[str, Any]:
        """Return the rates, times and memory."""
        opened, memory = server.hello, server.ask("memory")
        answer = {
            "mentions_per_second": harness.spread(self.rates),
            "one_ms": name_peers.percentiles(self._one),
            "asked_one_by_one": len(self._one),
            "resident_at_the_end_mb": memory["resident_mb"],
            "peak_mb": round(memory["peak_mb"]),
        }
        if self._encoded:
            answer["exact_name_ms"] = name_peers.percentiles(self._name)
            answer["encoder_per_second"] = harness.spread(self._encoded)
            answer["resident_after_open_mb"] = opened["resident_mb"]
            answer["open_seconds"] = round(opened["open_seconds"], 3)
        else:
            answer |= opened
        return answer


def file(bench: Bench, source: Source, count: int) -> dict[str, Any]:
    """Time ``mirror-rt link --out`` of a file of mentions, with both codes interleaved."""
    names = list(dict.fromkeys(text for _, text in source.pairs))
    mentions = link_job.mentions(names, count)
    source_file = bench.work / f"mentions-{count}.txt"
    source_file.write_text("".join(f"{text}\n" for text in mentions), encoding="utf-8")
    seconds: dict[str, list[float]] = {side.name: [] for side in bench.sides}
    peaks: dict[str, int] = {}
    for _ in range(2):
        for side in bench.sides:
            kb = bench.kb(side, source)
            with tempfile.TemporaryDirectory(dir=bench.work) as folder:
                out = Path(folder) / "links.jsonl"
                took, answer = bench.run(side, "link", kb, source_file, "--out", out)
                link_job.check(out, mentions)
            seconds[side.name].append(took)
            peaks[side.name] = answer["peak_mb"]
            harness.say(f"file {side.name}: {took:.1f} s")
    ways = {
        name: {"seconds": harness.spread(taken), "peak_mb": peaks[name]}
        for name, taken in seconds.items()
    }
    different = len(set(mentions))
    return {"what": source.name, "mentions": count, "different": different, "ways": ways}


def stages(bench: Bench) -> dict[str, Any]:
    """Return the result of every stage, from the folder or measured now."""
    args = bench.args
    sizes: list[int] = [1_000, 2_000] if args.small else args.sizes
    count = 3_000 if args.small else 1_000_000
    todo: dict[str, Any] = {}
    if args.data is not None:
        hpo = Source(name="HPO", file=args.data / "kb_hpo" / "hpo_names.tsv")
        todo["build-HPO"] = lambda: build(bench, hpo, 1 if args.small else 3)
        todo["links-MEDIC"] = lambda: links(bench, bench.medic())
    for size in sizes:
        todo[f"build-{size}"] = lambda size=size: build(bench, bench.places(size), 1)
        todo[f"links-{size}"] = lambda size=size: links(bench, bench.places(size))
    todo["file"] = lambda: file(bench, bench.places(sizes[0]), count)
    kept = bench.work / "-".join(["link_speed", *(side.commit for side in bench.sides)])
    kept.mkdir(exist_ok=True)
    found: dict[str, Any] = {}
    for name, work in todo.items():
        if args.stages and not any(name.startswith(stage) for stage in args.stages):
            continue
        path = kept / f"{name}.json"
        if not path.exists():
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps(work()) + "\n", encoding="utf-8")
            partial.replace(path)
        found[name] = json.loads(path.read_text(encoding="utf-8"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--old", type=Path, help=f"Python of an environment of {OLD}")
    parser.add_argument("--data", type=Path, help="folder of evaluation sets: MEDIC, NCBI, HPO")
    parser.add_argument("--work", type=Path, help="keep everything here, and go on from it")
    parser.add_argument("--bundle", type=Path, help="by default all-MiniLM-L6-v2 as int8")
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--stages", nargs="+", help="only those that begin so, as build links-1000")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--serve", choices=name_peers.PEERS, help=argparse.SUPPRESS)
    parser.add_argument("--names", type=Path, help=argparse.SUPPRESS)
    args = harness.common(parser)
    harness.pin(args.threads)
    if args.serve:
        serve_peer(args.serve, args.names)
        return
    packages = (*harness.PACKAGES, "faiss-cpu", "rapidfuzz", "scikit-learn", "nmslib")
    record = harness.provenance("link_speed", packages)
    record |= {"load_before": args.load_before, "threads": args.threads}
    with tempfile.TemporaryDirectory() as folder:
        work = (args.work or Path(folder)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        for name in ("old", "data", "bundle"):  # children run in another folder
            if getattr(args, name) is not None:
                setattr(args, name, getattr(args, name).absolute())
        bench = Bench(args, work)
        record["commits"] = {side.name: side.commit for side in bench.sides}
        harness.finish(record | {"stages": stages(bench)}, args.out)


if __name__ == "__main__":
    main()
