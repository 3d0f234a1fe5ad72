"""``mirror-rt train``: train an encoder from strings or synonyms."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mirror_rt._count import counted
from mirror_rt.errors import ConfigError
from mirror_rt.types import Loss, PairSource, Pooling, Preset

from . import output, progress
from .file_options import COLUMNS, FileOptions, with_file_options

if TYPE_CHECKING:
    from mirror_rt.training.loop import StepMetrics

_DATA, _VIEWS = "Training data", "Augmentation of strings"
_FIT, _RUN = "Loss and optimizer", "The run"


@with_file_options(*COLUMNS)
def train(
    corpus: Annotated[
        list[str],
        typer.Argument(help="Text files (a string a line) or knowledge-base files; - is stdin."),
    ],
    base: Annotated[str, typer.Option(help="Folder or hub name of the model to start from.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Checkpoint folder to write.")],
    preset: Annotated[
        Preset, typer.Option(help="The paper's settings; synonyms and linking are our own.")
    ] = Preset.NAME,
    pairs: Annotated[
        str | None,
        typer.Option(
            help="mirror, synonyms, file, or shares: mirror=1,synonyms=2 (preset).",
            rich_help_panel=_DATA,
        ),
    ] = None,
    pairs_file: Annotated[
        Path | None,
        typer.Option(
            help="a<TAB>b lines, if file is combined with other pairs.", rich_help_panel=_DATA
        ),
    ] = None,
    *,
    file_options: FileOptions,
    pooling: Annotated[
        Pooling | None, typer.Option(help="By default as in the base, or cls.")
    ] = None,
    loss: Annotated[
        Loss, typer.Option(help="Loss to minimize.", rich_help_panel=_FIT)
    ] = Loss.INFO_NCE,
    temperature: Annotated[
        float | None, typer.Option(help="Temperature of the loss (preset).", rich_help_panel=_FIT)
    ] = None,
    span_length: Annotated[
        int | None,
        typer.Option(help="Characters masked in the second view (preset).", rich_help_panel=_VIEWS),
    ] = None,
    span_rate: Annotated[
        float | None, typer.Option(help="Share of views masked.", rich_help_panel=_VIEWS)
    ] = None,
    span_min_length: Annotated[
        int | None,
        typer.Option(help="Never mask strings with fewer characters.", rich_help_panel=_VIEWS),
    ] = None,
    dropout: Annotated[
        float | None, typer.Option(help="By default the base's own rate.", rich_help_panel=_VIEWS)
    ] = None,
    drophead: Annotated[
        float | None,
        typer.Option(
            help="Rate of dropped attention heads, instead of dropout.", rich_help_panel=_VIEWS
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the pairs (preset).", rich_help_panel=_FIT)
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(help="Longest input in tokens (preset).", rich_help_panel=_VIEWS)
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="Learning rate (preset).", rich_help_panel=_FIT)
    ] = None,
    weight_decay: Annotated[
        float | None, typer.Option(help="Weight decay of AdamW (0.01).", rich_help_panel=_FIT)
    ] = None,
    base_share: Annotated[
        float | None,
        typer.Option(
            help="Share of the base's weights in the result (preset).", rich_help_panel=_FIT
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Pairs in a batch (200).", rich_help_panel=_FIT)
    ] = None,
    mini_batch_size: Annotated[
        int | None,
        typer.Option(
            help="Views encoded at once, to save memory; other draws of dropout.",
            rich_help_panel=_FIT,
        ),
    ] = None,
    pairs_per_entity: Annotated[
        int | None,
        typer.Option(help="Synonym pairs of one entity in an epoch (10).", rich_help_panel=_DATA),
    ] = None,
    max_pairs: Annotated[
        int | None, typer.Option(help="Maximum number of pairs in an epoch.", rich_help_panel=_DATA)
    ] = None,
    max_steps: Annotated[
        int | None, typer.Option(help="Maximum number of steps.", rich_help_panel=_FIT)
    ] = None,
    hard_negatives: Annotated[
        int | None,
        typer.Option(
            help="Nearest strings of other meanings in a batch, epoch 2 on (preset).",
            rich_help_panel=_DATA,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Seed of order, masks and dropout (42).", rich_help_panel=_RUN),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda, cuda:1.", rich_help_panel=_RUN)
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="CPU threads; by default all.", rich_help_panel=_RUN)
    ] = None,
    bf16: Annotated[
        bool | None,
        typer.Option(
            help="Compute in bfloat16; by default where it is fast.", rich_help_panel=_RUN
        ),
    ] = None,
    eval_pairs: Annotated[
        int | None,
        typer.Option(help="Pairs set aside to measure on, 2 or more (0).", rich_help_panel=_DATA),
    ] = None,
    save_steps: Annotated[
        int | None,
        typer.Option(help="Steps between saved states, for --resume.", rich_help_panel=_RUN),
    ] = None,
    tensorboard: Annotated[
        Path | None,
        typer.Option(
            help="Folder to write losses and speed to, for TensorBoard.", rich_help_panel=_RUN
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue an unfinished run; on a CPU, with the same bytes.",
            rich_help_panel=_RUN,
        ),
    ] = False,
    force: output.ForceOption = False,
) -> None:
    """Train an encoder from strings, or from synonyms.

    Strings need no labels. Synonyms come from a knowledge-base file.

    For example:

    mirror-rt train names.txt --base bert-base-uncased --out encoder --preset name
    """
    options: dict[str, Any] = {
        "pairs": None if pairs is None else _shares(pairs),
        "pairs_file": pairs_file,
        "id_column": file_options.id_column,
        "name_column": file_options.name_column,
        "alias_columns": tuple(file_options.alias_column or ()) or None,
        "field_columns": tuple(file_options.field or ()) or None,
        "delimiter": file_options.delimiter,
        "encoding": file_options.encoding,
        "pooling": pooling,
        "loss": loss,
        "temperature": temperature,
        "span_length": span_length,
        "span_rate": span_rate,
        "span_min_length": span_min_length,
        "dropout": dropout,
        "drophead": drophead,
        "epochs": epochs,
        "max_length": max_length,
        "lr": lr,
        "weight_decay": weight_decay,
        "base_share": base_share,
        "batch_size": batch_size,
        "mini_batch_size": mini_batch_size,
        "pairs_per_entity": pairs_per_entity,
        "max_pairs": max_pairs,
        "max_steps": max_steps,
        "hard_negatives": hard_negatives,
        "seed": seed,
        "device": device,
        "threads": threads,
        "bf16": bf16,
        "eval_pairs": eval_pairs,
        "save_steps": save_steps,
    }
    given = {name: value for name, value in options.items() if value is not None}

    from mirror_rt.training.config import TrainConfig
    from mirror_rt.training.loop import train as run

    files = corpus[0] if len(corpus) == 1 else tuple(corpus)
    config = TrainConfig(corpus=files, base=base, out=out, preset=preset, **given)
    with progress.bar("training") as show:

        def draw(step: StepMetrics) -> None:
            rates = f"loss {step.loss:.4f}  {step.strings_per_second:.0f} strings/s"
            show(step.step, step.steps, rates)

        report = run(
            config, progress=draw, force=force, resume=resume, tensorboard=tensorboard,
            tell=lambda remark: typer.echo(remark, err=True),
        )  # fmt: skip
    counts = report.counts
    typer.echo(
        f"trained on {counted(counts['strings'], 'different string')} "
        f"from {counted(counts['lines'], 'line')} or names "
        f"({counts['blank']:,} blank, {counts['duplicates']:,} repeated, "
        f"{counted(counts['pairs_dropped'], 'pair')} dropped) in {report.seconds:.0f} s, "
        f"{report.strings_per_second:.0f} strings/s; next: mirror-rt export {out} --out BUNDLE",
        err=True,
    )
    summary = {
        "checkpoint": str(report.out),
        "steps": len(report.losses),
        "first_loss": report.losses[0],
        "last_loss": report.losses[-1],
        "seconds": round(report.seconds, 1),
    }
    output.summary(summary)


def _shares(text: str) -> PairSource | dict[PairSource, float]:
    shares: dict[PairSource, float] = {}
    for part in text.split(","):
        name, _, share = part.partition("=")
        try:
            shares[PairSource(name.strip())] = float(share or 1)
        except ValueError as error:
            raise ConfigError(
                f"pairs: {part!r} is not a source; give mirror, synonyms or file, "
                "or shares such as mirror=1,synonyms=2"
            ) from error
    return shares
