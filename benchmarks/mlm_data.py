"""Data for masked language modeling: texts, tokens, packed rows, masks, first vectors."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mirror_rt.errors import ConfigError, InputError

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PAD, UNK, CLS, SEP, MASK = range(5)
UNPREDICTED = -100
FEWEST_TEXTS = 1000
_OPEN: dict[bytes, Callable[[Path], Any]] = {
    b"\xfd7z": lzma.open,
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
}


def texts_of(corpus: Path) -> Iterator[str]:
    """Yield the lines that are not blank, of a file that may be compressed by xz, gzip or bzip2.

    Raises:
        InputError: The file cannot be read or is not UTF-8; the message names the line.
    """
    try:
        with corpus.open("rb") as plain:
            start = plain.read(6)
        opener = next((o for magic, o in _OPEN.items() if start.startswith(magic)), None)
        file: BinaryIO = opener(corpus) if opener else corpus.open("rb")
        with file:
            for number, line in enumerate(file, 1):
                try:
                    text = line.decode("utf-8").strip()
                except UnicodeDecodeError as error:
                    raise InputError(
                        f"{corpus}, line {number}: is not UTF-8 ({error.reason}); "
                        "cut the file at the end of a line, or convert it"
                    ) from error
                if text:
                    yield text
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise InputError(f"{corpus}: cannot be read ({error})") from error


def make_tokenizer(corpus: Path, size: int) -> Any:  # noqa: ANN401  (untyped library)
    """Return a lower-casing WordPiece tokenizer of BERT's form, trained on the corpus."""
    from tokenizers import BertWordPieceTokenizer

    tokenizer = BertWordPieceTokenizer(lowercase=True)
    tokenizer.train_from_iterator(
        texts_of(corpus), vocab_size=size, special_tokens=list(SPECIAL), show_progress=False
    )
    return tokenizer._tokenizer


def encode(corpus: Path, tokenizer: Any) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:  # noqa: ANN401
    """Return the tokens of all texts in one array, and the start and end of each text.

    Returns:
        (T,) uint16 token ids without special tokens; (N + 1,) int64 offsets into them.

    Raises:
        ConfigError: The corpus is too small.
    """
    parts: list[NDArray[np.uint16]] = []
    lengths: list[int] = []

    def add(batch: list[str]) -> None:
        for found in tokenizer.encode_batch(batch, add_special_tokens=False):
            if found.ids:  # some characters are no token
                parts.append(np.asarray(found.ids, dtype=np.uint16))
                lengths.append(len(found.ids))

    batch: list[str] = []
    for text in texts_of(corpus):
        batch.append(text)
        if len(batch) == 4096:
            add(batch)
            batch = []
    add(batch)
    if len(lengths) < FEWEST_TEXTS:
        raise ConfigError(
            f"{corpus}: has {len(lengths)} texts, and masked language modeling needs "
            f"{FEWEST_TEXTS} or more; give a larger corpus, a paragraph a line"
        )
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return np.concatenate(parts), offsets


def pack(
    tokens: NDArray[np.uint16], offsets: NDArray[np.int64], order: NDArray[np.int64], length: int
) -> tuple[NDArray[np.uint16], NDArray[np.int32]]:
    """Pack texts into rows of [CLS] text [SEP], one after another.

    A text that does not fit into the rest of a row continues in the next one, with its own [CLS].
    Fewer than 8 free positions at the end of a row stay empty.

    Args:
        tokens: (T,) uint16.
        offsets: (N + 1,) int64.
        order: The numbers of the texts, in the order of packing.
        length: Positions in a row.

    Returns:
        (R, length) uint16 ids; (R, length) int32 number of the piece within its row, counted
        from 1, and 0 for empty positions.
    """
    ids: list[NDArray[np.uint16]] = []
    pieces: list[NDArray[np.int32]] = []
    row = np.zeros(length, dtype=np.uint16)
    piece = np.zeros(length, dtype=np.int32)
    used = count = 0
    for text in order:
        start, end = int(offsets[text]), int(offsets[text + 1])
        while start < end:
            if length - used < 8:
                ids.append(row)
                pieces.append(piece)
                row = np.zeros(length, dtype=np.uint16)
                piece = np.zeros(length, dtype=np.int32)
                used = count = 0
            taken = min(end - start, length - used - 2)
            count += 1
            row[used] = CLS
            row[used + 1 : used + 1 + taken] = tokens[start : start + taken]
            row[used + 1 + taken] = SEP
            piece[used : used + 2 + taken] = count
            used += taken + 2
            start += taken
    if used:
        ids.append(row)
        pieces.append(piece)
    return np.stack(ids), np.stack(pieces)


def mask(
    ids: NDArray[np.uint16], vocabulary: int, draw: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Choose 15 % of the tokens; replace 80 % of them by [MASK] and 10 % by a random token.

    Args:
        ids: (R, L) uint16; special tokens are never chosen.
        vocabulary: Number of tokens.
        draw: The random generator.

    Returns:
        (R, L) int64 input of the model; (R, L) int64 tokens to predict, ``UNPREDICTED`` elsewhere.
    """
    seen = ids.astype(np.int64)
    chosen = (ids >= len(SPECIAL)) & (draw.random(ids.shape) < 0.15)
    labels = np.where(chosen, seen, UNPREDICTED)
    fate = draw.random(ids.shape)
    seen[chosen & (fate < 0.8)] = MASK
    other = draw.integers(len(SPECIAL), vocabulary, ids.shape)
    swapped = chosen & (fate >= 0.8) & (fate < 0.9)
    seen[swapped] = other[swapped]
    return seen, labels


def svd_embeddings(
    tokens: NDArray[np.uint16],
    vocabulary: int,
    width: int,
    *,
    window: int = 4,
    most: int = 8_000_000,
) -> NDArray[np.float32]:
    """Return token vectors from co-occurrences: PPMI and a truncated SVD.

    Levy and Goldberg 2014, *Neural Word Embedding as Implicit Matrix Factorization*, section 3.

    Args:
        tokens: (T,) uint16; at most ``most`` of them are counted.
        vocabulary: V.
        width: D.
        window: Tokens on each side.
        most: See ``tokens``.

    Returns:
        (V, D) float32, with a standard deviation of .02, like BERT's own at the start.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.linalg import svds

    used = tokens[:most].astype(np.int64)
    counts = coo_matrix((vocabulary, vocabulary), dtype=np.float64).tocsr()
    for gap in range(1, min(window, len(used) - 1) + 1):
        weight = np.full(len(used) - gap, 1 / gap)
        pairs = (weight, (used[:-gap], used[gap:]))
        counts = counts + coo_matrix(pairs, shape=(vocabulary, vocabulary)).tocsr()
    counts = (counts + counts.T).tocoo()
    rows = np.asarray(counts.sum(1)).ravel()
    smooth = rows**0.75  # smoothing of the context: Levy et al. 2015, section 3.3
    smooth /= smooth.sum()
    values = np.log(counts.data / rows[counts.row] / smooth[counts.col])
    kept = values > 0
    matrix = coo_matrix(
        (values[kept], (counts.row[kept], counts.col[kept])), shape=(vocabulary, vocabulary)
    ).tocsr()
    start = np.random.default_rng(0).standard_normal(vocabulary)
    left, singular, _ = svds(matrix, k=min(width, vocabulary - 1), v0=start)
    vectors = np.zeros((vocabulary, width), dtype=np.float32)
    vectors[:, : left.shape[1]] = left * np.sqrt(singular)
    spread = float(vectors.std())
    return vectors * np.float32(0.02 / spread) if spread else vectors
