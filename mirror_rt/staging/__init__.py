"""Write files and folders whole or not at all: beside the target first, then renamed onto it.

One rule says what may be replaced: of a folder only the files that its manifest names as ours.
Whatever else it holds stays where it is, or the folder is refused before any work is done.
"""

from __future__ import annotations

from mirror_rt.staging.system import disk_named, locked, undisturbed
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
    "locked",
    "replacing",
    "staging_file",
    "staging_folder",
    "undisturbed",
    "write_json",
]
