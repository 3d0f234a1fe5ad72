"""Cut a stream of rows into windows: what is sorted, embedded and written together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

from mirror_rt.errors import InputError
from mirror_rt.runtime.jobfolder import Settings
from mirror_rt.runtime.seen import digests
from mirror_rt.runtime.sources import Row

__all__ = ["Window", "rows_of_a_window", "window_of", "windows"]

WINDOW_BYTES = 32 * 1024 * 1024
"""Float32 bytes of a window's vectors: memory holds a few times as much, disk a file each."""

WINDOW_CHARACTERS = 8 * 1024 * 1024
"""A window ends earlier where its texts are this long together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Consecutive rows.

    Attributes:
        number: Which window, from 0.
        texts: The texts.
        ids: Their ids, empty strings where there are none.
        digests: 16-byte hashes of the texts, end to end.
        content: Hex hash of the settings of the job, and the texts and ids in order.
    """

    number: int
    texts: list[str]
    ids: list[str]
    digests: bytes
    content: str

    @property
    def name(self) -> str:
        """The file name of its shard: the place, and the content."""
        return f"part-{self.number:05d}-{self.content[:16]}.parquet"


def rows_of_a_window(dim: int) -> int:
    """Return how many vectors of width ``dim`` make a window.

    >>> rows_of_a_window(384)
    21845
    """
    return max(1, WINDOW_BYTES // (4 * dim))


def windows(rows: Iterable[Row], settings: Settings) -> Iterator[Window]:
    """Yield windows of the rows; where they are cut depends on the rows and settings alone.

    Raises:
        InputError: A row is not of strings, or holds a lone surrogate.
    """
    number, characters = 0, 0
    texts: list[str] = []
    ids: list[str] = []
    for row, (text, row_id) in enumerate(rows):
        for value in (text, row_id):
            if not isinstance(value, str):
                raise InputError(f"rows[{row}]: holds a {type(value).__name__}, not a string")
        texts.append(text)
        ids.append(row_id)
        characters += len(text)
        if len(texts) >= settings.window_rows or characters >= WINDOW_CHARACTERS:
            yield window_of(number, texts, ids, settings)
            number, characters, texts, ids = number + 1, 0, [], []
    if texts:
        yield window_of(number, texts, ids, settings)


def window_of(number: int, texts: list[str], ids: list[str], settings: Settings) -> Window:
    """Return the window of these rows.

    Raises:
        InputError: A text or an id holds a lone surrogate.
    """
    about = json.dumps(asdict(settings), sort_keys=True).encode() + len(texts).to_bytes(8, "little")
    try:
        of_texts, of_ids = digests(texts), digests(ids) if any(ids) else b""
    except UnicodeEncodeError as error:
        raise InputError(
            f"a lone surrogate, which is not text, in {error.object[:40]!r}; remove or replace it"
        ) from error
    content = hashlib.sha256(about + of_texts + of_ids).hexdigest()
    return Window(number=number, texts=texts, ids=ids, digests=of_texts, content=content)
