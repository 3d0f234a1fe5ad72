"""The examples in docstrings are correct."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

from mirror_rt.errors import MissingExtraError

REPOSITORY = Path(__file__).resolve().parent.parent
MODULES = sorted(
    ".".join((package, *path.relative_to(REPOSITORY / folder).with_suffix("").parts))
    for folder, package in (("mirror_rt", "mirror_rt"), ("cli", "mirror_rt_cli"))
    for path in (REPOSITORY / folder).rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_hold(name: str) -> None:
    try:
        module = import_module(name.removesuffix(".__init__"))
    except MissingExtraError as error:
        pytest.skip(str(error))
    found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed
