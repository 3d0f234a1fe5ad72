"""The configuration of a training run, with checked values. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Any

from mirror_rt.errors import ConfigError
from mirror_rt.types import Loss, PairSource, Pooling, Preset

__all__ = ["COMMON", "PRESETS", "TrainConfig"]

PRESETS: Mapping[Preset, Mapping[str, Any]] = {
    Preset.WORD: {
        "temperature": 0.2, "span_length": 0, "epochs": 2, "max_length": 25, "lr": 2e-5
    },
    Preset.NAME: {
        "temperature": 0.04, "span_length": 2, "epochs": 2, "max_length": 25, "lr": 2e-5
    },
    Preset.SENTENCE: {
        "temperature": 0.04, "span_length": 5, "epochs": 1, "max_length": 50, "lr": 2e-5
    },
    Preset.SYNONYMS: {
        "temperature": 0.07, "span_length": 2, "epochs": 1, "max_length": 25, "lr": 1e-4,
        "pairs": PairSource.SYNONYMS,
    },
    Preset.LINKING: {
        "temperature": 0.07, "span_length": 2, "epochs": 2, "max_length": 25, "lr": 2e-4,
        "pairs": PairSource.SYNONYMS, "hard_negatives": 3, "base_share": 0.3,
    },
}  # fmt: skip
"""The settings that differ between the paper's three uses (Liu et al. 2021, appendix A.1), and
those for synonyms and for linking, which are measured in docs/experiments.md."""

COMMON: Mapping[str, Any] = {"pairs": PairSource.MIRROR, "hard_negatives": 0, "base_share": 0.0}
"""Values of presets that do not set them."""
_PRESET: Any = None  # a default that is filled from PRESETS on creation


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Everything that decides the weights of a run.

    Attributes:
        corpus: Text file (one string per line), knowledge-base file, or ``-`` for standard input;
            or several. An id means one entity within a file, not across files.
        base: Folder or hub name of a masked language model, or of a checkpoint to continue from.
        out: The checkpoint folder to write.
        preset: Fills every value below marked "preset".
        pairs: The source of positive pairs, or several with their shares (preset).
        pairs_file: ``a<TAB>b`` lines for ``PairSource.FILE``; by default the corpus itself.
        id_column: The column of ids in a table; None to detect it by the headings.
        name_column: The column of names or texts; None to detect it.
        alias_columns: The columns of aliases; None to detect them.
        field_columns: Columns that a knowledge base keeps as fields. They are not names, so nothing
            of them is trained on.
        delimiter: The delimiter of a table; None to detect it.
        encoding: The encoding of the corpus; None to detect UTF-8 or UTF-16.
        pooling: How token states become a vector. By default as in the base's own ``1_Pooling``;
            otherwise [CLS], or the mean for sentences on BERT, as in the paper.
        loss: InfoNCE, or the multi-similarity loss of SapBERT, which suits synonyms.
        temperature: τ of InfoNCE (preset).
        span_length: Characters that one mask token replaces in the second view; 0 for no masking
            (preset).
        span_rate: Share of second views that are masked.
        span_min_length: Strings with fewer characters are never masked. The authors' code has 30
            here, so most names are not masked; 0 masks all strings that are long enough.
        dropout: Rate for hidden states and attention; None keeps the base's own rate (0 with
            ``drophead``).
        drophead: Rate at which whole attention heads are dropped, per string and layer.
        epochs: Passes over the pairs (preset).
        max_length: Maximum tokens of an input, including special tokens (preset).
        lr: Constant learning rate of AdamW (preset).
        weight_decay: Weight decay of AdamW, on all parameters.
        base_share: Share s of the base in the checkpoint: each weight is s × the base's + (1 − s) ×
            the trained one. This keeps more of the base's knowledge (Wortsman et al. 2022, *Robust
            Fine-Tuning of Zero-Shot Models*). The base's weights are kept in memory.
        batch_size: Pairs in a batch; each view has 2 × batch_size − 2 negatives.
        mini_batch_size: Views that are encoded at the same time. If given, gradients are cached
            (GradCache), so the encoder's memory does not limit the batch; the loss still compares
            all views. The gradient is the same except for the dropout masks, which depend on it.
        pairs_per_entity: Maximum number of synonym pairs of an entity in an epoch.
        max_pairs: Maximum number of pairs in an epoch; None for all.
        max_steps: Maximum number of steps; None for all.
        hard_negatives: From the second epoch on, the number of nearest strings with other meanings
            to put into an anchor's batch; 0 for random batches (preset; 0 with a single epoch).
        eval_pairs: Pairs set aside to measure loss, alignment and uniformity.
        save_steps: Steps between saved states for ``resume``; 0 for none.
        seed: Seed of order, masks and dropout.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` …
        threads: CPU threads of torch; None for torch's own choice (the available cores).
        bf16: Whether the encoder computes in bfloat16. None: yes on a GPU, and on a CPU with native
            support (AVX512-BF16, AMX).
    """

    corpus: str | Path | tuple[str | Path, ...]
    base: str | Path
    out: Path
    preset: Preset = Preset.NAME
    pairs: PairSource | Mapping[PairSource, float] = _PRESET
    pairs_file: Path | None = None
    id_column: str | None = None
    name_column: str | None = None
    alias_columns: tuple[str, ...] | None = None
    field_columns: tuple[str, ...] | None = None
    delimiter: str | None = None
    encoding: str | None = None
    pooling: Pooling | None = None
    loss: Loss = Loss.INFO_NCE
    temperature: float = _PRESET
    span_length: int = _PRESET
    span_rate: float = 1.0
    span_min_length: int = 0
    dropout: float | None = None
    drophead: float = 0.0
    epochs: int = _PRESET
    max_length: int = _PRESET
    lr: float = _PRESET
    weight_decay: float = 0.01
    base_share: float = _PRESET
    batch_size: int = 200
    mini_batch_size: int | None = None
    pairs_per_entity: int = 10
    max_pairs: int | None = None
    max_steps: int | None = None
    hard_negatives: int = _PRESET
    eval_pairs: int = 0
    save_steps: int = 0
    seed: int = 42
    device: str = "auto"
    threads: int | None = None
    bf16: bool | None = None

    def __post_init__(self) -> None:
        """Fill the preset's values and check all values.

        Raises:
            ConfigError: A value is out of range.
        """
        preset = {**COMMON, **PRESETS[self.preset]}
        if self.epochs == 1:  # given, and hard negatives are mined before the second epoch
            preset["hard_negatives"] = 0
        for name, value in preset.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        if not self.corpora:
            raise ConfigError("corpus: give at least one file")
        object.__setattr__(self, "out", Path(self.out))
        if self.drophead and self.dropout is None:
            object.__setattr__(self, "dropout", 0.0)
        for name in ("temperature", "lr"):
            _check(name, getattr(self, name), above=0.0)
        _check("weight_decay", self.weight_decay, least=0.0)
        _check("span_rate", self.span_rate, least=0.0, most=1.0)
        for name in ("dropout", "drophead", "base_share"):
            _check(name, getattr(self, name), least=0.0, below=1.0)
        for name in ("span_length", "span_min_length", "save_steps", "eval_pairs"):
            _check(name, getattr(self, name), least=0)
        _check("seed", self.seed, least=0, most=2**63 - 1)
        for name in ("epochs", "pairs_per_entity", "max_pairs", "max_steps", "threads"):
            _check(name, getattr(self, name), least=1)
        _check("hard_negatives", self.hard_negatives, least=0, below=self.batch_size)
        if self.hard_negatives and self.epochs == 1:
            raise ConfigError(
                "hard_negatives: are mined before the second epoch, but there is only one; "
                "give --epochs 2, or --hard-negatives 0"
            )
        _check("max_length", self.max_length, least=3)
        _check("batch_size", self.batch_size, least=2)
        _check("mini_batch_size", self.mini_batch_size, least=1)
        shares = self.shares
        if not shares or any(not math.isfinite(s) or s <= 0 for s in shares.values()):
            raise ConfigError("pairs: give each source a share above 0, as in mirror=1,synonyms=2")
        if self.pairs_file is not None and PairSource.FILE not in shares:
            raise ConfigError("pairs_file: is only read with --pairs file; add it to --pairs")

    @property
    def corpora(self) -> tuple[str | Path, ...]:
        """The training files."""
        return self.corpus if isinstance(self.corpus, tuple) else (self.corpus,)

    @property
    def corpus_shown(self) -> str:
        """The names of the files for messages."""
        return ", ".join(map(str, self.corpora))

    @property
    def shares(self) -> dict[PairSource, float]:
        """The share of each source of pairs, summing to 1, in the order of ``PairSource``."""
        given = {self.pairs: 1.0} if isinstance(self.pairs, PairSource) else self.pairs
        total = sum(given.values())
        return {p: given[p] / total if total > 0 else 0.0 for p in PairSource if p in given}

    def to_dict(self) -> dict[str, Any]:
        """The values as plain JSON types."""
        values = {f.name: _plain(getattr(self, f.name)) for f in fields(self)}
        return values | {"pairs": {p.value: share for p, share in self.shares.items()}}


def _plain(value: object) -> object:
    match value:
        case Enum():
            return value.value
        case Path():
            return str(value)
        case tuple():
            return [_plain(each) for each in value]
        case _:
            return value


def _check(
    name: str,
    value: float | None,
    *,
    least: float = -math.inf,
    most: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
) -> None:
    if value is None:
        return
    if not (math.isfinite(value) and least <= value <= most and above < value < below):
        words = [f"at least {least}"] * (least > -math.inf) + [f"at most {most}"] * (
            most < math.inf
        )
        words += [f"above {above}"] * (above > -math.inf) + [f"below {below}"] * (below < math.inf)
        raise ConfigError(f"{name}: must be {' and '.join(words)}, got {value}")
