"""Processes that propose entities: the same answers as without, and none left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mirror_rt.errors import ConfigError, KnowledgeBaseError
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.knowledge.linking import job, linker, workers
from mirror_rt.knowledge.linking.workers import MIN_PER_WORKER
from mirror_rt.types import IndexKind
from mirror_rt_cli.app import app
from tests.conftest import REPOSITORY
from tests.errors import about
from tests.kb import LetterEncoder, entity, fake_bundle

NAMES = [
    "septal defects of atria", "livers with cancer", "tiny bodies", "hart hole", "spectrum autism",
    "carcinoma, hepatic!", "ventricle septum defect",
]  # fmt: skip
MENTIONS = [*(f"{name} {i}" for i in range(MIN_PER_WORKER) for name in NAMES), "ASD", "", "?!"]
"""All but the last are no names, and more than a piece of work for each process."""


@pytest.fixture
def kb(hearts: Path) -> Iterator[KnowledgeBase]:
    with KnowledgeBase.open(hearts, encoder=LetterEncoder(), workers=2) as kb:
        yield kb
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("index", [IndexKind.HNSW, IndexKind.PQ, IndexKind.IVF_PQ])
def test_workers_search_an_index_like_one_process(tmp_path: Path, index: IndexKind) -> None:
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghij"))
    words = ["".join(rng.choice(letters, size=6)) for _ in range(3_000)]
    things = [entity(f"W:{i}", word, f"{word} {words[i - 1]}") for i, word in enumerate(words)]
    out = tmp_path / "kb"
    encoder = LetterEncoder()
    bundle = fake_bundle(tmp_path / "bundle")
    mentions = [f"{word[:3]}x{word[3:]}" for word in words[:150]]
    with KnowledgeBase.build(bundle, things, out, encoder=encoder, index=index) as alone:
        assert not alone.resources.retrievers.vectors.is_exhaustive
        expected = alone.link(mentions)
    with KnowledgeBase.open(out, encoder=encoder, workers=2) as kb:
        assert kb.link(mentions) == expected


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("proposed by the parent process")


@pytest.mark.parametrize("filters", [None, {"type": "growth"}, {"id": ["H:1", "H:4"]}])
def test_workers_give_the_very_same_answers(
    hearts: Path,
    kb: KnowledgeBase,
    filters: dict[str, str | list[str]] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with KnowledgeBase.open(hearts, encoder=LetterEncoder()) as alone:
        expected = alone.link(MENTIONS, top=3, filters=filters)
    assert len({answer[0].entity_id for answer in expected if answer}) > (filters is None)
    for module in (linker, workers):
        monkeypatch.setattr(module, "propose", refuse)
    found = kb.link(MENTIONS, top=3, filters=filters)
    assert found == expected
    assert [answer.nil_reason for answer in found] == [answer.nil_reason for answer in expected]


def test_few_mentions_start_no_process(kb: KnowledgeBase) -> None:
    kb.link(MENTIONS[: MIN_PER_WORKER - 1])
    assert multiprocessing.active_children() == []
    kb.link(MENTIONS[:MIN_PER_WORKER])
    assert multiprocessing.active_children() != []


def test_workers_rank_by_what_a_calibration_taught(hearts: Path, kb: KnowledgeBase) -> None:
    before = kb.link(MENTIONS)  # they have it open by now
    kb.calibrate([(mention, frozenset({"H:1"})) for mention in MENTIONS[:-3]])
    with KnowledgeBase.open(hearts, encoder=LetterEncoder()) as alone:
        assert kb.link(MENTIONS) == alone.link(MENTIONS) != before


def test_a_folder_that_was_replaced_is_reported(hearts: Path, kb: KnowledgeBase) -> None:
    with KnowledgeBase.open(hearts, encoder=LetterEncoder()) as other:
        other.remove(["H:1"])
    with pytest.raises(KnowledgeBaseError, check=about("hearts")):
        kb.link(MENTIONS)


def test_a_worker_that_was_killed_is_reported(kb: KnowledgeBase) -> None:
    kb.link(MENTIONS)
    worker, *_ = multiprocessing.active_children()
    worker.kill()
    worker.join()
    with pytest.raises(KnowledgeBaseError, check=about("hearts")):
        kb.link(MENTIONS)


def test_a_script_without_a_main_guard_is_an_error(hearts: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(f"""
import sys
import threading
sys.path.insert(0, {str(REPOSITORY)!r})
from mirror_rt.knowledge import KnowledgeBase
from tests.kb import LetterEncoder
from tests.test_workers import MENTIONS

