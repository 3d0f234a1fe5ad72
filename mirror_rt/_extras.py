"""Check that an optional library is installed, before the package that needs it imports it."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from mirror_rt.errors import MissingExtraError


def require(*modules: str, extra: str) -> None:
    """Check that optional modules are installed.

    Args:
        *modules: Top-level module names, looked up but not imported.
        extra: The extra of mirror-rt that installs them.

    Raises:
        MissingExtraError: One of them is not installed.
    """
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"{', '.join(missing)}: not installed; run: pip install 'mirror-rt[{extra}]'"
        )


def require_drawing(extra: str) -> None:
    """Check for matplotlib, and keep it from creating folders in the home folder.

    Its font cache is then temporary.

    Raises:
        MissingExtraError: It is not installed.
    """
    require("matplotlib", extra=extra)
    if "MPLCONFIGDIR" in os.environ or "matplotlib" in sys.modules:
        return
    home = Path(os.path.expanduser("~"))
    bases = [os.environ.get("XDG_CONFIG_HOME") or home / ".config"]
    bases += [os.environ.get("XDG_CACHE_HOME") or home / ".cache"]
    if not any((Path(base) / "matplotlib").is_dir() for base in bases):
        folder = tempfile.mkdtemp(prefix="mirror-rt-")
        os.environ["MPLCONFIGDIR"] = folder
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
