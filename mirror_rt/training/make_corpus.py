"""Make a corpus to train on: frequent words, names of a knowledge base, sentences of a text.

In-domain, frequent strings do best, and 10,000 to 20,000 of them are enough (paper, section 6).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt._count import counted
from mirror_rt._extras import require
from mirror_rt.errors import ConfigError, InputError
from mirror_rt.tables import is_blank
from mirror_rt.textfiles import StrPath, shown

if TYPE_CHECKING:
    from mirror_rt.knowledge.formats import Columns, KbFormat, SkippedRows
    from mirror_rt.tables import Notes, TableOptions

__all__ = ["CorpusReport", "names", "sentences", "words"]

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusReport:
    """Distinct strings to train on, and how many were dropped.

    Attributes:
        strings: The strings.
        read: Strings read.
        dropped: The number of dropped strings, by reason.
    """

    strings: list[str]
    read: int
    dropped: dict[str, int]

    def __str__(self) -> str:
        """Return a sentence for the user."""
        why = ", ".join(f"{count:,} {reason}" for reason, count in self.dropped.items() if count)
        kept = counted(len(self.strings), "string")
        return f"{kept} of {self.read:,} read; dropped: {why or 'none'}"


def words(language: str, *, count: int) -> CorpusReport:
    """Return the most frequent words of a language, most frequent first.

    Args:
        language: A code such as ``en`` or ``zh``.
        count: Maximum number of words.

    Raises:
        MissingExtraError: wordfreq is not installed.
        ConfigError: It has no list for the language.
    """
    require("wordfreq", extra="corpus")
    import wordfreq

    known = wordfreq.available_languages()
    if language not in known:  # the library would use a similar language: Spanish for Galician
        listed = ", ".join(sorted(known))
        raise ConfigError(f"lang: no word list for {language!r}; there is {listed}")
    return _different(wordfreq.top_n_list(language, count), count=None, seed=0)


def names(
    source: StrPath,
    *,
    count: int | None = None,
    seed: int = 42,
    format: KbFormat | None = None,
    columns: Columns | None = None,
    options: TableOptions | None = None,
    skip_bad: SkippedRows | None = None,
) -> CorpusReport:
    """Return names of a knowledge-base file, or a sample of them in random order.

    Raises:
        InputError: The file cannot be read.
        ConfigError: Its format cannot be detected.
    """
    from mirror_rt.knowledge.formats import read_names

    found = read_names(source, format=format, columns=columns, options=options, skip_bad=skip_bad)
    return _different(found, count=count, seed=seed)


def sentences(
    source: StrPath,
    *,
    count: int | None = None,
    split: bool = False,
    min_chars: int = 1,
    max_chars: int = 1000,
    seed: int = 42,
    column: str | None = None,
    options: TableOptions | None = None,
    notes: Notes | None = None,
) -> CorpusReport:
    """Return the lines of a text file, or the texts of a table, or a sample in random order.

    Args:
        source: The file in any layout that ``embed`` reads, or ``-`` for standard input.
        count: Maximum number of strings; None for all.
        split: Whether a line is a paragraph, to be split at ends of sentences.
        min_chars: Minimum characters of a string.
        max_chars: Maximum characters of a string.
        seed: The seed of the sample.
        column: The column of a table with the texts; by default detected as in ``embed``.
        options: The layout of a table, if it cannot be detected.
        notes: Counts what is skipped.

    Raises:
        InputError: The file cannot be read, or no string in it can be kept.
    """
    from mirror_rt.runtime.sources import read_rows

    from .read_corpus import refuse_nul

    def lines() -> Iterator[str]:
        rows = read_rows(source, column=column, options=options, notes=notes)
        for number, (text, _) in enumerate(rows, 1):
            refuse_nul(source, "text", number, text)
            yield text

    parts = (part for line in lines() for part in (_SENTENCE_END.split(line) if split else [line]))
    made = _different(parts, count=count, seed=seed, min_chars=min_chars, max_chars=max_chars)
    if not made.strings:
        raise InputError(f"{shown(source)}: nothing to keep; {made}")
    return made


def _different(
    texts: Iterable[str],
    *,
    count: int | None,
    seed: int,
    min_chars: int = 1,
    max_chars: int | None = None,
) -> CorpusReport:
    seen: dict[str, None] = {}
    dropped = {"blank": 0, "repeated": 0, "too short": 0, "too long": 0, "not sampled": 0}
    read = 0
    for text in texts:
        read += 1
        # A string is one line of the corpus, even if it has several in its file.
        string = " ".join(text.split())
        if is_blank(string):
            dropped["blank"] += 1
        elif len(string) < min_chars:
            dropped["too short"] += 1
        elif max_chars is not None and len(string) > max_chars:
            dropped["too long"] += 1
        elif string in seen:
            dropped["repeated"] += 1
        else:
            seen[string] = None
    strings = list(seen)
    if count is not None and count < len(strings):
        dropped["not sampled"] = len(strings) - count
        rows = np.random.default_rng(seed).permutation(len(strings))[:count]
        strings = [strings[row] for row in rows]
    return CorpusReport(strings=strings, read=read, dropped=dropped)
