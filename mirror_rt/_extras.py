"""Guard an optional stack once, at the door of the package that needs it."""

from __future__ import annotations

from importlib.util import find_spec

from mirror_rt.errors import MissingExtraError


def require(*modules: str, extra: str) -> None:
    """Refuse, in one sentence, to go on without optional modules.

    Args:
        *modules: Top-level module names, looked up but not imported.
        extra: The extra of mirror-rt that brings them.

    Raises:
        MissingExtraError: One of them is not installed.
    """
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"{', '.join(missing)}: not installed; run: pip install 'mirror-rt[{extra}]'"
        )
