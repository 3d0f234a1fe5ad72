"""Settings of a sentence-transformers folder that a bundle would lose, or that cannot be read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mirror_rt.errors import ModelError
from mirror_rt.pooling_config import check_text_preprocessing, read_pooling, write_modules
from mirror_rt.types import Pooling

FILES = (
    "modules.json", "1_Pooling/config.json", "config_sentence_transformers.json",
    "sentence_bert_config.json",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_modules(tmp_path, dim=8, pooling=Pooling.MEAN, max_length=32)
    return tmp_path


def read(folder: Path) -> tuple[Pooling, int | None]:
    check_text_preprocessing(folder, lowers=False)
    return read_pooling(folder)


def test_what_is_written_is_read(folder: Path) -> None:
    assert read(folder) == (Pooling.MEAN, 32)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("content", ["[1]", "3", "null", '"x"', "{", "\ud800"])
def test_a_file_that_is_no_object_is_reported(folder: Path, file: str, content: str) -> None:
    (folder / file).write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(ModelError):
        read(folder)


@pytest.mark.parametrize(
    ("file", "settings"),
    [
        (FILES[2], {"truncate_dim": 64}),
        (FILES[2], {"truncate_dim": 0}),
        (FILES[2], {"prompts": {"q": "ask: "}, "default_prompt_name": "q"}),
        (FILES[3], {"do_lower_case": True}),
        (FILES[1], {"pooling_mode": ["cls", "mean"]}),
        (FILES[1], {"pooling_mode": 7}),
        (FILES[1], {"pooling_mode_weightedmean_tokens": True}),
        (FILES[1], {}),
    ],
)
def test_settings_that_change_vectors_are_refused(
    folder: Path, file: str, settings: dict[str, object]
) -> None:
    (folder / file).write_text(json.dumps(settings))
    with pytest.raises(ModelError):
        read(folder)


@pytest.mark.parametrize(
    "settings",
    [
        {"truncate_dim": None},
        {"prompts": [], "default_prompt_name": "q"},
        {"prompts": {"q": "ask: "}, "default_prompt_name": ["q"]},
        {"prompts": {"q": ""}, "default_prompt_name": "q"},
        {"prompts": None, "default_prompt_name": None},
    ],
)
def test_settings_that_change_nothing_are_no_matter(
    folder: Path, settings: dict[str, object]
) -> None:
    (folder / FILES[2]).write_text(json.dumps(settings))
    assert read(folder) == (Pooling.MEAN, 32)
