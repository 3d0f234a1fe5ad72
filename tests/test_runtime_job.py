"""Embedding jobs: complete shards, resumed to the same bytes, only new strings computed."""

from __future__ import annotations

import errno
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from mirror_rt import Encoder
from mirror_rt.errors import ConfigError, InputError, TargetError
from mirror_rt.runtime import embedding
from mirror_rt.runtime.embedding import EmbedReport, VectorOptions, embed
from mirror_rt.runtime.job import Engine, LocalEngine, ShardTask, Work
from mirror_rt.runtime.jobfolder import JobFolder, Shard, file_faults, read_manifest
from mirror_rt.runtime.shards import read_stored
from mirror_rt.runtime.sources import Row
from mirror_rt.runtime.storage import Dtype, truncate_dim
from mirror_rt.tables import FileFormat, TableOptions
from tests.embed_jobs import bytes_of, in_layout, made_up, written
from tests.errors import about

ROWS = 50  # rows in a block, here


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "BLOCK_BYTES", ROWS * 32 * 4)


@pytest.fixture
def encoder(tiny_bundle: Path) -> Encoder:
    return Encoder.open(tiny_bundle, threads=2)


def embed_rows(
    encoder: Encoder,
    rows: Iterable[Row],
    out: Path,
    *,
    ids: bool = False,
    **options: Any,  # noqa: ANN401
) -> EmbedReport:
    return embed(encoder, "-", out, rows=rows, id_column="id" if ids else None, **options)


def vectors_of(folder: Path) -> np.ndarray:
    return np.concatenate([read_stored(folder / s.name).values_NP for s in read_manifest(folder)])


def test_shards_hold_the_rows_in_order(encoder: Encoder, tmp_path: Path) -> None:
    texts = [*made_up(120), "", *made_up(30)]
    report = embed(encoder, written(tmp_path / "a.txt", texts), tmp_path / "out")
    tables = [pq.read_table(tmp_path / "out" / shard.name) for shard in report.shards]
    assert [len(table) for table in tables] == [50, 50, 50, 1]
    assert [text for table in tables for text in table["text"].to_pylist()] == texts
    assert tables[0].schema.field("vector").type.list_size == 32
    np.testing.assert_allclose(vectors_of(tmp_path / "out"), encoder.encode(texts), atol=1e-6)
    assert (report.rows, report.reused, report.skipped) == (151, 0, 0)


@pytest.mark.parametrize("dtype", list(Dtype))
@pytest.mark.parametrize("ending", ["", ".parquet", ".npy"])
def test_every_dtype_reads_back(
    encoder: Encoder, tmp_path: Path, dtype: Dtype, ending: str
) -> None:
    if dtype is Dtype.INT8 and ending == ".npy":
        with pytest.raises(ConfigError, check=about("v.npy")):
            embed(encoder, "-", tmp_path / "v.npy", options=VectorOptions(dtype=dtype))
        return
    texts, out = made_up(60), tmp_path / f"v{ending}"
    options = VectorOptions(dtype=dtype, dims=16)
    embed(encoder, written(tmp_path / "a.txt", texts), out, options=options)
    exact_ND = truncate_dim(encoder.encode(texts), 16)
    if ending == ".npy":
        values_NP = np.load(out, allow_pickle=False)
    elif ending == ".parquet":
        stored = read_stored(out)
        values_NP = stored.values_NP
    else:
        values_NP = vectors_of(out)
    match dtype:
        case Dtype.FLOAT32:
            np.testing.assert_allclose(values_NP, exact_ND, atol=1e-6)
        case Dtype.FLOAT16:
            np.testing.assert_allclose(values_NP, exact_ND, atol=1e-3)
        case Dtype.INT8:
            assert values_NP.dtype == np.int8
            assert (np.abs(values_NP).max(axis=1) == 127).all()
        case Dtype.BINARY:
            assert (np.unpackbits(values_NP, axis=1) == (exact_ND > 0)).mean() > 0.999
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", out.name]


