"""Read Parquet through pyarrow, with its errors in one line."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from mirror_rt.errors import InputError
from mirror_rt.textfiles import UNPACKING_ERRORS, Source, shown

__all__ = ["open_parquet", "pyarrow_errors", "records", "seekable"]


def open_parquet(file: Path | IO[bytes]) -> Any:  # noqa: ANN401 - pyarrow has no types
    """Open a file without reading ahead."""
    import pyarrow.parquet as pq

    # Otherwise pyarrow reads the columns of a whole row group at once.
    return pq.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20)


@contextmanager
def pyarrow_errors(name: str, number: int, fault: str = "not a Parquet file") -> Iterator[None]:
    """Return an error of pyarrow in one line."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        what = f"broken after row {number}" if number else fault
        raise InputError(f"{name}: {what} ({reason})") from error


@contextmanager
def seekable(source: Source) -> Iterator[IO[bytes]]:
    """Return a seekable file: the source itself, or a copy."""
    with source.open() as handle:
        if handle.seekable():
            yield handle
            return
        with tempfile.SpooledTemporaryFile(max_size=1 << 24) as copy:
            try:
                for block in iter(lambda: handle.read(1 << 20), b""):
                    copy.write(block)
            except UNPACKING_ERRORS as error:
                raise InputError(f"{shown(source)}: broken or cut off ({error})") from error
            copy.seek(0)
            yield copy


def records(batch: Any) -> list[dict[str, object] | None]:  # noqa: ANN401 - pyarrow has no types
    """Return the rows of a batch; None for a row that is not UTF-8."""
    try:
        return [*batch.to_pylist()]
    except UnicodeDecodeError:
        if batch.num_rows == 1:
            return [None]
        return [row for i in range(batch.num_rows) for row in records(batch.slice(i, 1))]
