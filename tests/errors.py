"""Checks of what an error names, instead of its sentences, for ``pytest.raises``."""

from __future__ import annotations

from collections.abc import Callable


def about(
    path: str = "", *, line: int | None = None, hint: str = ""
) -> Callable[[BaseException], bool]:
    """Return whether an error names a path and a line, and its hint names an option or command."""

    def check(error: BaseException) -> bool:
        return (
            path in getattr(error, "path", "")
            and (line is None or getattr(error, "line", None) == line)
            and hint in getattr(error, "hint", "")
        )

    return check
