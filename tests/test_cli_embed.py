"""``mirror-rt embed`` from the command line."""

from __future__ import annotations

import io
import json
import os
import random
import string
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from mirror_rt import Encoder
from mirror_rt.runtime import embedding
from mirror_rt.runtime.cores import available_cpus
from mirror_rt_cli import progress
from mirror_rt_cli.app import app
from tests.embed_jobs import bytes_of, made_up, written
from tests.tiny import NAMES


def embed(*arguments: str | Path, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, ["embed", *map(str, arguments)], input=stdin)


@pytest.fixture
def names(tmp_path: Path) -> Path:
    path = tmp_path / "names.txt"
    path.write_text("\n".join([*NAMES, "", NAMES[0]]) + "\n")
    return path


def test_a_line_is_a_row(tiny_bundle: Path, names: Path, tmp_path: Path) -> None:
    done = embed(tiny_bundle, names, "--out", tmp_path / "v.npy")
    assert done.exit_code == 0, done.stderr
    vectors_ND = np.load(tmp_path / "v.npy", allow_pickle=False)
    expected_ND = Encoder.open(tiny_bundle).encode([*NAMES, "", NAMES[0]])
    np.testing.assert_array_equal(vectors_ND, expected_ND)


def test_parquet_holds_texts_and_vectors(tiny_bundle: Path, names: Path, tmp_path: Path) -> None:
    done = embed(tiny_bundle, names, "--out", tmp_path / "v.parquet")
    assert done.exit_code == 0, done.stderr
    table = pq.read_table(tmp_path / "v.parquet")
    assert table["text"].to_pylist() == [*NAMES, "", NAMES[0]]
    vectors_ND = table["vector"].combine_chunks().flatten().to_numpy().reshape(-1, 32)
    np.testing.assert_array_equal(
        vectors_ND, Encoder.open(tiny_bundle).encode(table["text"].to_pylist())
    )


def test_of_an_ontology_every_name_is_embedded_once(tiny_bundle: Path, tmp_path: Path) -> None:
    text = 'format-version: 1.2\n\n[Term]\nid: A\nname: fever\nsynonym: "cough" EXACT []\n'
    (tmp_path / "kb.obo").write_text(text + "\n[Term]\nid: B\nname: cough\n")
    (tmp_path / "kb.csv").write_text("id,name,alias\nA,fever,cough|rash\nB,cough,\n")
    (tmp_path / "kb.dat").write_text("A||fever\nB||cough\n")
    (tmp_path / "kb.jsonl").write_text('{"id": "A", "name": "fever", "synonyms": ["cough"]}\n')
    (tmp_path / "kb.txt").write_text("id\tname\nA\tfever\nB\tcough\n")
    (tmp_path / "rows.csv").write_text("id,name,price\nA,fever,1\nB,fever,2\n")
    (tmp_path / "mentions.csv").write_text("id,name,alias,mention\nA,fever,rash,cough\n")
    for name, options, expected in (
        ("kb.obo", [], ["fever", "cough"]),
        ("kb.dat", [], ["fever", "cough"]),
        ("kb.csv", ["--names"], ["fever", "cough", "rash"]),
        ("kb.csv", [], ["fever", "cough", "rash"]),
        ("kb.csv", ["--input-format", "csv"], ["fever", "cough", "rash"]),
        ("kb.csv", ["--column", "name"], ["fever", "cough"]),
        ("kb.csv", ["--id-column", "id"], ["fever", "cough"]),
        ("kb.jsonl", [], ["fever", "cough"]),
        ("kb.txt", [], ["fever", "cough"]),
        ("rows.csv", [], ["fever", "fever"]),
        ("mentions.csv", [], ["cough"]),
        ("kb.obo", ["--input-format", "text"], (text + "\n[Term]\nid: B\nname: cough").split("\n")),
    ):
        out = tmp_path / "v.parquet"
        done = embed(tiny_bundle, tmp_path / name, "--out", out, "--force", *options)
        assert done.exit_code == 0, done.stderr
        assert pq.read_table(out)["text"].to_pylist() == expected, options
    for bad in (["--names", "--input-format", "text"], ["--names", "--column", "name"]):
        done = embed(tiny_bundle, tmp_path / "kb.csv", "--out", tmp_path / "w.npy", *bad)
        assert (done.exit_code, type(done.exception)) == (1, SystemExit)
        assert "internal" not in done.stderr


def test_names_come_through_a_pipe(tiny_bundle: Path, tmp_path: Path) -> None:
    done = embed(
        tiny_bundle, "-", "--out", tmp_path / "v.parquet", stdin="id,name,alias\nA,fever,rash\n"
    )
    assert done.exit_code == 0, done.stderr
    assert pq.read_table(tmp_path / "v.parquet")["text"].to_pylist() == ["fever", "rash"]


