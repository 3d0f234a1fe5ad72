"""Check JSON output against ``docs/output.schema.json``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jsonschema

SCHEMA: dict[str, Any] = json.loads(
    (Path(__file__).parent.parent / "docs/output.schema.json").read_text(encoding="utf-8")
)


def check(format_: str, values: Iterable[object]) -> None:
    """Check each value, and that there is at least one."""
    validator = jsonschema.Draft202012Validator({**SCHEMA, "$ref": f"#/$defs/{format_}"})
    values = list(values)
    assert values
    for value in values:
        validator.validate(value)
