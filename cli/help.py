"""Add commands to a group, with help texts that wrap at any width."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import typer

_EXAMPLE = "mirror-rt "


def add(group: typer.Typer, name: str, command: Callable[..., Any]) -> None:
    """Add a function as a command; its docstring is the help.

    Each paragraph becomes one line, which the terminal wraps; examples keep their lines.
    """
    group.command(name, help=flowed(inspect.getdoc(command) or ""))(command)


def flowed(text: str) -> str:
    r"""Return a text with one line for each paragraph; examples keep their lines.

    >>> flowed("One\ntwo.\n\nmirror-rt a\nmirror-rt b")
    'One two.\n\nmirror-rt a\nmirror-rt b'
    """
    return "\n\n".join(
        part if part.startswith(_EXAMPLE) else " ".join(part.split()) for part in text.split("\n\n")
    )
