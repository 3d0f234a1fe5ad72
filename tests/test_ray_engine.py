"""Jobs on a local Ray cluster: the same bytes as one process, whichever worker dies."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mirror_rt import STARTER, Encoder
from mirror_rt.errors import ConfigError, KnowledgeBaseError, MirrorError, MissingExtraError
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.knowledge.linking import job as link_job
from mirror_rt.runtime import embedding, ray_engine
from mirror_rt.runtime.embedding import embed
from mirror_rt.runtime.job import JobFolder, Shard, ShardTask, Work
from mirror_rt.runtime.ray_engine import RayEngine
from mirror_rt.runtime.ray_worker import Worker
from mirror_rt_cli.app import app
from tests.embed_jobs import bytes_of, made_up, written
from tests.errors import about
from tests.kb import HEARTS

ROWS = 50  # rows in a block, here

# Ray's own warnings are not errors of ours.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster of two CPUs, to which this process is connected."""
    pytest.importorskip("ray", reason="needs mirror-rt[ray]")
    with RayEngine(workers=2)._connected():
        import ray

        yield ray.get_runtime_context().gcs_address


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "BLOCK_BYTES", ROWS * 32 * 4)


@pytest.fixture
def encoder(tiny_bundle: Path) -> Encoder:
    return Encoder.open(tiny_bundle, threads=2)


def with_ids(path: Path, texts: list[str]) -> Path:
    rows = (f"{text}\tx{number}\n" for number, text in enumerate(texts))
    path.write_text("text\tid\n" + "".join(rows))
    return path


@pytest.mark.usefixtures("cluster")
def test_the_folder_of_a_cluster_is_that_of_one_process_over_a_changed_input_too(
    encoder: Encoder, tmp_path: Path
) -> None:
    texts = [*made_up(210), ""]
    calls: list[tuple[int, int]] = []
    engine = RayEngine(workers=7)  # more than fit
    source = with_ids(tmp_path / "a.tsv", texts)
    for changed in (False, True):
        if changed:
            source = with_ids(tmp_path / "a.tsv", [*texts[:50], "new one", *texts[120:]])
        local = embed(encoder, source, tmp_path / "local", id_column="id")
        report = embed(
            encoder, source, tmp_path / "ray", id_column="id", engine=engine,
            progress=lambda texts, tokens: calls.append((texts, tokens)),
        )  # fmt: skip
        assert report == local
        assert bytes_of(tmp_path / "ray") == bytes_of(tmp_path / "local")
    computed = [texts for texts, tokens in calls if tokens >= texts > 0]
    copied = [texts for texts, tokens in calls if texts and not tokens]
    assert sorted(computed) == [1, 11, ROWS, ROWS, ROWS, ROWS]
    assert sorted(copied) == [42, 49, ROWS]  # of the changed input, one shard is kept


@pytest.mark.usefixtures("cluster")
def test_a_static_encoder_embeds_and_links_on_a_cluster(tmp_path: Path) -> None:
    encoder, source = Encoder.open(STARTER), written(tmp_path / "a.txt", made_up(60))
    for name, engine in (("local", None), ("ray", RayEngine(workers=2))):
        embed(encoder, source, tmp_path / name, engine=engine)
    assert bytes_of(tmp_path / "ray") == bytes_of(tmp_path / "local")
    with KnowledgeBase.build(STARTER, HEARTS, tmp_path / "kb") as kb:
        for name, engine in (("l.tsv", None), ("r.tsv", RayEngine(workers=2))):
            kb.link_file(["atrial septum", "heart"], tmp_path / name, engine=engine)
    assert (tmp_path / "r.tsv").read_bytes() == (tmp_path / "l.tsv").read_bytes()


class Backwards:
    """An engine that makes two shards, the last ones, and is interrupted."""

    def make(self, work: Work, job: JobFolder, tasks: Iterator[ShardTask], _: object) -> object:
        """Make the last two shards."""
        for task in list(tasks)[:-3:-1]:
            yield work.make(job, task, None)
        raise KeyboardInterrupt


