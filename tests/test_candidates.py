"""Which recipe is taken: the first that passes, or the fastest that does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mirror_rt.errors import GateError
from mirror_rt.exporting import candidates
from mirror_rt.exporting.candidates import choose_fastest, choose_first, ladder
from mirror_rt.exporting.quantize import Method, Recipe
from mirror_rt.runtime.cpu import Target

NODES = [f"node {i}" for i in range(12)]
"""By what rounding them costs, dearest first."""


class Shop:
    """A workshop whose bundles rank and run as a test says."""

    names = ("fever", "cough")
    manifest = SimpleNamespace(source={"name": "model"})

    def __init__(self, folder: Path, top1: Callable[[Recipe], float]) -> None:
        self.folder = folder
        self.top1 = top1
        self.built: list[Recipe] = []

    def sensitive(self) -> list[str]:
        """Tell which multiplications suffer most."""
        return NODES

    def tell(self, words: str) -> None:
        """Hear what is done next."""

    def build(self, recipe: Recipe) -> SimpleNamespace:
        """Make a folder and nothing in it."""
        self.built.append(recipe)
        path = self.folder / str(len(self.built))
        path.mkdir()
        ranking = SimpleNamespace(top1=self.top1(recipe))
        return SimpleNamespace(recipe=recipe, ranking=ranking, bundle=SimpleNamespace(path=path))


def test_the_ladder_steps_down_to_where_the_dearest_quarter_stays_in_float(tmp_path: Path) -> None:
    shop = Shop(tmp_path, lambda recipe: 0.85 + len(recipe.keep_float) / 40)
    chosen = choose_first(shop, ladder(shop, Target.AVX512_VNNI), min_top1=0.9)
    assert chosen.recipe.method is Method.STATIC
    assert chosen.recipe.keep_float == tuple(sorted(NODES[:3]))
    assert len(shop.built) == 2


def test_every_recipe_of_the_ladder_gives_the_same_vector_in_any_batch(tmp_path: Path) -> None:
    recipes = list(ladder(Shop(tmp_path, lambda _: 0.0), Target.AVX2))
    assert [(r.method, len(r.keep_float)) for r in recipes] == [
        (Method.STATIC, 0), (Method.STATIC, 3), (Method.STATIC, 6),
        (Method.WEIGHT_ONLY, 0), (Method.WEIGHT_ONLY, 0),
    ]  # fmt: skip
    assert all(recipe.batch_invariant for recipe in recipes)
    assert all(r.reduce_range for r in recipes if r.method is Method.STATIC)


def test_where_nothing_passes_the_best_is_told(tmp_path: Path) -> None:
    shop = Shop(tmp_path, lambda r: 0.7 if r.method is Method.WEIGHT_ONLY else 0.6)
    with pytest.raises(GateError, match=r"70\.0%.*--min-top1 asks for 90\.0%"):
        choose_first(shop, ladder(shop, Target.AVX2), min_top1=0.9)


@pytest.mark.parametrize(
    ("top1", "rates", "winner"),
    [
        # The fastest of those that pass.
        ({"static": 0.95, "weight-only": 0.99}, {"none": 4, "static": 9, "weight-only": 5},
         "static"),
        # What fails the gate is not raced, however fast.
        ({"static": 0.5, "weight-only": 0.99}, {"none": 4, "static": 9, "weight-only": 5},
         "weight-only"),
        # Where int8 is not faster, float32 wins.
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

    def race(bundles: list[Any], names: object) -> list[float]:
        return [rates[shop.built[int(b.path.name) - 1].method.value] for b in bundles]

    monkeypatch.setattr(candidates, "race", race)
    chosen, told = choose_fastest(shop, ladder(shop, Target.AVX512_VNNI), min_top1=0.9)
    assert chosen.recipe.method.value == winner
    assert told == {n: r for n, r in rates.items() if n == "none" or top1[n] >= 0.9}
    if top1["static"] >= 0.9:
        assert not any(recipe.keep_float for recipe in shop.built)
