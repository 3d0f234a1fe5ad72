"""Put commands into a group, with help that folds at any width."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import typer

_EXAMPLE = "mirror-rt "


def add(group: typer.Typer, name: str, command: Callable[..., Any]) -> None:
    """Make a command of a function; its docstring is the help.

    Paragraphs are one line each, which the terminal folds; lines of examples stay as they are.
    """
    group.command(name, help=flowed(inspect.getdoc(command) or ""))(command)


def flowed(text: str) -> str:
    r"""Return a text with a line a paragraph, but for examples.

    >>> flowed("One\ntwo.\n\nmirror-rt a\nmirror-rt b")
    'One two.\n\nmirror-rt a\nmirror-rt b'
    """
    return "\n\n".join(
        part if part.startswith(_EXAMPLE) else " ".join(part.split()) for part in text.split("\n\n")
    )
