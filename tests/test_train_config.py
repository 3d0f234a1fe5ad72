"""The paper's presets, and options that are errors."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from mirror_rt.errors import ConfigError
from mirror_rt.training.config import TrainConfig
from mirror_rt.types import PairSource, Preset
from tests.errors import about


def config_of(**options: object) -> TrainConfig:
    return TrainConfig(corpus="c.txt", base="b", out=Path("o"), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("preset", "temperature", "span_length", "epochs", "max_length"),
    [
        (Preset.WORD, 0.2, 0, 2, 25),
        (Preset.NAME, 0.04, 2, 2, 25),
        (Preset.SENTENCE, 0.04, 5, 1, 50),
    ],
)
def test_presets_are_the_papers(
    preset: Preset, temperature: float, span_length: int, epochs: int, max_length: int
) -> None:
    config = config_of(preset=preset)
    assert (config.temperature, config.span_length) == (temperature, span_length)
    assert (config.epochs, config.max_length) == (epochs, max_length)
    assert (config.lr, config.weight_decay, config.batch_size) == (2e-5, 0.01, 200)


def test_the_preset_for_synonyms_has_a_rate_of_its_own() -> None:
    config = config_of(preset=Preset.SYNONYMS, pairs=PairSource.SYNONYMS)
    assert (config.lr, config.temperature, config.epochs) == (1e-4, 0.07, 1)
    assert config_of(preset=Preset.SYNONYMS, lr=2e-4).lr == 2e-4


def test_every_value_of_a_preset_can_be_overridden() -> None:
    config = config_of(preset=Preset.WORD, temperature=0.1, span_length=0, epochs=5, max_length=9)
    assert (config.temperature, config.span_length) == (0.1, 0)
    assert (config.epochs, config.max_length) == (5, 9)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 0.0), ("temperature", math.nan), ("lr", -1e-5), ("lr", math.inf),
        ("span_length", -1), ("span_rate", 1.5), ("dropout", 1.0), ("epochs", 0),
        ("max_length", 2), ("batch_size", 1), ("max_pairs", 0), ("max_steps", 0), ("seed", -1),
        ("seed", 2**64),
        ("pairs_per_entity", 0), ("threads", 0), ("weight_decay", -0.1), ("base_share", 1.0),
        ("pairs", {}),
        ("pairs", {PairSource.MIRROR: 0.0}), ("pairs", {PairSource.MIRROR: math.nan}),
        ("pairs_file", Path("p.tsv")),
    ],
)  # fmt: skip
def test_nonsense_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ConfigError, check=about(name)):
        config_of(**{name: value})


def test_the_preset_for_linking_mines_and_keeps_a_share_of_the_base() -> None:
    config = config_of(preset=Preset.LINKING)
    assert config.shares == {PairSource.SYNONYMS: 1.0}
    assert (config.epochs, config.hard_negatives, config.base_share) == (2, 3, 0.3)
    assert (config.lr, config.temperature) == (2e-4, 0.07)
    assert config_of(preset=Preset.LINKING, epochs=1).hard_negatives == 0
    assert config_of(preset=Preset.LINKING, hard_negatives=0, base_share=0.5).base_share == 0.5
    assert config_of(preset=Preset.NAME).shares == {PairSource.MIRROR: 1.0}
    with pytest.raises(ConfigError):
        config_of(preset=Preset.NAME, epochs=1, hard_negatives=3)


def test_several_corpora_are_recorded_as_a_list() -> None:
    config = TrainConfig(corpus=("a.tsv", Path("b.tsv")), base="b", out=Path("o"))
    assert config.corpora == ("a.tsv", Path("b.tsv"))
    assert config.to_dict()["corpus"] == ["a.tsv", "b.tsv"]
    with pytest.raises(ConfigError):
        TrainConfig(corpus=(), base="b", out=Path("o"))
