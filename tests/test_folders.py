"""The detected kind of a folder, complete or damaged; JSON files with their own checksum."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mirror_rt.errors import MirrorError
from mirror_rt.folders import FolderKind, folder_kind
from mirror_rt.hashing import is_unchanged, write_checked_json
from mirror_rt.training.checkpoint import resolve_checkpoint
from mirror_rt_cli.models import open_model
from tests.errors import about

KB = {"manifest.json": '{"kind": "knowledge base"}'}
BUNDLE = {"manifest.json": '{"pooling": "mean"}', "model.onnx": "", "config.json": "{}"}


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        (KB, FolderKind.KNOWLEDGE_BASE),
        ({"catalogue.sqlite": ""}, FolderKind.KNOWLEDGE_BASE),
        ({"manifest.json": "{", "catalogue.sqlite": ""}, FolderKind.KNOWLEDGE_BASE),
        (BUNDLE, FolderKind.BUNDLE),
        ({"manifest.json": "{"}, FolderKind.BUNDLE),
        ({"manifest.json": '{"kind": "static"}'}, FolderKind.BUNDLE),
        ({"model.onnx": "", "config.json": "{}"}, FolderKind.BUNDLE),
        ({"manifest.json": '{"kind": "vectors"}'}, FolderKind.VECTORS),
        ({"config.json": "{}", "model.safetensors": ""}, FolderKind.CHECKPOINT),
        ({"config.json": "{}", "model.safetensors": "", "model.onnx": ""}, FolderKind.CHECKPOINT),
        (BUNDLE | {"model.safetensors": ""}, FolderKind.BUNDLE),
        (
            {"manifest.json": '{"kind": "x"}', "config.json": "{}", "model.safetensors": ""},
            FolderKind.CHECKPOINT,
        ),
        ({"readme.txt": ""}, None),
    ],
)
def test_the_kind_of_a_folder_is_detected_by_its_files(
    files: dict[str, str], kind: FolderKind | None, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert folder_kind(tmp_path) is kind
    assert folder_kind(str(tmp_path)) is kind


def test_a_file_and_a_missing_folder_are_none_of_these(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert folder_kind(tmp_path / "file") is None
    assert folder_kind(tmp_path / "missing") is None


@pytest.mark.parametrize("files", [KB, BUNDLE, {"manifest.json": '{"kind": "vectors"}'}, {}])
def test_what_cannot_be_opened_as_a_model_is_an_error_that_names_the_folder(
    files: dict[str, str], tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    for use in (open_model, resolve_checkpoint):
        with pytest.raises(MirrorError, check=about(str(tmp_path))):
            use(str(tmp_path))


@pytest.mark.parametrize("key", ["manifest_sha256", "sha256"])
def test_any_change_of_a_checked_file_shows_but_not_its_layout(tmp_path: Path, key: str) -> None:
    path = tmp_path / "f.json"
    write_checked_json(path, {"b": [1, 2.5], "a": {"é": None}}, key=key)
    first = path.read_bytes()
    content = json.loads(first)
    assert is_unchanged(content, key=key)
    assert is_unchanged(dict(reversed(content.items())), key=key)
    assert not is_unchanged(content | {"b": [1, 2.6]}, key=key)
    assert not is_unchanged(content | {"c": 0}, key=key)
    assert not is_unchanged(
        {name: value for name, value in content.items() if name != key}, key=key
    )
    write_checked_json(path, {"a": {"é": None}, "b": [1, 2.5]}, key=key)
    assert path.read_bytes() == first