def test_ids_and_texts_are_kept_as_requested(encoder: Encoder, tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("id\ttext\nx1\tfever\nx2\tcough\n")
    embed(encoder, tmp_path / "a.tsv", tmp_path / "v.parquet", id_column="id",
          options=VectorOptions(text=False))  # fmt: skip
    table = pq.read_table(tmp_path / "v.parquet")
    assert table.column_names == ["id", "vector"]
    assert table["id"].to_pylist() == ["x1", "x2"]


def test_ids_are_not_lost_in_a_file_that_has_no_place_for_them(
    encoder: Encoder, tmp_path: Path
) -> None:
    (tmp_path / "a.tsv").write_text("id\ttext\nx1\tfever\n")
    with pytest.raises(ConfigError, check=about("v.npy")):
        embed(encoder, tmp_path / "a.tsv", tmp_path / "v.npy", id_column="id")


def test_a_second_run_over_the_same_input_computes_nothing(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = written(tmp_path / "a.txt", made_up(170)), tmp_path / "out"
    embed(encoder, source, out)
    before = bytes_of(out)
    monkeypatch.setattr(encoder._model, "session", None)  # a run of the model would fail
    report = embed(encoder, source, out)
    assert (report.skipped, report.computed, report.rows) == (4, 0, 170)
    assert bytes_of(out) == before


def test_a_changed_input_computes_only_the_strings_it_has_not_seen(
    encoder: Encoder, tmp_path: Path
) -> None:
    texts, out = made_up(230), tmp_path / "out"
    embed(encoder, written(tmp_path / "a.txt", texts), out)
    changed = ["new one", *texts[:100], "new two", *reversed(texts[120:]), "new one", texts[110]]
    report = embed(encoder, written(tmp_path / "a.txt", changed), out)
    assert report.computed == 3  # "new one" occurs again in another block
    assert report.reused == len(changed) - 3
    np.testing.assert_allclose(vectors_of(out), encoder.encode(changed), atol=1e-6)
    assert file_faults(out) == []
    named = {shard.name for shard in read_manifest(out)}
    assert {path.name for path in out.glob("part-*")} == named


def test_an_input_changed_between_a_kill_and_its_resume_is_not_mixed(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, out = made_up(230), tmp_path / "out"
    stop_after(monkeypatch, blocks=3)
    with pytest.raises(KeyboardInterrupt):
        embed(encoder, written(tmp_path / "a.txt", texts), out)
    monkeypatch.undo()
    monkeypatch.setattr(embedding, "BLOCK_BYTES", ROWS * 32 * 4)
    changed = [*texts[:60], "new one", *texts[60:]]
    report = embed(encoder, written(tmp_path / "a.txt", changed), out)
    assert (report.skipped, report.reused) == (1, 0)
    np.testing.assert_allclose(vectors_of(out), encoder.encode(changed), atol=1e-6)


@pytest.mark.parametrize("kills", [1, 2])
def test_a_run_over_another_input_that_is_killed_too_ends_as_one_that_was_not(
    tiny_bundle_int8: Path, tmp_path: Path, kills: int
) -> None:
    encoder = Encoder.open(tiny_bundle_int8, threads=1)
    first = made_up(230)
    last = [*made_up(150, seed=9), *reversed(first[:150]), "new one"]
    reports = []
    for out, killed in (("unbroken", 0), ("broken", kills)):
        interrupted(encoder, written(tmp_path / "a.txt", first), tmp_path / out, blocks=3)
        written(tmp_path / "a.txt", last)
        for _ in range(killed):
            interrupted(encoder, tmp_path / "a.txt", tmp_path / out, blocks=2)
        reports.append(embed(encoder, tmp_path / "a.txt", tmp_path / out))
    assert [(r.computed, r.reused) for r in reports] == [(301, 0), (301 - kills * 100, 0)]
    assert bytes_of(tmp_path / "broken") == bytes_of(tmp_path / "unbroken")


def interrupted(
    encoder: Encoder, source: Path, out: Path, *, blocks: int, engine: Engine | None = None
) -> None:
    """Embed until ``blocks`` blocks are logged, and end there as by Ctrl-C."""
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, blocks=blocks)
        with pytest.raises(KeyboardInterrupt):
            embed(encoder, source, out, engine=engine)


def test_a_damaged_shard_is_not_copied_from(encoder: Encoder, tmp_path: Path) -> None:
    texts, out = made_up(170), tmp_path / "out"
    report = embed(encoder, written(tmp_path / "a.txt", texts), out)
    path = out / report.shards[1].name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    changed = ["new one", *texts]
    report = embed(encoder, written(tmp_path / "a.txt", changed), out)
    assert (report.computed, report.reused) == (1 + ROWS, 120)
    np.testing.assert_allclose(vectors_of(out), encoder.encode(changed), atol=1e-6)


def test_without_the_texts_nothing_is_copied(encoder: Encoder, tmp_path: Path) -> None:
    texts, out, options = made_up(120), tmp_path / "out", VectorOptions(text=False)
    embed(encoder, written(tmp_path / "a.txt", texts), out, options=options)
    changed = [*texts[:ROWS], "new one", *texts[ROWS:]]
    report = embed(encoder, written(tmp_path / "a.txt", changed), out, options=options)
    assert (report.skipped, report.computed, report.reused) == (1, 71, 0)


def stop_after(monkeypatch: pytest.MonkeyPatch, *, blocks: int) -> None:
    """Let the job end as by Ctrl-C when ``shards`` shards are logged."""
    log, count = JobFolder.log, 0

    def counted(folder: JobFolder, shard: Shard) -> None:
        nonlocal count
        log(folder, shard)
        count += 1
        if count == blocks:
            raise KeyboardInterrupt

    monkeypatch.setattr(JobFolder, "log", counted)


def test_a_flipped_byte_is_found_and_only_its_shard_made_again(
    encoder: Encoder, tmp_path: Path
) -> None:
    source, out = written(tmp_path / "a.txt", made_up(170)), tmp_path / "out"
    report = embed(encoder, source, out)
    before = bytes_of(out)
    path = out / report.shards[2].name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    (out / report.shards[3].name).unlink()
    assert [fault.split(": ")[1].split()[0] for fault in file_faults(out)] == ["changed", "is"]
    again = embed(encoder, source, out)
    assert (again.skipped, again.computed) == (2, 70)
    assert bytes_of(out) == before
    assert file_faults(out) == []


def test_another_bundle_or_other_settings_are_refused(
    encoder: Encoder, tiny_bundle_int8: Path, tmp_path: Path
) -> None:
    source, out = written(tmp_path / "a.txt", made_up(60)), tmp_path / "out"
    embed(encoder, source, out)
    before = bytes_of(out)
    other = Encoder.open(tiny_bundle_int8)
    with pytest.raises(TargetError, check=about("out", hint="--force")):
        embed(other, source, out)
    with pytest.raises(TargetError, check=about("out", hint="--force")):
        embed(encoder, source, out, options=VectorOptions(dtype=Dtype.FLOAT16))
    assert bytes_of(out) == before
    assert embed(other, source, out, force=True).skipped == 0
    np.testing.assert_allclose(vectors_of(out), other.encode(made_up(60)), atol=2e-2)


HALF = VectorOptions(dtype=Dtype.FLOAT16)


@pytest.mark.parametrize("lines", [None, 0, 1, 130])
def test_a_job_that_fails_keeps_the_finished_one_it_was_to_replace(
    encoder: Encoder, tmp_path: Path, lines: int | None
) -> None:
    out, first, source = tmp_path / "out", tmp_path / "a.txt", tmp_path / "b.txt"
    texts = made_up(60)
    embed(encoder, written(first, texts), out)
    before = bytes_of(out)
    if lines is not None:
        written(source, made_up(lines))
    if lines:
        source.write_bytes(source.read_bytes() + b"\xff\n")
    with pytest.raises((InputError, OSError)):
        embed(encoder, source, out, options=HALF, force=True)
    assert bytes_of(out).items() >= {n: b for n, b in before.items() if "settings" not in n}.items()
    np.testing.assert_allclose(vectors_of(out), encoder.encode(texts), atol=1e-6)
    assert file_faults(out) == []
    assert embed(encoder, first, out).skipped == 2  # needs no --force
    assert bytes_of(out) == before


def test_a_folder_of_another_format_is_replaced_by_force_alone_and_at_the_end(
    encoder: Encoder, tmp_path: Path
) -> None:
    out, source = tmp_path / "out", written(tmp_path / "a.txt", made_up(120))
    embed(encoder, source, out)
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["format_version"] = 1
    for shard in manifest["shards"]:
        shard["sidecar"] = "x"
    (out / "manifest.json").write_text(json.dumps(manifest))
    (out / ".job/settings.json").unlink()
    older = {name: content for name, content in bytes_of(out).items() if ".job" not in name}
    with pytest.raises(TargetError):
        embed(encoder, source, out)
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, blocks=1)
        with pytest.raises(KeyboardInterrupt):
            embed(encoder, source, out, force=True, options=HALF)
    assert bytes_of(out).items() >= older.items()
    assert embed(encoder, source, out, force=True, options=HALF).skipped == 1
    assert file_faults(out) == []
    assert len(list(out.glob("part-*"))) == 3


def test_a_job_that_replaces_another_goes_on_after_a_kill(encoder: Encoder, tmp_path: Path) -> None:
    source, out = written(tmp_path / "a.txt", made_up(230)), tmp_path / "out"
    embed(encoder, source, out)
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, blocks=3)
        with pytest.raises(KeyboardInterrupt):
            embed(encoder, source, out, options=HALF, force=True)
    with pytest.raises(TargetError, check=about("out", hint="--force")):
        embed(encoder, source, out, options=VectorOptions(dtype=Dtype.BINARY))
    report = embed(encoder, source, out, options=HALF, force=True)
    assert (report.skipped, report.reused, report.computed) == (3, 0, 80)
    embed(encoder, source, tmp_path / "whole", options=HALF)
    assert bytes_of(out) == bytes_of(tmp_path / "whole")