@pytest.mark.usefixtures("cluster")
def test_a_job_that_was_killed_over_other_inputs_ends_as_that_of_one_process(
    tiny_bundle_int8: Path, tmp_path: Path
) -> None:
    encoder = Encoder.open(tiny_bundle_int8, threads=1)
    one, two, three = (made_up(200, seed=seed) for seed in range(3))
    inputs = [
        [*one[:100], *two[:100]],
        [*one[:100], *two[10:60], *three[:150], *two[90:120], *three[130:200]],
        [*one[:100], *two[10:60], *three[:150], *three[180:200], *two[80:120], *one[130:170]],
    ]
    source = tmp_path / "a.txt"
    for these in inputs[:2]:
        with pytest.raises(KeyboardInterrupt):
            embed(encoder, written(source, these), tmp_path / "local", engine=Backwards())
    written(source, inputs[2])
    for name in ("ray", "killed"):
        shutil.copytree(tmp_path / "local", tmp_path / name)
    with pytest.raises(KeyboardInterrupt):
        embed(encoder, source, tmp_path / "killed", engine=Backwards())
    local = embed(encoder, source, tmp_path / "local")
    report = embed(encoder, source, tmp_path / "ray", engine=RayEngine())
    again = embed(encoder, source, tmp_path / "killed")
    assert report == local
    assert (local.skipped, local.reused, local.computed) == (0, 0, 400)
    assert (again.skipped, again.reused, again.computed) == (2, 0, 300)
    assert bytes_of(tmp_path / "local") == bytes_of(tmp_path / "ray")
    assert bytes_of(tmp_path / "local") == bytes_of(tmp_path / "killed")


DRIVER = """
import os, signal, sys
from pathlib import Path
from mirror_rt.runtime import embedding, job
from mirror_rt_cli.app import main

rows, deadly, how = (int(sys.argv.pop(1)) for _ in range(3))
embedding.BLOCK_BYTES = rows * 32 * 4
log = job.JobFolder.log

def dying(folder, shard):
    global deadly
    log(folder, shard)
    deadly -= 1
    if deadly == 0:
        os.kill(os.getpid(), how)

job.JobFolder.log = dying
main()
"""


