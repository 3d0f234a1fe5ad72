"""Sharing the cores: measuring, remembering, and doing without a cache."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mirror_rt import Encoder
from mirror_rt.bundle import Bundle
from mirror_rt.runtime import encoder as encoder_module
from mirror_rt.runtime import session
from mirror_rt.runtime.schedule import Schedule, candidates, fastest, recall, remember
from mirror_rt.types import TokenBatch
from tests.tiny import NAMES


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def measured(cost: dict[int, float]) -> Schedule:
    """Let ``fastest`` choose for 4 threads, where a turn of each width takes what is given."""
    now = 0.0

    def work(schedule: Schedule) -> None:
        nonlocal now
        now += cost[schedule.width]

    return fastest(candidates(4), work, seconds=10, clock=lambda: now)


def test_the_clearly_fastest_schedule_is_taken() -> None:
    assert measured({1: 1.0, 2: 0.5, 4: 0.8}) == Schedule(workers=2, width=2)


def test_a_difference_within_the_noise_keeps_the_default() -> None:
    assert measured({1: 1.0, 2: 0.98, 4: 0.99}) == Schedule(workers=4, width=1)


def test_a_turn_that_takes_all_the_time_is_the_last() -> None:
    assert measured({1: 30.0, 2: 0.1, 4: 0.1}) == Schedule(workers=4, width=1)


@pytest.mark.parametrize("threads", [1, 2, 3, 4, 7, 12, 16])
def test_every_candidate_uses_all_threads(threads: int) -> None:
    schedules = candidates(threads)
    assert schedules[0] == Schedule(workers=threads)
    assert {s.workers * s.width for s in schedules} == {threads}
    assert len(set(schedules)) == len(schedules)


def test_a_schedule_is_remembered_for_its_bundle_threads_and_cpu_only(
    tiny_bundle: Path, tiny_bundle_int8: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, other = Bundle.open(tiny_bundle), Bundle.open(tiny_bundle_int8)
    remember(bundle, 4, Schedule(workers=2, width=2))
    assert recall(bundle, 4) == Schedule(workers=2, width=2)
    assert recall(bundle, 8) == Schedule(workers=8)
    assert recall(other, 4) == Schedule(workers=4)
    monkeypatch.setattr("mirror_rt.runtime.schedule._cpu", lambda: "another CPU")
    assert recall(bundle, 4) == Schedule(workers=4)


@pytest.mark.parametrize("content", ["", "[]", '{"workers": 99, "width": 1}', '{"a": 1}', "{"])
def test_a_broken_cache_gives_the_default(tiny_bundle: Path, cache: Path, content: str) -> None:
    bundle = Bundle.open(tiny_bundle)
    remember(bundle, 4, Schedule(workers=2, width=2))
    (kept,) = (cache / "mirror-rt").iterdir()
    kept.write_text(content)
    assert recall(bundle, 4) == Schedule(workers=4)


def test_calibrating_is_remembered_and_changes_no_vector(tiny_bundle: Path, cache: Path) -> None:
    encoder = Encoder.open(tiny_bundle, threads=2)
    before_ND = encoder.encode(NAMES)
    schedule = encoder.calibrate(seconds=0.2)
    assert schedule in candidates(2)
    assert len(list((cache / "mirror-rt").iterdir())) == 1
    assert Encoder.open(tiny_bundle, threads=2).schedule == schedule
    np.testing.assert_allclose(encoder.encode(NAMES), before_ND, atol=1e-6)


def test_where_there_is_no_choice_nothing_is_measured(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder.open(tiny_bundle, threads=1)
    monkeypatch.setattr(encoder, "_session", None)  # a run of the model would fail
    assert encoder.calibrate() == Schedule(workers=1)


@pytest.mark.parametrize(("opening", "running"), [(0.4, 0.0), (0.0, 0.15), (0.1, 0.1), (0.0, 0.4)])
def test_calibrating_takes_no_longer_than_it_may_however_slow_the_model(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, opening: float, running: float
) -> None:
    load, run, now = session._load, session.Session.run, 0.0
    clock = SimpleNamespace(monotonic=lambda: now)
    threads, lock = 4, threading.Lock()

    def take(seconds: float) -> None:
        nonlocal now
        with lock:
            now += seconds

    def slow_load(path: Path, width: int, **how: bool) -> object:
        take(opening)
        opened = load(path, width, **how)
        widths[id(opened)] = width
        return opened

    def slow_run(self: session.Session, batch: TokenBatch) -> object:
        # Runs in threads of their own go on at once: together they take the time of one.
        alone = threading.current_thread() is threading.main_thread()
        take(running if alone else running * widths[id(self._session)] / threads)
        return run(self, batch)

    widths: dict[int, int] = {}
    monkeypatch.setattr(encoder_module, "time", clock)
    monkeypatch.setattr(session, "time", clock)
    monkeypatch.setattr(session, "_load", slow_load)
    monkeypatch.setattr(session.Session, "run", slow_run)
    encoder = Encoder.open(tiny_bundle, threads=threads)
    begin = now
    assert encoder.calibrate(seconds=0.6) in candidates(threads)
    assert now - begin <= 0.6 + 1e-9


def test_without_a_writable_cache_calibrating_still_works(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert Encoder.open(tiny_bundle, threads=2).calibrate(seconds=0.1) in candidates(2)


@pytest.mark.parametrize("width", [1, 2, 4])
def test_a_remembered_schedule_is_how_batches_run(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    wanted = Schedule(workers=4 // width, width=width)
    remember(Bundle.open(tiny_bundle), 4, wanted)
    encoder = Encoder.open(tiny_bundle, threads=4)
    assert encoder.schedule == wanted
    assert encoder._session._session.get_session_options().intra_op_num_threads == width
    expected_ND = encoder.encode(NAMES[:8])
    run, together, threads = session.Session.run, threading.Barrier(wanted.workers, timeout=60), []

    def waiting(self: session.Session, batch: TokenBatch) -> object:
        threads.append(threading.get_ident())
        together.wait()  # fewer runs at once would wait for ever
        return run(self, batch)

    monkeypatch.setattr(encoder_module, "TOKENS", 1)  # each text is a batch
    monkeypatch.setattr(session.Session, "run", waiting)
    np.testing.assert_allclose(encoder.encode(NAMES[:8]), expected_ND, atol=1e-6)
    assert (len(threads), len(set(threads))) == (8, wanted.workers)