def test_a_folder_copied_without_its_hidden_part_is_gone_on_with(
    encoder: Encoder, tmp_path: Path
) -> None:
    source, out = written(tmp_path / "a.txt", made_up(120)), tmp_path / "out"
    embed(encoder, source, out)
    before = bytes_of(out)
    shutil.rmtree(out / ".job")
    assert embed(encoder, source, out).skipped == 3
    assert bytes_of(out) == before


def test_a_bundle_is_no_folder_of_vectors_whatever_force(
    encoder: Encoder, tiny_bundle: Path, tmp_path: Path
) -> None:
    source, out = written(tmp_path / "a.txt", ["fever"]), tmp_path / "bundle"
    shutil.copytree(tiny_bundle, out)
    with pytest.raises(TargetError, check=about("bundle")):
        embed(encoder, source, out, force=True)
    assert bytes_of(out) == bytes_of(tiny_bundle)


def test_a_job_with_the_same_settings_is_gone_on_with_whatever_force(
    encoder: Encoder, tmp_path: Path
) -> None:
    source, out = written(tmp_path / "a.txt", made_up(60)), tmp_path / "out"
    embed(encoder, source, out)
    assert embed(encoder, source, out, force=True).skipped == 2


def test_a_folder_that_holds_something_else_is_never_touched(
    encoder: Encoder, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("dear")
    for force in (False, True):
        with pytest.raises(TargetError, check=about("mine")):
            embed_rows(encoder, [("fever", "")], tmp_path / "mine", force=force)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letter.txt"]


def test_a_folder_in_use_is_refused(encoder: Encoder, tmp_path: Path) -> None:
    def rows() -> object:
        yield "fever", ""
        with pytest.raises(TargetError, check=about("out")):
            embed_rows(encoder, [("fever", "")], tmp_path / "out")

    embed_rows(encoder, rows(), tmp_path / "out")  # type: ignore[arg-type]


def test_what_was_embedded_before_a_broken_row_is_kept(encoder: Encoder, tmp_path: Path) -> None:
    source, texts = tmp_path / "a.txt", made_up(120)
    source.write_bytes("".join(t + "\n" for t in texts[:110]).encode() + b"\xff\n")
    with pytest.raises(InputError, check=about("a.txt", line=111, hint="--encoding")):
        embed(encoder, source, tmp_path / "v.npy")
    written(source, texts)
    report = embed(encoder, source, tmp_path / "v.npy")
    assert (report.skipped, report.computed) == (2, 20)
    np.testing.assert_allclose(np.load(tmp_path / "v.npy"), encoder.encode(texts), atol=1e-6)


def test_a_lone_surrogate_is_refused(encoder: Encoder, tmp_path: Path) -> None:
    with pytest.raises(InputError, check=about(value=r"\ud800")):
        embed_rows(encoder, [("a", ""), ("\ud800", "")], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("row", "value"), [(("a", "\ud800"), r"\ud800"), ((None, ""), "NoneType"), (("a", 3), "int")]
)
def test_a_row_that_is_not_text_is_refused(
    encoder: Encoder, tmp_path: Path, row: tuple[str, str], value: str
) -> None:
    with pytest.raises(InputError, check=about(value=value)):
        embed_rows(encoder, [("fever", "x"), row], tmp_path / "out", ids=True)


def test_a_job_that_fails_leaves_the_empty_folder_it_was_given(
    encoder: Encoder, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(InputError, check=about("a.txt")):
        embed(encoder, written(tmp_path / "a.txt", []), tmp_path / "mine")
    assert list((tmp_path / "mine").iterdir()) == []


@pytest.mark.parametrize(
    "name",
    ["a.txt", "a.csv", "a.tsv.gz", "a.jsonl", "a.jsonl.zst", "a.csv.zst", "a.gz", "a.parquet"],
)
def test_a_file_without_rows_is_empty_in_every_layout(
    encoder: Encoder, tmp_path: Path, name: str
) -> None:
    source = in_layout(tmp_path / name, [])
    with pytest.raises(InputError, check=about(name)):
        embed(encoder, source, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.txt.gz", "a.txt.zst"])
def test_a_file_of_no_bytes_is_empty(encoder: Encoder, tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(InputError, check=about(name)):
        embed(encoder, tmp_path / name, tmp_path / "out")


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.tsv", "a.jsonl", "a.parquet"])
def test_a_nul_is_a_character_like_any_other(encoder: Encoder, tmp_path: Path, name: str) -> None:
    texts, out = ["fever", "fe\0ver", "\0", "cough\0"], tmp_path / "out"
    source = in_layout(tmp_path / name, texts)
    table = None
    if name == "a.txt":  # unless it is said to be text, it may be a tar archive
        with pytest.raises(InputError, check=about(name)):
            embed(encoder, source, out)
        table = TableOptions(format=FileFormat.TEXT)
    if name == "a.csv" and sys.version_info < (3, 11):
        with pytest.raises(InputError, check=about(name, line=3, value="NUL")):
            embed(encoder, source, out)
        return
    (shard,) = embed(encoder, source, out, table=table).shards
    assert pq.read_table(out / shard.name)["text"].to_pylist() == texts
    np.testing.assert_allclose(vectors_of(out), encoder.encode(texts), atol=1e-6)


def test_a_million_identical_strings_are_computed_once_a_window(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "BLOCK_BYTES", embedding.BLOCK_BYTES * 2000)
    rows = (("fever", "") for _ in range(1_000_000))
    report = embed_rows(encoder, rows, tmp_path / "out", options=VectorOptions(dtype=Dtype.BINARY))
    assert (report.rows, report.computed) == (1_000_000, 10)


def test_strings_that_are_cut_off_are_counted(encoder: Encoder, tmp_path: Path) -> None:
    rows = [("fever " * 500, ""), ("fever " * 500, ""), ("cough " * 500, ""), ("cough", "")]
    assert embed_rows(encoder, rows, tmp_path / "out").truncated == 2
    assert json.loads((tmp_path / "out/manifest.json").read_text())["truncated"] == 2


def test_strings_that_are_cut_off_are_counted_where_they_are_copied_too(
    encoder: Encoder, tmp_path: Path
) -> None:
    long, out = ["fever " * 100, "naïve " * 100, "fever " * 100, "é" * 30], tmp_path / "out"
    source = written(tmp_path / "a.txt", long)
    assert embed(encoder, source, out).truncated == 2
    report = embed(encoder, written(source, ["cough " * 100, *long]), out)
    assert (report.computed, report.reused, report.truncated) == (1, 4, 3)
    assert json.loads((out / "manifest.json").read_text())["truncated"] == 3


def test_a_full_disk_leaves_no_half_shard_and_the_job_goes_on(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, out = made_up(170), tmp_path / "out"
    source, written_before = written(tmp_path / "a.txt", texts), 0
    write_table = pq.write_table

    def full(table: object, path: Path, **options: object) -> None:
        nonlocal written_before
        write_table(table, path, **options)
        written_before += 1
        if written_before == 3:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(OSError, match="No space left"):
        embed(encoder, source, out)
    assert len(list(out.glob("part-*"))) == 2
    assert not list(out.glob(".part-*"))
    report = embed(encoder, source, out)
    assert (report.skipped, report.computed) == (2, 70)
    np.testing.assert_allclose(vectors_of(out), encoder.encode(texts), atol=1e-6)


MEMORY = """
import re, sys
from mirror_rt import Encoder
from mirror_rt.runtime import embedding

def peak_mib():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024

import pyarrow.parquet
encoder = Encoder.open(sys.argv[1], threads=1)
encoder.encode("warm")
before = peak_mib()
embedding.embed(encoder, sys.argv[2], embedding.Path(sys.argv[3]))
print(peak_mib() - before)
"""


@pytest.mark.parametrize("kind", ["one giant line", "one giant word", "long lines"])
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_depends_not_on_how_long_the_texts_are(
    tiny_bundle: Path, tmp_path: Path, kind: str
) -> None:
    words, source = "fever cough heart ", tmp_path / "a.txt"
    match kind:
        case "one giant line":
            written(source, [words * (8_000_000 // len(words))])
        case "one giant word":
            written(source, ["ab-" * (8_000_000 // 3)])
        case _:
            written(source, [f"{words * 440} {i}" for i in range(1000)])
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tiny_bundle), str(source), str(tmp_path / "out")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert int(done.stdout) < 200


CHILD = """
import os, random, signal, sys
from mirror_rt import Encoder
from mirror_rt.runtime import embedding, job
from mirror_rt.runtime.session import Session

bundle, source, out, rows, deadly = sys.argv[1:]
embedding.BLOCK_BYTES = int(rows) * 32 * 4
left = int(deadly)

def dying(function):
    def call(*arguments, **options):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return call

if left:  # die at the n-th of the moments that matter
    os.replace = dying(os.replace)
    Session.run = dying(Session.run)
    embedding.write_shard = dying(embedding.write_shard)
    embedding.write_npy = dying(embedding.write_npy)
    job.JobFolder.log = dying(job.JobFolder.log)
    job.JobFolder.finish = dying(job.JobFolder.finish)
encoder = Encoder.open(bundle, threads=2)
print("begun", flush=True)
embedding.embed(encoder, source, embedding.Path(out))
"""


def child(*arguments: object) -> list[str]:
    return [sys.executable, "-c", CHILD, *map(str, arguments)]


@pytest.mark.parametrize("out", ["out", "v.npy"])
def test_killed_at_every_kind_of_moment_a_job_ends_in_the_same_bytes(
    tiny_bundle: Path, tmp_path: Path, out: str
) -> None:
    source = written(tmp_path / "a.txt", [*made_up(430), *made_up(40)])
    whole, broken = tmp_path / "whole" / out, tmp_path / "broken" / out
    subprocess.run(child(tiny_bundle, source, whole, ROWS, 0), check=True)
    for moment in (1, 2, 4, 11, 12, 13, 14):
        done = subprocess.run(child(tiny_bundle, source, broken, ROWS, moment), check=False)
        assert done.returncode == -signal.SIGKILL
        assert not (broken / "manifest.json").exists()
    subprocess.run(child(tiny_bundle, source, broken, ROWS, 0), check=True)
    assert bytes_of(broken.parent) == bytes_of(whole.parent)


class Shuffled:
    """An engine that first reads the whole input, and makes the shards in another order."""

    def __init__(self, seed: int = 3) -> None:
        self.rng = random.Random(seed)

    def make(self, work: Work, job: JobFolder, tasks: Iterator[ShardTask], _: object) -> object:
        """Make the shards in a seeded order."""
        all_tasks = list(tasks)
        for task in self.rng.sample(all_tasks, len(all_tasks)):
            yield work.make(job, task, None)


@pytest.mark.parametrize("out", ["out", "v.npy"])
def test_shards_may_be_made_in_any_order(
    tiny_bundle_int8: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    source = written(tmp_path / "a.txt", made_up(60) * 7)
    whole, broken = tmp_path / "whole" / out, tmp_path / "broken" / out
    encoder = Encoder.open(tiny_bundle_int8)
    embed(encoder, source, whole)
    stop_after(monkeypatch, blocks=4)
    with pytest.raises(KeyboardInterrupt):
        embed(encoder, source, broken, engine=Shuffled())
    monkeypatch.undo()
    monkeypatch.setattr(embedding, "BLOCK_BYTES", ROWS * 32 * 4)
    report = embed(encoder, source, broken)
    assert (report.skipped, report.reused) == (4, 0)
    assert bytes_of(broken.parent) == bytes_of(whole.parent)


@pytest.mark.parametrize("seed", range(12))
def test_killed_under_any_engine_over_inputs_that_change_a_job_ends_in_the_same_bytes(
    tiny_bundle_int8: Path, tmp_path: Path, seed: int
) -> None:
    encoder, rng = Encoder.open(tiny_bundle_int8, threads=1), random.Random(seed)
    blocks = [made_up(ROWS, seed=number) for number in range(9)]
    source, last = tmp_path / "a.txt", rng.randint(1, 4)
    for change in range(3):
        if change:  # two blocks are new, and three change places
            for place in rng.sample(range(9), 2):
                blocks[place] = [*rng.choice(blocks)[10:], *made_up(10, seed=rng.randint(20, 40))]
            one, two, three = rng.sample(range(9), 3)
            blocks[one], blocks[two], blocks[three] = blocks[two], blocks[three], blocks[one]
        written(source, [text for block in blocks for text in block])
        if not change and seed % 2:
            embed(encoder, source, tmp_path / "out")  # the source of the copies
        elif change < 2:
            interrupted(encoder, source, tmp_path / "out", blocks=2, engine=Shuffled(seed))
    shutil.copytree(tmp_path / "out", tmp_path / "whole")
    whole = embed(encoder, source, tmp_path / "whole")
    computed = 0
    for engine in rng.sample((LocalEngine(), Shuffled(seed + 1)), 2):
        left = len(whole.shards) - whole.skipped - computed
        if left > last:
            interrupted(encoder, source, tmp_path / "out", blocks=last, engine=engine)
            computed += last
    report = embed(encoder, source, tmp_path / "out")
    assert report.skipped == whole.skipped + computed
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")


@pytest.mark.slow
def test_killed_at_twenty_random_moments_200_000_strings_end_in_the_same_bytes(
    tiny_bundle_int8: Path, tmp_path: Path
) -> None:
    source = written(tmp_path / "a.txt", made_up(200_000))
    whole, broken = tmp_path / "whole/out", tmp_path / "broken/out"
    with begun(child(tiny_bundle_int8, source, whole, 2000, 0)) as process:
        begin = time.monotonic()
        while not list(whole.glob("part-*")):  # the input is read before the first block
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.01)
        first = time.monotonic() - begin
        assert process.wait() == 0
        work = time.monotonic() - begin - first
    rng, inside = random.Random(11), 0
    for _ in range(20):
        with begun(child(tiny_bundle_int8, source, broken, 2000, 0)) as process:
            with suppress(subprocess.TimeoutExpired):
                # Less than all of the work together, so that there are twenty moments.
                process.wait(timeout=rng.uniform(0, first + work / 15))
            process.kill()
            assert process.wait() == -signal.SIGKILL
        inside += 0 < len(list(broken.glob("part-*"))) < 100
    subprocess.run(child(tiny_bundle_int8, source, broken, 2000, 0), check=True)
    assert inside > 3
    assert bytes_of(broken.parent) == bytes_of(whole.parent)


def begun(command: list[str]) -> subprocess.Popen[str]:
    """Start a job, and return it when it has opened its bundle."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process
