"""Link jobs: whole files, resumed to the same bytes, repeated mentions linked once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

from mirror_rt.errors import ConfigError, InputError, TargetError
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.knowledge.linking import job, repeats
from mirror_rt.knowledge.linking.job import LinkReport, link_file, link_lines
from mirror_rt.runtime.job import JobFolder, ShardTask, Work
from mirror_rt.tables import kept
from tests.conftest import REPOSITORY
from tests.errors import about
from tests.kb import HEARTS, LetterEncoder

if TYPE_CHECKING:
    from mirror_rt.types import Float32

NAMES = [
    "ASD", "liver tumour", "", "hart defect", "VSD", "liver tumour", "?", "short\u2028body",
    "septal defects", "hart defect", "stature",
]  # fmt: skip
ENDINGS = (".jsonl", ".tsv", ".parquet", ".csv", ".xlsx")


class Counting(LetterEncoder):
    """Records the texts of each call, and can be killed or interrupted at one."""

    def __init__(self, *, dies_at: int = -1, how: int | None = None) -> None:
        super().__init__()
        self.calls: list[list[str]] = []
        self.dies_at = dies_at
        self.how = how

    def encode(self, texts: Sequence[str]) -> Float32:
        """Return (N, D) float32 unit rows, or end."""
        if len(self.calls) == self.dies_at:
            if self.how is None:
                raise KeyboardInterrupt
            os.kill(os.getpid(), self.how)
        self.calls.append(list(texts))
        return super().encode(texts)


@pytest.fixture(autouse=True)
def in_small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "BLOCK", 2)


@pytest.fixture
def mentions(tmp_path: Path) -> Path:
    return _write(tmp_path / "mentions.tsv", NAMES)


def _write(path: Path, names: Sequence[str]) -> Path:
    path.write_text("mention\tn\n" + "".join(f"{name}\t1\n" for name in names), encoding="utf-8")
    return path


def _link(
    kb: Path,
    source: Path | list[str],
    out: Path,
    *,
    encoder: LetterEncoder | None = None,
    **options: object,
) -> LinkReport:
    with KnowledgeBase.open(kb, encoder=encoder or Counting()) as opened:
        return opened.link_file(source, out, **options)  # type: ignore[arg-type]


def _broken_off(kb: Path, source: Path, out: Path, **options: object) -> list[Path]:
    """Interrupt a job at its fourth call of the encoder; return the blocks that are left."""
    with pytest.raises(KeyboardInterrupt) as error:
        _link(kb, source, out, encoder=Counting(dies_at=3), **options)
    assert not out.exists()
    folder = out.parent / f".{out.name}.job"
    assert str(folder) in str(error.value.__notes__)
    return sorted(folder.glob("part-*"))


def _records(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_a_file_has_a_record_a_row_in_order(hearts: Path, mentions: Path, tmp_path: Path) -> None:
    report = _link(hearts, mentions, tmp_path / "a.jsonl")
    records = _records(tmp_path / "a.jsonl")
    assert [record["mention"] for record in records] == NAMES
    assert (report.rows, report.answered, report.skipped) == (11, 9, 0)
    with KnowledgeBase.open(hearts, encoder=LetterEncoder()) as kb:
        for record, answer in zip(records, kb.link(NAMES), strict=True):
            assert [c["entity_id"] for c in record["candidates"]] == [c.entity_id for c in answer]
        rows = ((name, "", "") for name in NAMES)
        lines = [line for some in link_lines(kb, rows, {}, counts=Counter()) for line in some]
    assert [{**json.loads(line), "n": "1"} for line in lines] == [
        {name: record[name] for name in ("mention", "n", "status", "candidates")}
        | ({"nil_reason": record["nil_reason"]} if record["nil_reason"] else {})
        for record in records
    ]
    assert not list(tmp_path.glob(".a.*"))


def test_words_are_a_source_like_a_file(hearts: Path, mentions: Path, tmp_path: Path) -> None:
    _link(hearts, mentions, tmp_path / "a.jsonl")
    _link(hearts, NAMES, tmp_path / "b.jsonl")
    without = [{k: v for k, v in r.items() if k != "n"} for r in _records(tmp_path / "a.jsonl")]
    assert without == _records(tmp_path / "b.jsonl")


def _status(candidates: Sequence[Mapping[str, Any]]) -> str:
    """Return the status of a mention without any threshold."""
    if not candidates:
        return "nil"
    best = candidates[0]
    return "review" if best["tied"] or best["probability"] < 0.5 else "linked"


def test_parquet_has_a_row_a_mention(hearts: Path, mentions: Path, tmp_path: Path) -> None:
    for ending in (".jsonl", ".parquet"):
        _link(hearts, mentions, tmp_path / f"a{ending}")
    rows = pq.read_table(tmp_path / "a.parquet").to_pylist()
    for row, record in zip(rows, _records(tmp_path / "a.jsonl"), strict=True):
        assert row["mention"] == record["mention"]
        assert row["nil_reason"] == record["nil_reason"]
        assert row["status"] == record["status"] == _status(record["candidates"])
        assert [c | {"context_score": None} for c in record["candidates"]] == row["candidates"]
        best = (record["candidates"] or [{}])[0]
        for name in set(row) - {"mention", "n", "status", "nil_reason", "candidates"}:
            assert row[name] == best.get(name)
    reasons = [row["nil_reason"] for row in rows if row["entity_id"] is None]
    assert reasons == ["empty", "punctuation"]


def test_the_columns_of_parquet_have_every_part_of_a_composite(
    hearts: Path, tmp_path: Path
) -> None:
    names = ["atrial septal defect and short stature", "short stature and ?", "ASD"]
    mentions = _write(tmp_path / "m.tsv", names)
    _link(hearts, mentions, tmp_path / "a.parquet", split_composites=True)  # one row per mention
    both, one, tied = pq.read_table(tmp_path / "a.parquet").to_pylist()
    first: dict[str, dict[str, object]] = {}
    for candidate in both["candidates"]:
        first.setdefault(candidate["expanded_form"], candidate)
    assert list(first) == ["atrial septal defect", "short stature"]
    for name in ("entity_id", "entity_name", "matched_name", "match_type"):
        assert both[name] == "|".join(str(c[name]) for c in first.values())
    for name in ("score", "probability"):
        assert both[name] == min(c[name] for c in first.values())  # type: ignore[type-var]
    assert "|" not in one["entity_id"]
    assert (tied["entity_id"], tied["tied"]) == (tied["candidates"][0]["entity_id"], True)


def test_a_repeated_mention_is_linked_once(hearts: Path, mentions: Path, tmp_path: Path) -> None:
    encoder = Counting()
    _link(hearts, mentions, tmp_path / "a.jsonl", encoder=encoder)
    assert sorted(encoder.requested) == sorted(set(NAMES) - {"ASD", "VSD", "", "?"})
    records = _records(tmp_path / "a.jsonl")
    assert records[1] == records[5]
    assert records[3] == records[9]


@pytest.mark.parametrize("room", [1, 3, 10, 1000])
def test_answers_are_those_of_their_mentions_however_few_are_remembered(
    hearts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    monkeypatch.setattr(repeats, "MEMORY", room)
    rng = random.Random(room)
    names = [f"{rng.choice(NAMES)} {rng.randint(0, 9)}" for _ in range(200)]
    names[50:60] = ["x" * 2000] * 10  # too long for the cache
    report = _link(hearts, names, tmp_path / "a.jsonl", min_probability=1.0)
    assert [record["mention"] for record in _records(tmp_path / "a.jsonl")] == names
    assert (report.answered == len(set(names)) + 9) == (room == 1000)
    assert report.answered < 200 or room < 10
    with KnowledgeBase.open(hearts, encoder=LetterEncoder()) as kb:
        rows = ((name, "", "") for name in names)
        lines = [line for some in link_lines(kb, rows, {}, counts=Counter()) for line in some]
    assert [json.loads(line)["mention"] for line in lines] == names


@pytest.mark.parametrize("length", [50, 3000])
def test_memory_depends_not_on_how_many_mentions_there_are(
    hearts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    monkeypatch.setattr(job, "BLOCK", 100)
    monkeypatch.setattr(kept, "_ROWS", 100)
    if length <= repeats.LONGEST:
        monkeypatch.setattr(repeats, "MEMORY", 100)
    peaks = []
    for count in (1000, 4000):
        with KnowledgeBase.open(hearts, encoder=LetterEncoder()) as kb:
            kb.link(["ASD"])
            tracemalloc.start()
            given = (f"{number:b}".translate({48: "?", 49: "!"}).rjust(length, "-")
                     for number in range(count))  # fmt: skip
            link_file(kb, given, tmp_path / f"{count}.jsonl")  # type: ignore[arg-type]
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def test_a_context_keeps_mentions_apart(hearts: Path, tmp_path: Path) -> None:
    around = ["hole in the heart", "autism spectrum disorder", "", "autism spectrum disorder", ""]
    (tmp_path / "a.tsv").write_text("mention\ttext\n" + "".join(f"ASD\t{t}\n" for t in around))
    report = _link(
        hearts, tmp_path / "a.tsv", tmp_path / "a.jsonl", column="mention", context_column="text"
    )
    found = [record["candidates"][0] for record in _records(tmp_path / "a.jsonl")]
    assert ["context_score" in best for best in found] == [True, True, False, True, False]
    assert found[1]["entity_id"] == found[3]["entity_id"] == "H:5"
    assert (report.rows, report.answered) == (5, 4)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_job_broken_off_goes_on_to_the_same_bytes(
    hearts: Path, mentions: Path, tmp_path: Path, ending: str
) -> None:
    unbroken, again = Counting(), Counting()
    _link(hearts, mentions, tmp_path / f"whole{ending}", encoder=unbroken)
    out = tmp_path / f"a{ending}"
    blocks = _broken_off(hearts, mentions, out)
    assert 2 <= len(blocks) <= 4
    # A block that lost its end is linked again.
    blocks[-1].write_bytes(blocks[-1].read_bytes()[:5])
    assert _link(hearts, mentions, out, encoder=again).skipped == len(blocks) - 1
    assert out.read_bytes() == (tmp_path / f"whole{ending}").read_bytes()
    # The same mentions are linked together again: the last block twice, no other.
    assert [call for call in again.calls if call not in unbroken.calls] == []
    assert not list(tmp_path.glob(".a.*"))


def test_a_changed_input_answers_the_changed_blocks_alone(
    hearts: Path, mentions: Path, tmp_path: Path
) -> None:
    out, encoder = tmp_path / "a.jsonl", Counting()
    kept = len(_broken_off(hearts, mentions, out))
    changed = _write(tmp_path / "mentions.tsv", [*NAMES[:3], "hart defects", *NAMES[4:]])
    assert _link(hearts, changed, out, encoder=encoder).skipped == kept - 1
    assert encoder.calls[0] == ["hart defects"]
    assert "liver tumour" not in encoder.requested
    _link(hearts, changed, tmp_path / "b.jsonl")
    assert out.read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_other_options_or_another_knowledge_base_begin_again(
    hearts: Path, mentions: Path, tmp_path: Path
) -> None:
    out, encoder = tmp_path / "a.jsonl", Counting()
    _broken_off(hearts, mentions, out)
    assert _link(hearts, mentions, out, encoder=encoder, top=1).skipped == 0
    assert encoder.calls[0] == ["liver tumour"]
    out.unlink()
    _broken_off(hearts, mentions, out)
    KnowledgeBase.build(
        tmp_path / "bundle", HEARTS[:4], hearts, encoder=LetterEncoder(), force=True
    ).close()
    assert _link(hearts, mentions, out).skipped == 0
    assert "H:5" not in out.read_text(encoding="utf-8")


def test_a_job_is_of_the_knowledge_base_that_was_opened(hearts: Path) -> None:
    with KnowledgeBase.open(hearts) as kb:
        before = job._Links(kb, {"top": 5}).settings
        with KnowledgeBase.open(hearts) as other:
            other.remove(["H:1"])
        assert job._Links(kb, {"top": 5}).settings == before
    with KnowledgeBase.open(hearts) as kb:
        assert job._Links(kb, {"top": 5}).settings != before


def test_a_broken_row_costs_no_block_before_it(
    hearts: Path, mentions: Path, tmp_path: Path
) -> None:
    mentions.write_bytes(mentions.read_bytes().replace(b"\nstature", b"\nstatur\xff"))
    with pytest.raises(InputError, check=about("mentions.tsv", line=12, hint="--encoding")):
        _link(hearts, mentions, tmp_path / "a.tsv")
    assert not (tmp_path / "a.tsv").exists()
    assert _link(hearts, _write(mentions, NAMES), tmp_path / "a.tsv").skipped == 4


@pytest.mark.parametrize(
    ("source", "error"),
    [([], InputError), (["a", None], InputError), (["a", "\ud800"], InputError)],
)
def test_what_is_no_mention_is_refused_and_leaves_no_trace(
    hearts: Path, tmp_path: Path, source: list[str], error: type[Exception]
) -> None:
    with pytest.raises(error):
        _link(hearts, source, tmp_path / "a.jsonl")
    assert not list(tmp_path.glob("*a.jsonl*"))


def test_a_file_that_is_there_and_options_that_do_not_fit_are_refused(
    hearts: Path, mentions: Path, tmp_path: Path
) -> None:
    taken = tmp_path / "a.jsonl"
    taken.write_text("mine")
    with pytest.raises(TargetError):
        _link(hearts, mentions, taken)
    for out, options in (
        ("a.txt", {}),
        ("a.pubtator", {}),
        ("a.csv", {"review": tmp_path / "r.csv", "min_probability": 0.1}),
        ("a.csv", {"review": tmp_path / "r.csv", "review_below": 0.0}),
        ("a.csv", {"review": tmp_path / "a.csv", "review_below": 0.5}),
        ("a.csv", {"review": tmp_path / "r.pubtator", "review_below": 0.5}),
        ("a.csv", {"review_below": 1.5}),
        ("b.tsv", {"context": "x", "context_column": "n"}),
        ("b.tsv", {"document": "x", "document_column": "n"}),
        ("b.tsv", {"top": 0}),
        ("b.xlsx", {"bom": True}),
    ):
        with pytest.raises(ConfigError):
            _link(hearts, mentions, tmp_path / out, **options)
    assert taken.read_text() == "mine"
    assert _link(hearts, mentions, taken, force=True).rows == 11
    assert not list(tmp_path.glob(".*.job"))


def test_a_job_in_use_is_refused(hearts: Path, mentions: Path, tmp_path: Path) -> None:
    def busy() -> Iterator[str]:
        yield "ASD"
        with pytest.raises(TargetError):
            _link(hearts, mentions, tmp_path / "a.jsonl")

    assert _link(hearts, busy(), tmp_path / "a.jsonl").rows == 1  # type: ignore[arg-type]


def test_progress_counts_every_row_once(hearts: Path, mentions: Path, tmp_path: Path) -> None:
    out, seen = tmp_path / "a.jsonl", []
    blocks = _broken_off(hearts, mentions, out)
    written = []
    _link(
        hearts, mentions, out,
        progress=lambda rows, requested: seen.append((rows, requested)), written=written.append,
    )  # fmt: skip
    assert written[-1] == len(NAMES)
    assert sum(rows for rows, _ in seen) == len(NAMES)
    assert [requested for _, requested in seen[: len(blocks)]] == [0] * len(blocks)
    assert sum(requested for _, requested in seen) == 9 - 2 * len(blocks)


class Shuffled:
    """An engine that first reads the whole input, and makes the shards in another order."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def make(self, work: Work, job: JobFolder, tasks: Iterator[ShardTask], _: object) -> object:
        """Make the shards in a seeded order."""
        all_tasks = list(tasks)
        for task in self.rng.sample(all_tasks, len(all_tasks)):
            yield work.make(job, task, None)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ending", ENDINGS)
