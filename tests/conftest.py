"""Fixtures of several test files: tiny models, tiny bundles, a tiny knowledge base."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

import mirror_rt  # noqa: F401  (turns telemetry off before any test imports onnxruntime)

# Two cores: one thread a process keeps seeded results the same and the machine usable.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"
# pytest-xdist sets the width of its own terminal; tests ask for the widths that they want.
os.environ.pop("COLUMNS", None)

# How long an example takes depends on what else the machine does.
hypothesis.settings.register_profile("mirror_rt", deadline=None)
hypothesis.settings.load_profile("mirror_rt")

# A job in the background of a shell ignores Ctrl-C, and so would all that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Return a function that gives a path under the real evaluation data, or skips the test."""
    root = Path(os.environ.get("MIRROR_RT_DATA", REPOSITORY.parent / "shared" / "data"))

    def path_of(name: str) -> Path:
        path = root / name
        if not path.exists():
            pytest.skip(f"real data {name} is not at {root} (set MIRROR_RT_DATA to its folder)")
        return path

    return path_of


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A seeded 2-layer BERT checkpoint of width 32, without a pooling config."""
    from tests.tiny import tiny_checkpoint

    return tiny_checkpoint(tmp_path_factory.mktemp("models") / "tiny-bert")


@pytest.fixture(scope="session")
def tiny_bundle(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny BERT as a float32 bundle with mean pooling."""
    return _exported(tiny_bert, tmp_path_factory.mktemp("bundles") / "fp32", "fp32")


@pytest.fixture(scope="session")
def tiny_bundle_int8(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny BERT as an int8 bundle with mean pooling."""
    return _exported(tiny_bert, tmp_path_factory.mktemp("bundles") / "int8", "int8")


@pytest.fixture(scope="session")
def built_hearts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a knowledge base of ``tests.kb.HEARTS`` and its bundle, not to be changed."""
    from tests.kb import hearts_in

    return hearts_in(tmp_path_factory.mktemp("built")).parent


@pytest.fixture
def hearts(built_hearts: Path, tmp_path: Path) -> Path:
    """A copy of the knowledge base in ``tmp_path``, beside its bundle; a test may change it."""
    shutil.copytree(built_hearts, tmp_path, dirs_exist_ok=True)
    return tmp_path / "hearts"


def _exported(checkpoint: Path, out: Path, precision: str) -> Path:
    from mirror_rt.exporting.pipeline import export
    from mirror_rt.types import Pooling, Precision

    return export(checkpoint, out, precision=Precision(precision), pooling=Pooling.MEAN).path
