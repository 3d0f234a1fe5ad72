"""Which recipe is chosen: the first that passes, or the fastest that passes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mirror_rt.errors import AccuracyGateError
from mirror_rt.exporting import choose_recipe
from mirror_rt.exporting.choose_recipe import choose_fastest, choose_first, fallback_recipes
from mirror_rt.exporting.quantize import Method, Recipe
from mirror_rt.runtime.cpu import Target
from tests.errors import about

NODES = [f"node {i}" for i in range(12)]
"""By what rounding them costs, dearest first."""


class Shop:
    """A builder whose bundles have the ranking and speed that a test gives."""

    names = ("fever", "cough")
    manifest = SimpleNamespace(source={"name": "model"})

    def __init__(self, folder: Path, top1: Callable[[Recipe], float]) -> None:
        self.folder = folder
        self.top1 = top1
        self.built: list[Recipe] = []

    def sensitive(self) -> list[str]:
        """Return a fixed order of sensitivity."""
        return NODES

    def report_stage(self, words: str) -> None:
        """Report nothing."""

    def build(self, recipe: Recipe) -> SimpleNamespace:
        """Make an empty folder."""
        self.built.append(recipe)
        path = self.folder / str(len(self.built))
        path.mkdir()
        ranking = SimpleNamespace(top1_agreement=self.top1(recipe))
        return SimpleNamespace(recipe=recipe, ranking=ranking, bundle=SimpleNamespace(path=path))


def test_the_recipes_step_down_to_where_the_dearest_quarter_stays_in_float(tmp_path: Path) -> None:
    shop = Shop(tmp_path, lambda recipe: 0.85 + len(recipe.nodes_to_exclude) / 40)
    chosen = choose_first(shop, fallback_recipes(shop, Target.AVX512_VNNI), min_top1=0.9)
    assert chosen.recipe.method is Method.STATIC
    assert chosen.recipe.nodes_to_exclude == tuple(sorted(NODES[:3]))
    assert len(shop.built) == 2


def test_every_recipe_of_int8_gives_the_same_vector_in_any_batch(tmp_path: Path) -> None:
    recipes = list(fallback_recipes(Shop(tmp_path, lambda _: 0.0), Target.AVX2))
    assert [(r.method, len(r.nodes_to_exclude)) for r in recipes] == [
        (Method.STATIC, 0), (Method.STATIC, 3), (Method.STATIC, 6),
        (Method.WEIGHT_ONLY, 0), (Method.WEIGHT_ONLY, 0),
    ]  # fmt: skip
    assert all(recipe.batch_invariant for recipe in recipes)
    assert all(r.reduce_range for r in recipes if r.method is Method.STATIC)


def test_where_nothing_passes_the_best_is_named(tmp_path: Path) -> None:
    shop = Shop(tmp_path, lambda r: 0.7 if r.method is Method.WEIGHT_ONLY else 0.6)
    with pytest.raises(AccuracyGateError, check=about("model", hint="--min-top1")):
        choose_first(shop, fallback_recipes(shop, Target.AVX2), min_top1=0.9)


@pytest.mark.parametrize(
    ("top1", "rates", "winner"),
    [
        # The fastest of those that pass.
        ({"static": 0.95, "weight-only": 0.99}, {"none": 4, "static": 9, "weight-only": 5},
         "static"),
        # A recipe that fails the gate is not timed, however fast it is.
        ({"static": 0.5, "weight-only": 0.99}, {"none": 4, "static": 9, "weight-only": 5},
         "weight-only"),
        # If int8 is not faster, float32 is kept.
        ({"static": 0.95, "weight-only": 0.99}, {"none": 4, "static": 3, "weight-only": 2}, "none"),
        ({"static": 0.5, "weight-only": 0.5}, {"none": 4, "static": 9, "weight-only": 5}, "none"),
    ],
)  # fmt: skip
def test_auto_takes_the_fastest_that_passes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    top1: dict[str, float],
    rates: dict[str, float],
    winner: str,
) -> None:
    shop = Shop(tmp_path, lambda recipe: top1.get(recipe.method.value, 1.0))

    def measure_speeds(bundles: list[Any], names: object) -> list[float]:
        return [rates[shop.built[int(b.path.name) - 1].method.value] for b in bundles]

    monkeypatch.setattr(choose_recipe, "measure_speeds", measure_speeds)
    chosen, speeds = choose_fastest(shop, fallback_recipes(shop, Target.AVX512_VNNI), min_top1=0.9)
    assert chosen.recipe.method.value == winner
    assert speeds == {n: r for n, r in rates.items() if n == "none" or top1[n] >= 0.9}
    if top1["static"] >= 0.9:
        assert not any(recipe.nodes_to_exclude for recipe in shop.built)
