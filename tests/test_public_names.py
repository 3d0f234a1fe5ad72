"""The names of ``import mirror_rt``: complete, sorted, the same for programs and type checkers."""

from __future__ import annotations

import ast
import inspect

import mirror_rt


def checked_names() -> set[str]:
    """Names imported for type checkers only."""
    tree = ast.parse(inspect.getsource(mirror_rt))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    return {
        alias.name
        for node in ast.walk(block)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_every_public_name_can_be_had() -> None:
    for name in mirror_rt.__all__:
        assert getattr(mirror_rt, name) is not None


def test_type_checkers_see_the_names_that_programs_get() -> None:
    assert checked_names() | {"__version__"} == set(mirror_rt.__all__) == set(dir(mirror_rt))
    assert set(mirror_rt._WHERE) == checked_names()


def test_the_main_way_is_there() -> None:
    for name in ("train", "TrainConfig", "export", "Encoder", "KnowledgeBase"):
        assert name in mirror_rt.__all__


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    assert not hasattr(mirror_rt, "nothing_of_the_kind")
