"""Checks of what an error names, instead of its sentences, for ``pytest.raises``."""

from __future__ import annotations

from collections.abc import Callable


def about(
    path: str = "", *, line: int | None = None, value: str = "", hint: str = ""
) -> Callable[[BaseException], bool]:
    """Return whether an error is about these things, on one line.

    Args:
        path: A part of the thing with the fault: a file, a folder or an option.
        line: The number of the line or row.
        value: A piece of the input that the message quotes, such as an id or a column.
        hint: An option or a command that the way out names.
    """

    def check(error: BaseException) -> bool:
        return (
            path in getattr(error, "path", "")
            and (line is None or getattr(error, "line", None) == line)
            and value in str(error)
            and hint in getattr(error, "hint", "")
            and "\n" not in str(error)
        )

    return check
