"""``python -m mirror_rt`` is the program ``mirror-rt``."""

from __future__ import annotations

from importlib import import_module

if __name__ == "__main__":
    # By name: the package itself knows nothing of the program that is built on it.
    import_module("mirror_rt_cli.app").main()
