"""The walk through a supplier's table, run as it is printed."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd

from tests.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs" / "match-a-table.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
RIGHT = {"007": "P1", "008": "P1", "009": "P3", "010": "P4", "011": "P5"}


def _rows(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def test_the_walk_runs_as_printed(tiny_bundle: Path, tmp_path: Path) -> None:
    assert len(BLOCKS) == 4
    shutil.copytree(tiny_bundle, tmp_path / "bundle")
    here = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    script = "set -e\n" + "\n".join(BLOCKS)
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": here, "OMP_NUM_THREADS": "1"}, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    given, linked = _rows(tmp_path / "supplier.csv"), _rows(tmp_path / "linked.csv")
    assert [{name: row[name] for name in given[0]} for row in linked] == given
    assert {row["status"] for row in linked} <= {"linked", "review"}
    assert linked[0]["entity_id"] == "P1"
    assert linked[0]["link_probability"]
    review = [row["sku"] for row in _rows(tmp_path / "review.csv")]
    assert sorted(review) == [row["sku"] for row in linked if row["status"] == "review"]
    assert {"008", "009", "011"} <= set(review)
    again = pd.read_excel(tmp_path / "again.xlsx", engine="calamine", dtype=str)
    assert dict(zip(again["sku"], again["entity_id"], strict=True)) == RIGHT
    taught = again[again["sku"].isin(review)]
    assert set(taught["status"]) == {"linked"}
