"""Opening a bundle rejects everything that is not the bundle that was exported."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mirror_rt.bundle import BUNDLE_FORMAT_VERSION, Bundle, Manifest
from mirror_rt.errors import BundleError
from mirror_rt.types import Pooling, Precision
from tests.errors import about


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def test_a_whole_bundle_opens(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    assert opened.manifest.dim == 32
    assert opened.model_path.is_file()


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "1_Pooling/config.json"])
def test_a_flipped_byte_in_any_file_is_found(bundle: Path, name: str) -> None:
    file = bundle / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(BundleError, check=about(name, hint="export")):
        Bundle.open(bundle)


def test_a_missing_file_is_named(bundle: Path) -> None:
    (bundle / "tokenizer.json").unlink()
    with pytest.raises(BundleError, check=about("bundle")):
        Bundle.open(bundle, verify=False)


def test_a_newer_format_is_refused_with_the_way_out(bundle: Path) -> None:
    _edit(bundle, format_version=BUNDLE_FORMAT_VERSION + 1)
    with pytest.raises(BundleError, check=about("bundle", hint="pip install")):
        Bundle.open(bundle)


@pytest.mark.parametrize(
    "changes", [{"pooling": "max"}, {"precision": "int3"}, {"dim": None}, {"format_version": "1"}]
)
def test_a_manifest_that_makes_no_sense_is_refused(
    bundle: Path, changes: dict[str, object]
) -> None:
    _edit(bundle, **changes)
    with pytest.raises(BundleError):
        Bundle.open(bundle)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00"])
def test_a_manifest_that_is_not_a_json_object_is_refused(bundle: Path, text: str) -> None:
    (bundle / "manifest.json").write_text(text)
    with pytest.raises(BundleError):
        Bundle.open(bundle)


def test_a_folder_without_a_manifest_is_not_a_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, check=about(hint="mirror-rt export")):
        Bundle.open(tmp_path)
    with pytest.raises(BundleError, check=about("nowhere", hint="mirror-rt export")):
        Bundle.open(tmp_path / "nowhere")


def test_a_manifest_reads_back_as_it_was_written(bundle: Path, tmp_path: Path) -> None:
    manifest = Manifest.read(bundle / "manifest.json")
    manifest.write(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (bundle / "manifest.json").read_bytes()


def test_the_fingerprint_depends_on_content_and_not_on_place(
    bundle: Path, tiny_bundle: Path, tiny_bundle_int8: Path
) -> None:
    assert Bundle.open(bundle).fingerprint == Bundle.open(tiny_bundle).fingerprint
    assert Bundle.open(bundle).fingerprint != Bundle.open(tiny_bundle_int8).fingerprint


@pytest.mark.parametrize(
    "changes", [{"max_length": 4}, {"pooling": "cls"}, {"unit_norm": False}, {"gate": {}}]
)
def test_a_manifest_that_was_changed_is_refused(bundle: Path, changes: dict[str, object]) -> None:
    _edit(bundle, **changes)
    with pytest.raises(BundleError, check=about("manifest.json")):
        Bundle.open(bundle, verify=False)


@pytest.mark.parametrize(
    "change",
    [
        {"dim": 31},
        {"max_length": 4},
        {"pooling": Pooling.CLS},
        {"precision": Precision.INT8},
        {"unit_norm": False},
    ],
)
def test_the_fingerprint_covers_what_decides_the_vectors(
    bundle: Path, change: dict[str, Any]
) -> None:
    opened = Bundle.open(bundle)
    other = replace(opened, manifest=replace(opened.manifest, **change))
    assert other.fingerprint != opened.fingerprint
    same = replace(opened, manifest=replace(opened.manifest, versions={}))
    assert same.fingerprint == opened.fingerprint


def test_another_kind_of_folder_is_named_as_what_it_is(tmp_path: Path) -> None:
    for kind in ("knowledge base", "vectors"):
        (tmp_path / "manifest.json").write_text(json.dumps({"kind": kind, "format_version": 1}))
        with pytest.raises(BundleError, check=about(str(tmp_path), value=kind)):
            Bundle.open(tmp_path)


def _edit(bundle: Path, **changes: object) -> None:
    path = bundle / "manifest.json"
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
