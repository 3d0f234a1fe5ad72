"""Write files and folders atomically: beside the target first, then renamed.

In a folder, only files that its manifest lists may be replaced. Other files are kept, or the folder
is an error before any work.
"""

from __future__ import annotations

from mirror_rt.staging.system import disk_named, ignore_signals, locked
from mirror_rt.staging.targets import check_apart, check_different, check_target, contents
from mirror_rt.staging.writing import (
    clear_leftovers,
    replacing,
    staging_file,
    staging_folder,
    write_json,
)

__all__ = [
    "check_apart",
    "check_different",
    "check_target",
    "clear_leftovers",
    "contents",
    "disk_named",
    "ignore_signals",
    "locked",
    "replacing",
    "staging_file",
    "staging_folder",
    "write_json",
]