with KnowledgeBase.open({str(hearts)!r}, encoder=LetterEncoder(), workers=2) as kb:
    kb.link(MENTIONS)
""")
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    # The process that tracks semaphores may warn after it, when it finds some left behind.
    said = [line for line in done.stderr.splitlines() if "resource_tracker" not in line]
    assert "has its work under: if __name__ == '__main__'" in said[-1]


def test_no_workers_are_refused(hearts: Path) -> None:
    with pytest.raises(ConfigError, check=about("workers")):
        KnowledgeBase.open(hearts, workers=0)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_when_their_parent_ends(hearts: Path, number: int) -> None:
    script = """
import os, sys
from mirror_rt.knowledge import KnowledgeBase
from tests.kb import LetterEncoder
from tests.test_workers import MENTIONS

kb = KnowledgeBase.open(sys.argv[1], encoder=LetterEncoder(), workers=2)
kb.link(MENTIONS)
os.kill(0 if sys.argv[2] == "2" else os.getpid(), int(sys.argv[2]))
"""
    # The workers hold the pipe as well: its end is theirs. An interrupt is sent to all of them.
    died = subprocess.run(
        [sys.executable, "-c", script, str(hearts), str(int(number))],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=120, start_new_session=True,
        check=False,
    )  # fmt: skip
    assert died.returncode == -number
    assert died.stderr.count("Traceback") == (number == signal.SIGINT)


def test_a_file_linked_by_workers_has_the_same_bytes(
    hearts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "mirror_rt.knowledge.knowledge_base.open_encoder", lambda bundle: LetterEncoder()
    )
    monkeypatch.setattr(job, "BLOCK", 2 * MIN_PER_WORKER)
    mentions = tmp_path / "mentions.txt"
    mentions.write_text("".join(f"{name}\n" for name in MENTIONS if name), encoding="utf-8")

    def linked(out: Path, *more: str) -> bytes:
        arguments = ["link", str(hearts), str(mentions), "--out", str(out), *more]
        assert CliRunner().invoke(app, arguments).exit_code == 0
        return out.read_bytes()

    alone = linked(tmp_path / "a.jsonl")
    for module in (linker, workers):
        monkeypatch.setattr(module, "propose", refuse)
    assert linked(tmp_path / "b.jsonl", "--workers", "2") == alone


def test_an_interrupt_while_workers_start_comes_after_it() -> None:
    waiting = threading.Event()
    other = threading.Thread(target=waiting.wait)  # the system may give it the signal
    other.start()
    done: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(KeyboardInterrupt), workers._inherited_settings():
            os.kill(os.getpid(), signal.SIGINT)
            done.append(sum(range(1_000_000)))
    finally:
        waiting.set()
        other.join()
    assert done
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("fault", [KeyboardInterrupt, MemoryError])
def test_workers_that_are_interrupted_while_they_start_are_ended(
    kb: KnowledgeBase, monkeypatch: pytest.MonkeyPatch, fault: type[BaseException]
) -> None:
    def result(self: Future[None], timeout: float | None = None) -> None:
        raise fault

    with monkeypatch.context() as patched:
        patched.setattr(Future, "result", result)
        with pytest.raises(fault):
            kb.link(MENTIONS)
    assert multiprocessing.active_children() == []
    assert len(kb.link(MENTIONS)) == len(MENTIONS)
