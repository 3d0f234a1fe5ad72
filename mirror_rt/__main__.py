"""``python -m mirror_rt`` is the program ``mirror-rt``."""

from __future__ import annotations

from mirror_rt_cli.app import main

if __name__ == "__main__":
    main()