def test_blocks_may_be_answered_in_any_order(
    hearts: Path, mentions: Path, tmp_path: Path, ending: str, seed: int
) -> None:
    _link(hearts, mentions, tmp_path / f"whole{ending}")
    kept = len(_broken_off(hearts, mentions, tmp_path / f"a{ending}", engine=Shuffled(seed)))
    report = _link(hearts, mentions, tmp_path / f"a{ending}", engine=Shuffled(seed + 9))
    assert report.skipped == kept
    assert (tmp_path / f"a{ending}").read_bytes() == (tmp_path / f"whole{ending}").read_bytes()


CHILD = """
import os, signal, sys
from pathlib import Path
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.knowledge.linking import job
from mirror_rt.runtime.job import JobFolder
from tests.test_link_job import Counting

kb, source, out, deadly = sys.argv[1:]
job.BLOCK = 2
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
    Counting.encode = dying(Counting.encode)
    JobFolder.log = dying(JobFolder.log)
    job.in_order = dying(job.in_order)
job.link_file(KnowledgeBase.open(kb, encoder=Counting()), source, Path(out))
"""


def test_killed_at_every_kind_of_moment_a_job_ends_in_the_same_bytes(
    hearts: Path, mentions: Path, tmp_path: Path
) -> None:
    out = tmp_path / "broken/a.tsv"
    _link(hearts, mentions, tmp_path / "whole/a.tsv")
    for moment in (1, 2, 4, 6, 8, 10, 11, 12):
        command = [sys.executable, "-c", CHILD, str(hearts), str(mentions), str(out), str(moment)]
        done = subprocess.run(command, cwd=REPOSITORY, check=False, timeout=300)
        if done.returncode == 0:
            break  # because so little is left to do
        assert done.returncode == -signal.SIGKILL
        assert not out.exists()
    assert moment > 4
    assert out.exists() or _link(hearts, mentions, out).skipped
    assert out.read_bytes() == (tmp_path / "whole/a.tsv").read_bytes()
    assert [path.name for path in out.parent.iterdir()] == ["a.tsv"]


def test_workers_write_the_same_bytes(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "BLOCK", 40)
    KnowledgeBase.build(tiny_bundle, HEARTS, tmp_path / "kb").close()
    names = [f"{name} {number}" for number in range(6) for name in NAMES]
    for workers in (1, 2):
        with KnowledgeBase.open(tmp_path / "kb", workers=workers) as kb:
            assert link_file(kb, names, tmp_path / f"{workers}.jsonl").rows == len(names)
    assert (tmp_path / "1.jsonl").read_bytes() == (tmp_path / "2.jsonl").read_bytes()
