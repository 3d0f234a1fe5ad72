"""The texts of the most frequent errors: the thing, the fault, the way out, on one line.

Other tests check the class of an error and what it names; the sentences are here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mirror_rt._extras import require
from mirror_rt.bundle import Bundle
from mirror_rt.describe import describe
from mirror_rt.errors import (
    BundleError,
    ConfigError,
    InputError,
    KnowledgeBaseError,
    MirrorError,
    MissingExtraError,
    ModelError,
    TargetError,
)
from mirror_rt.evaluation.gold import read_gold
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.knowledge.formats import read_entities
from mirror_rt.staging import check_target
from mirror_rt.training.checkpoint import resolve_checkpoint
from mirror_rt.training.config import TrainConfig
from mirror_rt_cli.inputs import parsed_filters, source_of
from tests.kb import fake_bundle


def _file(text: str, name: str = "kb.tsv") -> Path:
    Path(name).write_bytes(text.encode("utf-8", "surrogateescape"))
    return Path(name)


def _newer_bundle() -> Path:
    path = fake_bundle(Path("bundle")).path
    manifest = path / "manifest.json"
    content = json.loads(manifest.read_text(encoding="utf-8"))
    manifest.write_text(json.dumps({**content, "format_version": 9}))
    return path


def _changed_bundle() -> Path:
    path = fake_bundle(Path("bundle")).path
    (path / "model.onnx").write_text("another")
    return path


CASES: dict[str, tuple[Callable[[], object], type[MirrorError], str]] = {
    "no bundle": (
        lambda: Bundle.open("bundle"), BundleError,
        "bundle: no such folder; make a bundle with: mirror-rt export",
    ),
    "a newer bundle": (
        lambda: Bundle.open(_newer_bundle()), BundleError,
        "bundle: bundle format 9, this version reads up to 1; run: pip install -U mirror-rt",
    ),
    "a changed bundle": (
        lambda: Bundle.open(_changed_bundle()), BundleError,
        "bundle/model.onnx: changed since it was exported (sha256 differs); export again",
    ),
    "a bundle as a knowledge base": (
        lambda: KnowledgeBase.open(fake_bundle(Path("bundle")).path), KnowledgeBaseError,
        "bundle: is a bundle, not a knowledge base; make one with: mirror-rt index",
    ),
    "a bundle as a checkpoint": (
        lambda: resolve_checkpoint(fake_bundle(Path("bundle")).path), ModelError,
        "bundle: is a bundle, whose weights are for lookup alone; give the checkpoint or base "
        "model that it was exported from",
    ),
    "a target that exists": (
        lambda: check_target(_file("mine", "out.tsv")), TargetError,
        "out.tsv: exists already; choose another name or give --force",
    ),
    "a file, described": (
        lambda: describe(_file("id\tname\n")), InputError,
        "kb.tsv: is a file; info describes folders (for a knowledge-base file: mirror-rt kb stats)",
    ),
    "a row without a name": (
        lambda: list(read_entities(_file("id\tname\n1\tcough\n2\t\n"))), InputError,
        "kb.tsv: line 3: no name",
    ),
    "bytes that are not UTF-8": (
        lambda: list(read_entities(_file("id\tname\n1\tcough\n2\t\udcff\n"))), InputError,
        "kb.tsv: line 3: the name is not UTF-8; probably it is windows-1252: give --encoding "
        "windows-1252, or convert the file (iconv -f)",
    ),
    "an empty file": (
        lambda: list(read_entities(_file(""))), InputError,
        "kb.tsv: is empty; give an entity a row",
    ),
    "gold without a column of mentions": (
        lambda: read_gold(_file("a\tb\n1\t2\n", "gold.tsv")), InputError,
        "gold.tsv: cannot tell the mention column from the header (a, b); give --mention-column",
    ),
    "a file of mentions that is not there": (
        lambda: source_of(["mentions.tsv"], columns={}), InputError, "mentions.tsv: no such file",
    ),
    "a filter that is none": (
        lambda: parsed_filters(["disease"]), ConfigError,
        "--filter disease: give FIELD=VALUE, as in type=disease",
    ),
    "a temperature of nothing": (
        lambda: TrainConfig(corpus="c.txt", base="b", out=Path("o"), temperature=0.0),
        ConfigError, "temperature: must be above 0.0, got 0.0",
    ),
    "a stack that is not installed": (
        lambda: require("no_such_package", extra="serve"), MissingExtraError,
        "no_such_package: not installed; run: pip install 'mirror-rt[serve]'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_message_is_as_written_here(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    act, kind, message = CASES[case]
    with pytest.raises(kind) as caught:
        act()
    assert str(caught.value) == message
