"""Write vectors to one file, .npy or .parquet.

N rows, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt.errors import ConfigError
from mirror_rt.staging import staging_file

if TYPE_CHECKING:
    from mirror_rt.types import Float32

__all__ = ["check_suffix", "write_vectors"]

SUFFIXES = (".npy", ".parquet")


def check_suffix(target: Path) -> None:
    """Refuse a file whose name does not say a format that vectors are written in.

    Raises:
        ConfigError: It ends otherwise than in .npy or .parquet.
    """
    if target.suffix not in SUFFIXES:
        raise ConfigError(f"{target}: the name must end in {' or '.join(SUFFIXES)}")


def write_vectors(
    target: Path, texts: Sequence[str], vectors_ND: Float32, *, force: bool = False
) -> None:
    """Write ``vectors_ND`` so that row i belongs to ``texts[i]``, whole or not at all.

    A .npy file holds the (N, D) float32 array; a .parquet file the columns ``text`` and
    ``vector``, a fixed-size list of D floats.

    Raises:
        ConfigError: The name ends otherwise.
        TargetError: The file exists and ``force`` is not set.
    """
    check_suffix(target)
    with staging_file(target, force=force) as fresh:
        if target.suffix == ".npy":
            np.save(fresh, vectors_ND, allow_pickle=False)
        else:
            _write_parquet(fresh, texts, vectors_ND)


def _write_parquet(path: Path, texts: Sequence[str], vectors_ND: Float32) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    vectors = pa.FixedSizeListArray.from_arrays(pa.array(vectors_ND.ravel()), vectors_ND.shape[1])
    table = pa.table({"text": pa.array(texts, pa.string()), "vector": vectors})
    # Random-looking floats do not compress, and dictionaries of them only cost time.
    pq.write_table(table, path, compression="none", use_dictionary=False)
