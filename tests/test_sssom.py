"""Mappings in SSSOM/TSV: its header, its quotes, its terms."""

from __future__ import annotations

import csv
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mirror_rt.errors import ConfigError
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.knowledge.formats.sssom import PREDICATES, SssomMapping, write_sssom
from mirror_rt.types import Relation
from tests.kb import LetterEncoder, entity, fake_bundle

ODD = [
    SssomMapping(
        subject_id="A:1", subject_label='tab\there, "quoted"', object_id="HP:0001250",
        object_label="new\nline", confidence=0.25, match_strings=("a|b", "c"),
    ),
    SssomMapping(
        subject_label="# a mention", object_id="no prefix/é", object_label="é", score=1.5,
        relation=Relation.NARROWER,
    ),
    SssomMapping(subject_id="http://e.org/a b", subject_label="", object_id="MESH:D1",
                 object_label="x", relation=Relation.BROADER),
]  # fmt: skip


def read(path: Path) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Read a file by the rules of SSSOM/TSV: YAML behind #, then TSV with quotes."""
    lines = path.read_text(encoding="utf-8").split("\n")
    head = [line for line in lines if line.startswith("#")]
    about = yaml.safe_load("\n".join(line.removeprefix("#") for line in head))
    with open(path, encoding="utf-8", newline="") as handle:
        for _ in head:
            next(handle)
        return about, list(csv.DictReader(handle, delimiter="\t"))


def assert_valid(path: Path) -> None:
    about, rows = read(path)
    assert {"mapping_set_id", "license", "curie_map"} <= about.keys()
    for row in rows:
        for column in ("subject_id", "object_id", "predicate_id", "mapping_justification"):
            prefix, colon, rest = row[column].partition(":")
            if column == "subject_id" and not row[column]:
                assert row["subject_type"] == "rdfs literal"
                assert row["subject_label"]
                continue
            assert (prefix in about["curie_map"], colon, bool(rest)) == (True, ":", True), row
        assert row["predicate_id"] in PREDICATES.values()
        assert not row["confidence"] or 0 <= float(row["confidence"]) <= 1
    if program := shutil.which("sssom"):
        done = subprocess.run([program, "validate", str(path)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "ERROR" not in done.stderr


def test_whatever_stands_in_names_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "a.sssom.tsv"
    assert write_sssom(path, ODD, comment="it's: a # set") == 3
    about, rows = read(path)
    assert_valid(path)
    assert about["comment"] == "it's: a # set"
    assert [row["subject_label"] for row in rows] == [one.subject_label for one in ODD]
    assert [row["object_label"] for row in rows] == ["new\nline", "é", "x"]
    assert rows[0]["match_string"] == r"a\|b|c"
    assert [row["predicate_id"] for row in rows] == [
        "skos:exactMatch", "skos:narrowMatch", "skos:broadMatch",
    ]  # fmt: skip
    assert rows[1]["object_id"] == "local:no%20prefix/%C3%A9"
    assert [p.name for p in tmp_path.iterdir()] == ["a.sssom.tsv"]
    before = path.read_bytes()
    write_sssom(path, ODD, comment="it's: a # set")
    assert path.read_bytes() == before
    assert write_sssom(path, []) == 0
    assert_valid(path)


@pytest.fixture(scope="module")
def hearts(tmp_path_factory: pytest.TempPathFactory) -> Iterable[KnowledgeBase]:
    folder = tmp_path_factory.mktemp("hearts")
    things = [
        entity("H:1", "atrial septal defect", "ASD"), entity("H:5", "autism", "ASD"),
        entity("H:4", "liver cancer", "cancer of the liver"),
    ]  # fmt: skip
    built = KnowledgeBase.build(
        fake_bundle(folder / "bundle"), things, folder / "kb", encoder=LetterEncoder()
    )
    yield built
    built.close()


def test_links_are_mappings_of_texts(hearts: KnowledgeBase, tmp_path: Path) -> None:
    (tmp_path / "m.txt").write_text("Liver Cancer\nASD\n?\nqqq zzz\n")
    out = tmp_path / "links.sssom.tsv"
    hearts.link_file(tmp_path / "m.txt", out, min_probability=0.6)
    _, rows = read(out)
    assert_valid(out)
    assert [(r["subject_label"], r["object_id"]) for r in rows] == [
        ("Liver Cancer", "H:4"), ("ASD", "H:1"), ("ASD", "H:5"),
    ]  # fmt: skip
    assert rows[0]["match_string"] == "liver cancer"
    liver, asd = hearts.link(["Liver Cancer", "ASD"])
    expected = [liver[0].probability, asd[0].probability, asd[1].probability]
    assert [float(row["confidence"]) for row in rows] == pytest.approx(expected, abs=1e-4)
    for more in ({"long": True}, {"review": tmp_path / "r.sssom.tsv", "review_below": 0.5}):
        with pytest.raises(ConfigError):
            hearts.link_file(tmp_path / "m.txt", tmp_path / "x.sssom.tsv", **more)  # type: ignore[arg-type]
