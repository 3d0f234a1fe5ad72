"""Build candidate bundles, measure them on the user's strings, and choose one.

Axes: N names, D width.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirror_rt.bundle import MODEL, Bundle, Manifest, seal
from mirror_rt.errors import AccuracyGateError
from mirror_rt.evaluation.ranking import Ranking, compare
from mirror_rt.exporting.quantize import Method, Recipe, quantize
from mirror_rt.runtime import Encoder
from mirror_rt.runtime.cpu import Target, detect_cpu, int8_cannot_saturate

if TYPE_CHECKING:
    from mirror_rt.types import Float32, TokenBatch

__all__ = [
    "CandidateBuilder",
    "ExportCandidate",
    "choose_fastest",
    "choose_first",
    "fallback_recipes",
    "measure_speeds",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportCandidate:
    """A candidate bundle, and how it ranks the sample.

    Attributes:
        recipe: The recipe it was made by.
        bundle: The folder.
        ranking: How it ranks the sample.
        measured_with: The graph that was measured: its own, or one with 7-bit weights.
    """

    recipe: Recipe
    bundle: Bundle
    ranking: Ranking
    measured_with: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateBuilder:
    """Builds candidates.

    Attributes:
        folder: An empty folder to build in.
        config_files: A folder with the files beside the graph.
        graph: The float32 graph.
        smoothed: The same graph with smoothed activations.
        manifest: The manifest fields of every candidate.
        batches: Token ids of a part of the sample.
        names: The sample.
        original_ND: (N, D) float32 unit rows of the sample, by the float32 graph.
        sensitive: Multiplications by the cost of rounding each alone, the costliest first.
        report_stage: Called with the name of the next stage.
    """

    folder: Path
    config_files: Path
    graph: Path
    smoothed: Path
    manifest: Manifest
    batches: Sequence[TokenBatch]
    names: Sequence[str]
    original_ND: Float32
    sensitive: Callable[[], Sequence[str]]
    report_stage: Callable[[str], None] = lambda words: None

    def build(self, recipe: Recipe) -> ExportCandidate:
        """Make the bundle of a recipe and measure its ranking.

        If 8-bit weights would overflow on this CPU but not on the target, 7-bit weights are
        measured instead; they round more.
        """
        kept = f", {len(recipe.nodes_to_exclude)} in float" if recipe.nodes_to_exclude else ""
        self.report_stage(f"{recipe.method.value}{kept}")
        bundle = measured = self._make(recipe)
        if recipe.can_overflow and not int8_cannot_saturate(detect_cpu()):
            measured = self._make(replace(recipe, reduce_range=True))
        vectors_ND = Encoder.open(measured).encode(self.names)
        ranking = compare(self.original_ND, vectors_ND, self.names)
        if measured is not bundle:
            shutil.rmtree(measured.path)
        word = "itself" if measured is bundle else "7-bit weights"
        return ExportCandidate(recipe=recipe, bundle=bundle, ranking=ranking, measured_with=word)

    def _make(self, recipe: Recipe) -> Bundle:
        parts = (
            recipe.method.value,
            recipe.block_size,
            recipe.reduce_range,
            len(recipe.nodes_to_exclude),
        )
        folder = self.folder / "-".join(map(str, parts))
        shutil.copytree(self.config_files, folder)
        source = self.smoothed if recipe.smooth else self.graph
        quantize(source, folder / MODEL, recipe, batches=self.batches)
        return seal(
            folder,
            replace(self.manifest, quantization=recipe.to_dict(), precision=recipe.precision),
        )


def fallback_recipes(builder: CandidateBuilder, target: Target) -> Iterator[Recipe]:
    """Yield the int8 recipes that are safe on a CPU, fastest first, most exact last.

    Static ranges are the fastest and the most exact (docs/experiments.md). If they change the
    ranking too much, the most sensitive multiplications stay in float: a quarter, then half.
    Then comes weight-only, which scales each row of activations by itself. Ranges of each
    batch (dynamic) are slower and less exact than fixed ones.

    Args:
        builder: Knows which multiplications are sensitive.
        target: The CPU.
    """
    reduce = not int8_cannot_saturate(target)
    static = Recipe(method=Method.STATIC, reduce_range=reduce, smooth=True, embeddings=True)
    yield static
    nodes = builder.sensitive()
    for share in (4, 2):
        yield replace(static, nodes_to_exclude=tuple(sorted(nodes[: len(nodes) // share])))
    yield Recipe(method=Method.WEIGHT_ONLY, block_size=128)
    yield Recipe(method=Method.WEIGHT_ONLY, block_size=32)


def choose_first(
    builder: CandidateBuilder, recipes: Iterator[Recipe], *, min_top1: float
) -> ExportCandidate:
    """Return the first of ``recipes`` that passes the gate.

    Raises:
        AccuracyGateError: None passes.
    """
    best: ExportCandidate | None = None
    for recipe in recipes:
        built = builder.build(recipe)
        if built.ranking.top1_agreement >= min_top1:
            return built
        if best is None or built.ranking.top1_agreement > best.ranking.top1_agreement:
            best = built
        else:
            shutil.rmtree(built.bundle.path)
    assert best is not None  # there is always one recipe
    raise AccuracyGateError(
        f"{builder.manifest.source['name']}: the best {best.recipe.precision.value} graph keeps "
        f"the nearest name of {best.ranking.top1_agreement:.1%} of the sample, --min-top1 requires "
        f"{min_top1:.1%}; give --precision fp32, or a lower --min-top1"
    )


def choose_fastest(
    builder: CandidateBuilder, recipes: Iterator[Recipe], *, min_top1: float
) -> tuple[ExportCandidate, dict[str, Any]]:
    """Return the fastest bundle that passes the gate here; float32 always does.

    Returns:
        The bundle, and the strings per second of each bundle that was compared.
    """
    runners = [builder.build(Recipe(method=Method.NONE))]
    methods: set[Method] = set()
    for recipe in recipes:
        if recipe.method in methods:
            continue  # a faster recipe of this kind has passed already
        built = builder.build(recipe)
        if built.ranking.top1_agreement >= min_top1:
            runners.append(built)
            methods.add(recipe.method)
    builder.report_stage("measuring speed")
    rates = measure_speeds([built.bundle for built in runners], builder.names)
    table = {b.recipe.method.value: round(r) for b, r in zip(runners, rates, strict=True)}
    return runners[rates.index(max(rates))], table


def measure_speeds(
    bundles: Sequence[Bundle], names: Sequence[str], *, rounds: int = 3
) -> list[float]:
    """Return the strings per second of each bundle: the best of interleaved rounds."""
    encoders = [Encoder.open(bundle, verify=False) for bundle in bundles]
    best = [0.0] * len(encoders)
    for _ in range(rounds):
        for place, encoder in enumerate(encoders):
            begin = time.perf_counter()
            encoder.encode(names)
            best[place] = max(best[place], len(names) / (time.perf_counter() - begin))
    return best