def test_standard_input_is_read(tiny_bundle: Path, tmp_path: Path) -> None:
    done = embed(tiny_bundle, "-", "--out", tmp_path / "v.npy", stdin="fever\ncough\n")
    assert done.exit_code == 0, done.stderr
    assert np.load(tmp_path / "v.npy").shape == (2, 32)


def test_an_existing_file_is_kept_without_force(
    tiny_bundle: Path, names: Path, tmp_path: Path
) -> None:
    target = tmp_path / "v.npy"
    target.write_bytes(b"mine")
    done = embed(tiny_bundle, names, "--out", target)
    assert done.exit_code == 1
    assert "exists already" in done.stderr
    assert target.read_bytes() == b"mine"
    assert embed(tiny_bundle, names, "--out", target, "--force").exit_code == 0
    assert np.load(target).shape == (len(NAMES) + 2, 32)


@pytest.mark.parametrize(
    ("out", "content", "message"),
    [
        ("v.csv", b"fever\n", "name a file in .npy or .parquet"),
        ("v.npy", b"", "is empty"),
        ("names.txt/v", b"fever\n", "names.txt is a file, not a folder"),
        ("v.npy", b"fever\nb\xff\n", "line 2 is not UTF-8"),
    ],
)
def test_bad_input_is_reported_in_one_line_and_nothing_is_written(
    tiny_bundle: Path, tmp_path: Path, out: str, content: bytes, message: str
) -> None:
    (tmp_path / "names.txt").write_bytes(content)
    done = embed(tiny_bundle, tmp_path / "names.txt", "--out", tmp_path / out)
    assert done.exit_code == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["names.txt"]


def test_the_input_is_never_replaced(tiny_bundle: Path, names: Path, tmp_path: Path) -> None:
    table, out = tmp_path / "v.parquet", tmp_path / "vectors"
    for first in (table, out):
        assert embed(tiny_bundle, names, "--out", first).exit_code == 0
    (shard,) = out.glob("part-*")
    before = bytes_of(tmp_path)
    for source, target in ((table, table), (shard, out)):
        done = embed(tiny_bundle, source, "--out", target, "--force", "--dtype", "float16")
        assert done.exit_code == 1
        assert done.stderr.startswith(f"mirror-rt: {target}: ")
        assert bytes_of(tmp_path) == before


def test_the_ending_of_a_file_may_be_in_capitals(
    tiny_bundle: Path, names: Path, tmp_path: Path
) -> None:
    assert embed(tiny_bundle, names, "--out", tmp_path / "V.NPY").exit_code == 0
    assert np.load(tmp_path / "V.NPY").shape == (len(NAMES) + 2, 32)


def test_a_link_to_nothing_is_no_folder_to_write(
    tiny_bundle: Path, names: Path, tmp_path: Path
) -> None:
    (tmp_path / "v").symlink_to(tmp_path / "gone")
    done = embed(tiny_bundle, names, "--out", tmp_path / "v")
    assert done.exit_code == 1
    assert "is a link to nothing" in done.stderr


NO_ROOM = """
import resource, sys
from mirror_rt_cli.app import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
main()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files")
@pytest.mark.parametrize("room", [100, 800, 2000, 4000])  # settings, hashes, a shard, the file
def test_what_finds_no_room_is_named_in_one_line(
    tiny_bundle: Path, names: Path, tmp_path: Path, room: int
) -> None:
    out = tmp_path / "v.npy"
    arguments = [room, "embed", tiny_bundle, names, "--out", out, "--no-text"]
    command = [sys.executable, "-c", NO_ROOM, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"mirror-rt: {tmp_path}/.v.npy.job")
    assert done.stderr.endswith("File too large\n")
    assert not out.exists()


NO_ROOM_FOR_A_SHARD = f"""
from mirror_rt.runtime import embedding
embedding.BLOCK_BYTES = 50 * 32 * 4
{NO_ROOM}
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files")
def test_where_a_shard_finds_no_room_the_others_stay_and_the_job_goes_on(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, out = random.Random(5), tmp_path / "out"
    long = ["".join(rng.choices(string.ascii_letters, k=2000)) for _ in range(50)]
    source = written(tmp_path / "a.txt", [*made_up(100), *long, *made_up(20)])
    arguments = [30_000, "embed", tiny_bundle, source, "--out", out]
    command = [sys.executable, "-c", NO_ROOM_FOR_A_SHARD, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"mirror-rt: {out}")
    assert "File too large" in done.stderr
    assert done.stderr.count("\n") == 1
    left = [path.name.partition("-")[0] for path in sorted(out.iterdir())]
    assert left == [".job", "part", "part"]
    monkeypatch.setattr(embedding, "BLOCK_BYTES", 50 * 32 * 4)
    again = embed(tiny_bundle, source, "--out", out)
    assert again.exit_code == 0, again.stderr
    assert "computed 70 different strings" in again.stderr
    assert "kept 2 shards" in again.stderr
    assert embed(tiny_bundle, source, "--out", tmp_path / "whole").exit_code == 0
    assert bytes_of(out) == bytes_of(tmp_path / "whole")


def test_info_tells_of_the_vectors_and_finds_a_flipped_byte(
    tiny_bundle: Path, names: Path, tmp_path: Path
) -> None:
    out = tmp_path / "vectors"
    assert embed(tiny_bundle, names, "--out", out).exit_code == 0
    info = ["info", str(out), "--verify", "--json"]
    output = json.loads(CliRunner().invoke(app, info).stdout)
    assert (output["kind"], output["rows"], output["dims"], output["shards"]) == (
        "vectors", len(NAMES) + 2, 32, 1,
    )  # fmt: skip
    (shard,) = out.glob("part-*")
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)
    done = CliRunner().invoke(app, info)
    assert done.exit_code == 1
    assert "changed since it was written" in done.stderr
    assert embed(tiny_bundle, names, "--out", out).exit_code == 0
    assert CliRunner().invoke(app, info).exit_code == 0


