"""The encoder in the package."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mirror_rt import Encoder
from mirror_rt.bundle import STARTER, STARTER_NOTE, Bundle
from mirror_rt.types import BundleKind
from mirror_rt_cli.app import app

RUN = CliRunner()


def test_it_is_whole_small_and_has_its_card() -> None:
    bundle = Bundle.open(STARTER)
    assert bundle.manifest.kind is BundleKind.STATIC
    assert sum(file.stat().st_size for file in STARTER.iterdir()) <= 4_000_000
    card = (STARTER / "README.md").read_text("utf-8")
    assert "all-MiniLM-L6-v2" in card
    assert "CC BY 4.0" in card


def test_without_a_bundle_it_is_opened_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="mirror_rt"):
        encoder = Encoder.open()
    assert [record.getMessage() for record in caplog.records] == [STARTER_NOTE]
    assert "\n" not in STARTER_NOTE
    assert encoder.bundle.path == STARTER
    caplog.clear()
    Encoder.open(STARTER)
    assert not caplog.records


def test_it_knows_names_of_several_domains() -> None:
    encoder = Encoder.open(STARTER)
    near = [
        ("kidney stones", "renal calculi", "stone mason"),
        ("software developer", "computer programmer", "dental nurse"),
        ("heart attack", "cardiac arrest", "hay fever"),
        ("San Fransisco", "San Francisco", "San Salvador"),
    ]
    for name, same, other in near:
        vectors = encoder.encode([name, same, other])
        assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]
    assert encoder.encode_counted([name for names in near for name in names]).unfamiliar == 0


def test_index_takes_a_file_alone(tmp_path: Path) -> None:
    kb = tmp_path / "kb.tsv"
    kb.write_text(
        "id\tname\talias\nP1\tCordless drill\tpower drill\nP2\tWood glue\tcarpenter's glue\n"
    )
    done = RUN.invoke(app, ["index", str(kb), "--out", str(tmp_path / "kb")])
    assert done.exit_code == 0, done.stderr
    assert STARTER_NOTE in done.stderr
    done = RUN.invoke(app, ["link", str(tmp_path / "kb"), "battery-powered drills"])
    assert json.loads(done.stdout)["candidates"][0]["entity_id"] == "P1"
    done = RUN.invoke(app, ["index", str(STARTER), str(kb), "--out", str(tmp_path / "other")])
    assert done.exit_code == 0, done.stderr
    assert STARTER_NOTE not in done.stderr
    for name in ("vectors.npy", "index.faiss"):
        assert (tmp_path / "kb" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_a_bundle_alone_or_too_much_is_refused(tmp_path: Path) -> None:
    for given in ([str(STARTER)], [str(STARTER), "a.tsv", "b.tsv"]):
        done = RUN.invoke(app, ["index", *given, "--out", str(tmp_path / "kb")])
        assert done.exit_code == 1
        assert done.stderr.count("mirror-rt: ") == 1
        assert not (tmp_path / "kb").exists()


_ALONE = """
import sys
from mirror_rt_cli.app import app
try:
    app(sys.argv[1:])
finally:
    bad = {"onnxruntime", "tokenizers", "torch", "transformers"} & set(sys.modules)
    print(sorted(bad), file=sys.stderr)
"""


def test_a_table_is_linked_without_onnxruntime(tmp_path: Path) -> None:
    kb = tmp_path / "kb.tsv"
    kb.write_text("id\tname\n" + "".join(f"P{i}\tdrill number {i}\n" for i in range(50)))
    commands = (
        ["index", str(kb), "--out", str(tmp_path / "kb")],
        ["link", str(tmp_path / "kb"), "drill nr 7"],
    )
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-c", _ALONE, *command],
            capture_output=True, text=True, check=False, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stderr.splitlines()[-1] == "[]"
    assert json.loads(done.stdout)["candidates"][0]["entity_id"] == "P7"


def test_its_vectors_stay_the_same() -> None:
    """If texts were split in another way, the table in the package would be useless."""
    found = Encoder.open(STARTER).encode(["Ménière's disease", "", "software developer"])
    kept = json.loads((Path(__file__).parent / "golden" / "starter.json").read_text())
    np.testing.assert_allclose(found[:, :8], kept, atol=1e-5)