def driver(how: signal.Signals, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run ``mirror-rt embed`` and send it a signal once two shards are logged."""
    command = [sys.executable, "-c", DRIVER, ROWS, 2, int(how), "embed", *arguments]
    return subprocess.run(
        list(map(str, command)), check=False, capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize("auto", [False, True])
def test_a_driver_that_was_killed_is_resumed_by_one_process(
    cluster: str, encoder: Encoder, tmp_path: Path, auto: bool
) -> None:
    source = written(tmp_path / "a.txt", [*made_up(430), *made_up(40)])
    whole, broken = tmp_path / "whole/v.parquet", tmp_path / "broken/v.parquet"
    embed(encoder, source, whole)
    done = driver(
        signal.SIGKILL, encoder.bundle.path, source, "--out", broken, "--engine", "ray",
        "--address", "auto" if auto else cluster,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not broken.exists()
    assert embed(encoder, source, broken).skipped >= 2
    assert bytes_of(broken.parent) == bytes_of(whole.parent)


@pytest.mark.usefixtures("cluster")
def test_workers_that_die_at_every_kind_of_moment_leave_the_same_bytes(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()

    class Dying(Worker):
        """Is killed once on each of three blocks."""

        def answer(self, name: str, number: int, again: bool) -> dict[str, object]:
            mark = marks / str(number)
            if number not in (1, 4, 6) or mark.exists():
                return super().answer(name, number, again)
            mark.touch()
            replace = os.replace

            def killed(fresh: Path, place: Path) -> None:
                if number == 4 and str(place).endswith(".parquet"):
                    os.kill(os.getpid(), signal.SIGKILL)  # the shard is written, but not renamed
                replace(fresh, place)

            os.replace = killed
            if number != 1:
                super().answer(name, number, again)
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError

    source = written(tmp_path / "a.txt", [*made_up(430), *made_up(40)])
    embed(encoder, source, tmp_path / "whole")
    monkeypatch.setattr(ray_engine, "Worker", Dying)
    report = embed(encoder, source, tmp_path / "out", engine=RayEngine())
    assert sorted(mark.name for mark in marks.iterdir()) == ["1", "4", "6"]
    assert (report.skipped, report.rows) == (0, 470)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")


@pytest.fixture(scope="module")
def hearts(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("kb") / "hearts"
    KnowledgeBase.build(tiny_bundle, HEARTS, out).close()
    return out


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_mentions_linked_on_a_cluster_are_those_of_one_process(
    hearts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setattr(link_job, "BLOCK", 40)
    rows = [*made_up(90), "ASD", "", "hole in the heart", *made_up(90), *made_up(60, seed=1)]
    source = tmp_path / "a.tsv"
    source.write_text(
        "mention\tc\n" + "".join(f"{r}\t{'x' * (i % 2)}\n" for i, r in enumerate(rows))
    )
    seen: list[int] = []
    with KnowledgeBase.open(hearts) as kb:
        for name, engine in (("local", None), ("ray", RayEngine(workers=2))):
            report = link_job.link_file(
                kb, source, tmp_path / f"{name}.{ending}", context_column="c", engine=engine,
                progress=lambda rows, requested: seen.append(rows),
            )  # fmt: skip
            assert (report.rows, report.skipped) == (len(rows), 0)
    assert sum(seen) == 2 * len(rows)
    assert (tmp_path / f"ray.{ending}").read_bytes() == (tmp_path / f"local.{ending}").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.tsv", f"local.{ending}", f"ray.{ending}",
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_linking_goes_on_when_workers_die_and_after_an_interrupt(
    hearts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_job, "BLOCK", 40)
    marks = tmp_path / "marks"
    marks.mkdir()

    class Dying(Worker):
        """Is killed once on each of two blocks."""

        def answer(self, name: str, number: int, again: bool) -> dict[str, object]:
            mark = marks / str(number)
            if number in (1, 3) and not mark.exists():
                mark.touch()
                if number == 3:
                    super().answer(name, number, again)
                os.kill(os.getpid(), signal.SIGKILL)
            return super().answer(name, number, again)

    rows, out = made_up(230), tmp_path / "a.tsv"
    with KnowledgeBase.open(hearts) as kb:
        kb.link_file(rows, tmp_path / "whole.tsv")
        monkeypatch.setattr(ray_engine, "Worker", Dying)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(JobFolder, "log", _interrupted_at(2))
            kb.link_file(rows, out, engine=RayEngine())
        assert not out.exists()
        kept = kb.link_file(rows, out, engine=RayEngine()).skipped
    assert kept >= 1
    assert sorted(mark.name for mark in marks.iterdir()) == ["1", "3"]
    assert out.read_bytes() == (tmp_path / "whole.tsv").read_bytes()


def _interrupted_at(shards: int) -> Callable[[JobFolder, Shard], None]:
    log, count = JobFolder.log, 0

    def counted(folder: JobFolder, shard: Shard) -> None:
        nonlocal count
        log(folder, shard)
        count += 1
        if count == shards:
            raise KeyboardInterrupt

    return counted


@pytest.mark.usefixtures("cluster")
def test_workers_report_a_knowledge_base_that_changed_meanwhile(
    hearts: Path, tmp_path: Path
) -> None:
    shutil.copytree(hearts, tmp_path / "kb")
    with KnowledgeBase.open(tmp_path / "kb") as kb:
        with KnowledgeBase.open(tmp_path / "kb") as other:
            other.remove(["H:1"])
        with pytest.raises(KnowledgeBaseError):
            kb.link_file(["a"], tmp_path / "a.tsv", engine=RayEngine(workers=1))
    assert not list(tmp_path.glob("*a.tsv*"))


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_the_command_links_on_a_cluster(hearts: Path, tmp_path: Path) -> None:
    source = written(tmp_path / "a.txt", made_up(50))
    for name, more in (("a.tsv", ()), ("b.tsv", ("--engine", "ray"))):
        arguments = ["link", hearts, source, "--out", tmp_path / name, *more]
        done = CliRunner().invoke(app, list(map(str, arguments)))
        assert (done.exit_code, done.stdout) == (0, ""), done.stderr
        assert done.stderr == f"{tmp_path / name}: 50 mentions\n"
    assert (tmp_path / "a.tsv").read_bytes() == (tmp_path / "b.tsv").read_bytes()


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_rows_that_kill_every_worker_are_named_and_the_others_kept(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Poisoned(Worker):
        def open(self) -> Work:
            opened = super().open()
            make = opened.make

            def deadly(job: JobFolder, task: ShardTask, progress: object) -> object:
                if "poison" in task.block.columns["text"]:
                    os.kill(os.getpid(), signal.SIGKILL)
                return make(job, task, progress)

            opened.make = deadly
            return opened

    texts = [*made_up(100), "first of them", "poison", *made_up(60, seed=1)]
    source, out = written(tmp_path / "a.txt", texts), tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(ray_engine, "Worker", Poisoned)
        with pytest.raises(MirrorError, check=about(value="'first of them'")):
            embed(encoder, source, out, engine=RayEngine(workers=1))
    assert not (out / "manifest.json").exists()
    assert embed(encoder, source, out).skipped in {2, 3}  # whether the last block was reached
    embed(encoder, source, tmp_path / "whole")
    assert bytes_of(out) == bytes_of(tmp_path / "whole")


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["embed", *map(str, arguments)])


@pytest.mark.usefixtures("cluster")
def test_an_error_in_a_worker_is_printed_on_one_line(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(Worker):
        def open(self) -> Work:
            raise OSError(errno.ENOSPC, "No space left on device", "/mnt/x")

    monkeypatch.setattr(ray_engine, "Worker", Full)
    source = written(tmp_path / "a.txt", made_up(10))
    done = cli(tiny_bundle, source, "--out", tmp_path / "v.npy", "--engine", "ray")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "mirror-rt: /mnt/x: the disk is full; free some space and run again\n"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--address", "auto"], "--address: is for a Ray cluster; give --engine ray too"),
        (["--workers", "2"], "--workers: is for a Ray cluster; give --engine ray too"),
        (["--engine", "ray", "--address", "127.0.0.1:9"], "no Ray cluster to work with"),
        (["--engine", "ray", "--address", "ray://head:10001"], "run mirror-rt on a machine of"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    message: str,
) -> None:
    pytest.importorskip("ray", reason="needs mirror-rt[ray]")
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    done = cli(tiny_bundle, written(tmp_path / "a.txt", ["a"]), "--out", tmp_path / "v", *options)
    assert done.exit_code == 1
    assert message in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.usefixtures("cluster")
def test_auto_is_the_cluster_of_this_machine_and_not_one_of_its_own(
    encoder: Encoder, tmp_path: Path
) -> None:
    done = driver(
        signal.SIGKILL, encoder.bundle.path, written(tmp_path / "a.txt", ["a"]),
        "--out", tmp_path / "v", "--engine", "ray", "--address", "auto", "--threads", 999,
    )  # fmt: skip
    assert done.returncode == 1  # a cluster of its own would have room
    assert "threads 999: no machine of the cluster has more than" in done.stderr


@pytest.mark.parametrize(
    ("named", "message"),
    [("", "Could not find any running Ray"), ("127.0.0.1:9", "Connection refused")],
)
def test_auto_where_there_is_no_cluster_is_refused(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str, message: str
) -> None:
    pytest.importorskip("ray", reason="needs mirror-rt[ray]")
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray._private.services.psutil.process_iter", lambda attributes: [])
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))  # where the last cluster would be recorded
    monkeypatch.setenv("RAY_ADDRESS", named)
    source = written(tmp_path / "a.txt", ["a"])
    done = cli(tiny_bundle, source, "--out", tmp_path / "v", "--engine", "ray", "--address", "auto")
    assert done.exit_code == 1
    assert done.stderr.startswith("mirror-rt: auto: no Ray cluster to work with (")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.usefixtures("cluster")
def test_more_threads_than_a_machine_has_are_refused(encoder: Encoder, tmp_path: Path) -> None:
    source = written(tmp_path / "a.txt", ["a"])
    with pytest.raises(ConfigError, check=about("threads 3")):
        embed(encoder, source, tmp_path / "v", engine=RayEngine(threads=3))


def test_without_ray_the_error_has_the_install_command(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mirror_rt._extras.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, check=about(hint="pip install")):
        embed(encoder, written(tmp_path / "a.txt", ["a"]), tmp_path / "v", engine=RayEngine())


@pytest.mark.slow
def test_nothing_but_our_words_comes_from_a_cluster_of_our_own_and_ctrl_c_ends_it(
    encoder: Encoder, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="needs mirror-rt[ray]")
    source = written(tmp_path / "a.txt", made_up(430))
    done = driver(
        signal.SIGINT, encoder.bundle.path, source, "--out", tmp_path / "out", "--engine", "ray"
    )
    assert done.returncode == 130
    assert done.stdout == ""
    assert done.stderr == "mirror-rt: interrupted; no half-written output was left\n"
    assert embed(encoder, source, tmp_path / "out").skipped >= 2
    embed(encoder, source, tmp_path / "whole")
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")
