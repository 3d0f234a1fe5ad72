"""The public names and their signatures are those of ``tests/golden/api.txt``.

A change of this file is a change of the interface, and needs an entry in the changelog. To write
it again: ``python -m tests.test_api_snapshot``.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
from pathlib import Path

import mirror_rt
from mirror_rt.errors import MissingExtraError

GOLDEN = Path(__file__).parent / "golden" / "api.txt"


def _signature(value: object) -> str:
    try:
        return str(inspect.signature(value))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return ""


def _members(name: str, value: type) -> list[str]:
    if issubclass(value, enum.Enum):
        return [f"{name}.{member.name} = {member.value!r}" for member in value]
    lines = []
    if dataclasses.is_dataclass(value):
        lines = [f"{name}.{field.name}: {field.type}" for field in dataclasses.fields(value)]
    for member, raw in vars(value).items():
        if member.startswith("_"):
            continue
        if isinstance(raw, property):
            lines.append(f"{name}.{member} [property]")
        elif callable(raw) or isinstance(raw, classmethod | staticmethod):
            lines.append(f"{name}.{member}{_signature(getattr(value, member))}")
    return lines


def api() -> str:
    """Return every public name with its signature, one per line."""
    lines: list[str] = []
    for name in mirror_rt.__all__:
        value = getattr(mirror_rt, name)
        if inspect.isclass(value):
            plain = dataclasses.is_dataclass(value) or issubclass(value, enum.Enum)
            lines.append(name if plain else f"{name}{_signature(value)}")
            lines += _members(name, value)
        elif callable(value):
            lines.append(f"{name}{_signature(value)}")
    return "\n".join(lines) + "\n"


def test_the_interface_is_the_one_recorded() -> None:
    assert api().splitlines() == GOLDEN.read_text(encoding="utf-8").splitlines()


if __name__ == "__main__":
    try:
        GOLDEN.write_text(api(), encoding="utf-8")
    except MissingExtraError as error:
        raise SystemExit(str(error)) from error
