"""A window of rows to a shard: what every engine does, on whatever machine, to the same bytes.

N rows, U texts to compute.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt.runtime.encoder import Encoder, Progress
from mirror_rt.runtime.jobfolder import JobFolder
from mirror_rt.runtime.seen import Seen, write_sidecar
from mirror_rt.runtime.shards import Columns, Shard, empty_stored, read_stored, write_shard
from mirror_rt.runtime.storage import Dtype, Stored, store, truncate
from mirror_rt.runtime.windows import Window

if TYPE_CHECKING:
    from mirror_rt.types import Int64

__all__ = ["Made", "Task", "make_shard"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A window whose shard is to be made.

    Attributes:
        window: The rows.
        seen: Where vectors may be copied from; None: all are computed.
    """

    window: Window
    seen: Seen | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A shard that was made.

    Attributes:
        shard: The record of it.
        computed: Different strings that went through the model.
        copied: Rows whose vector was copied.
    """

    shard: Shard
    computed: int
    copied: int


def make_shard(encoder: Encoder, job: JobFolder, task: Task, *, progress: Progress | None) -> Made:
    """Embed a window and write its shard, whole, into the folder of the job."""
    window, seen, dtype = task.window, task.seen, Dtype(job.settings.dtype)
    rows = len(window.texts)
    none_N = np.full(rows, -1, dtype=np.int64)
    shards_N, rows_N = (none_N, none_N) if seen is None else seen.find(window.digests)
    fresh_U = np.flatnonzero(shards_N < 0)
    all_fresh = len(fresh_U) == rows
    texts = window.texts if all_fresh else [window.texts[row] for row in fresh_U]
    encoded = encoder.encode_counted(texts, progress=progress)
    truncated = encoded.truncated
    stored = store(truncate(encoded.vectors_ND, job.settings.dims), dtype)
    if not all_fresh and seen is not None:
        whole = empty_stored(rows, job.settings.dims, dtype)
        _put(whole, fresh_U, stored)
        for number in np.unique(shards_N[shards_N >= 0]):
            here_N = np.flatnonzero(shards_N == number)
            _put(whole, here_N, read_stored(seen.shards[number]).rows(rows_N[here_N]))
        stored = whole
        copied = [window.texts[row] for row in np.flatnonzero(shards_N >= 0)]
        truncated += encoder.count_truncated(copied)
        if progress is not None:
            progress(rows - len(fresh_U), 0)
    columns = Columns(
        texts=window.texts if job.settings.text else None,
        ids=window.ids if job.settings.ids else None,
    )
    sidecar = write_sidecar(job.sidecar(window.name), window.digests)
    about = {name: str(value) for name, value in asdict(job.settings).items()}
    sha256 = write_shard(job.path / window.name, columns, stored, about=about)
    shard = Shard(
        name=window.name,
        content=window.content,
        rows=rows,
        sha256=sha256,
        truncated=truncated,
        sidecar=sidecar,
    )
    return Made(shard=shard, computed=encoded.different, copied=rows - len(fresh_U))


def _put(whole: Stored, rows_N: Int64, part: Stored) -> None:
    whole.values_NP[rows_N] = part.values_NP
    if len(whole.scale_N):
        whole.scale_N[rows_N] = part.scale_N