def test_columns_dtypes_and_truncation_are_reported(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("key,title\n7,fever\n8," + "cough " * 100 + "\n")
    done = embed(
        tiny_bundle, tmp_path / "a.csv", "--out", tmp_path / "v", "--column", "title",
        "--id-column", "key", "--dtype", "int8", "--dims", "8", "--no-text",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert "2 vectors of width 8" in done.stderr
    assert "1 longer than 64 tokens cut off" in done.stderr
    (shard,) = (tmp_path / "v").glob("part-*")
    table = pq.read_table(shard)
    assert table.column_names == ["id", "vector", "scale"]
    assert table["id"].to_pylist() == ["7", "8"]


def test_a_person_is_shown_what_was_done_and_the_rates_of_what_was_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, shown = 100.0, []

    @contextmanager
    def bar(what: str) -> Iterator[Callable[..., None]]:
        yield lambda *values: shown.append((what, *values))

    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(progress, "bar", bar)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with progress.rate_bar("embed", total=lambda: 5000) as advance:
        now = 102.0
        advance(1000, 0)  # existed before
        advance(300, 2400)
        advance(100, 800)
    assert shown == [
        ("embed", 1000, 5000, "0 strings/s 0 tokens/s"),
        ("embed", 1300, 5000, "150 strings/s 1,200 tokens/s"),
        ("embed", 1400, 5000, "200 strings/s 1,600 tokens/s"),
    ]


class Terminal(io.StringIO):
    """Collects what is shown on the terminal."""

    def isatty(self) -> bool:
        """Say that it is a terminal."""
        return True


def test_the_bar_tells_how_far_it_is_and_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now, terminal = 100.0, Terminal()
    monkeypatch.setattr("rich.console.monotonic", lambda: now)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress.bar("embed") as show:
        show(100, 1000, "before")
        now = 110.0
        show(200, 1000, "10 strings/s")
    for shown in ("embed", "200/1000", "10 strings/s", "0:01:20"):
        assert shown in terminal.getvalue()


def test_nobody_is_shown_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", nobody := io.StringIO())
    with progress.bar("embed") as show:
        show(100, 1000)
    assert nobody.getvalue() == ""


def test_a_file_is_not_counted_where_nobody_looks() -> None:
    with progress.rate_bar("embed", total=lambda: pytest.fail("counted")) as advance:
        advance(1, 2)


OF_TESTS = ("RAYON_NUM_THREADS", "TOKENIZERS_PARALLELISM")
THREADS = """
import os, sys
from mirror_rt_cli.app import app
app(["embed", *sys.argv[1:]], standalone_mode=False)
print(len(os.listdir("/proc/self/task")))
"""


@pytest.mark.skipif(sys.platform != "linux" or available_cpus() == 1, reason="counts in /proc")
def test_threads_are_those_of_the_tokenizer_too(
    tiny_bundle: Path, names: Path, tmp_path: Path
) -> None:
    counts = []
    ours = {name: value for name, value in os.environ.items() if name not in OF_TESTS}
    for threads in (1, 2):
        arguments = [tiny_bundle, names, "--out", tmp_path / f"{threads}.npy", "--threads", threads]
        command = [sys.executable, "-c", THREADS, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=ours)
        counts.append(int(done.stdout))
    assert counts[1] == counts[0] + 1
