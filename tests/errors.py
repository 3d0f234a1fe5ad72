"""What an error names, rather than how it is worded: checks for ``pytest.raises``."""

from __future__ import annotations

from collections.abc import Callable


def about(
    path: str = "", *, line: int | None = None, hint: str = ""
) -> Callable[[BaseException], bool]:
    """Whether an error is about a path and a line, and its way out names an option or command."""

    def check(error: BaseException) -> bool:
        return (
            path in getattr(error, "path", "")
            and (line is None or getattr(error, "line", None) == line)
            and hint in getattr(error, "hint", "")
        )

    return check
