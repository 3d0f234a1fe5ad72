"""Draw positive pairs, and find the strings of a batch that must not be negatives.

Axes: N strings, P pairs, V views (2 for each pair of a batch: all first views, then all second).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt._count import counted
from mirror_rt.errors import ConfigError, InputError
from mirror_rt.knowledge.formats import Columns, SkippedRows
from mirror_rt.knowledge.text.held_out import is_held_out
from mirror_rt.tables import Notes, TableOptions
from mirror_rt.training.config import TrainConfig
from mirror_rt.training.read_corpus import Corpus, read_corpus, read_pairs
from mirror_rt.types import PairSource

if TYPE_CHECKING:
    import numpy.typing as npt

    from mirror_rt.types import Int64

__all__ = [
    "PairTable",
    "draw_epoch",
    "hold_out",
    "read_table",
    "same_meaning_mask",
    "synonym_pairs",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairTable:
    """All strings of a run, and their meanings.

    Attributes:
        strings: N distinct strings.
        groups: The numbers of the meanings of each string; two strings that share one are
            never negatives of each other.
        mirrored: Rows of ``strings`` for self-duplicated pairs.
        entities: For synonym pairs, the rows of each entity's names, without the names that
            ``knowledge.reserve`` holds out.
        filed_P2: (P, 2) int64 rows of the pairs read from a pairs file.
        counts: The numbers of strings read and dropped, for the report.
        sha256: Hex sha256 of the strings and meanings.
        remarks: Remarks on how the files were read.
        sources: For several files, the entities and the pairs of synonyms of each; with
            ``max_pairs`` an epoch draws from them in proportion.
    """

    strings: tuple[str, ...]
    groups: tuple[tuple[int, ...], ...]
    mirrored: tuple[int, ...]
    entities: tuple[tuple[int, ...], ...]
    filed_P2: Int64
    counts: Mapping[str, int]
    sha256: str
    remarks: tuple[str, ...] = ()
    sources: tuple[Mapping[str, str | int], ...] = ()


def read_table(config: TrainConfig) -> PairTable:
    """Read the corpus and the pairs file of a run.

    Raises:
        ConfigError: The configured pairs do not fit the given files.
        InputError: A file cannot be read or has nothing to train on.
    """
    kinds = set(config.shares)
    filed: list[tuple[str, str]] = []
    dropped = 0
    options = TableOptions(delimiter=config.delimiter, encoding=config.encoding)
    skipped, notes = SkippedRows(strict=True), Notes()
    corpus = Corpus(strings=(), entities=(), lines=0, blank=0, duplicates=0)
    if kinds == {PairSource.FILE}:
        if config.pairs_file is not None:
            raise ConfigError("pairs_file: with --pairs file alone, give that file as the corpus")
        if len(config.corpora) > 1:
            raise ConfigError("corpus: with --pairs file alone, give one file of pairs")
        filed, dropped = read_pairs(config.corpora[0], options=options, notes=notes)
    else:
        columns = Columns(
            id=config.id_column,
            name=config.name_column,
            aliases=config.alias_columns or (),
            fields=config.field_columns or (),
        )
        corpus = read_corpus(*config.corpora, columns=columns, options=options, skip_bad=skipped)
        if PairSource.FILE in kinds:
            if config.pairs_file is None:
                raise ConfigError("pairs: file is combined with others; give --pairs-file as well")
            filed, dropped = read_pairs(config.pairs_file, notes=notes)
    named = corpus.names_by_entity
    unseen = {row for row, string in enumerate(corpus.strings) if is_held_out(string)}
    paired = {
        entity: seen
        for entity, rows in named.items()
        if len(seen := tuple(row for row in rows if row not in unseen)) > 1
    }
    entities = tuple(paired.values())
    sources = _sources(config, corpus, paired) if len(config.corpora) > 1 else ()
    if PairSource.SYNONYMS in kinds and not entities:
        if any(len(rows) > 1 for rows in named.values()):
            raise InputError(
                f"{config.corpus_shown}: has no entity with two names except for "
                f"{counted(len(unseen), 'string')} held out (a twentieth of all), "
                "so there are no synonym pairs; give more names, or --pairs mirror"
            )
        raise InputError(
            f"{config.corpus_shown}: has no entity with two names, so there are no synonym pairs; "
            "give a knowledge-base file, or --pairs mirror"
        )
    rows = {string: row for row, string in enumerate(corpus.strings)}
    groups = [set(found) for found in corpus.entities]
    meaning = len(named)  # each line of a pairs file is a separate meaning
    filed_P2 = np.zeros((len(filed), 2), dtype=np.int64)
    for line, pair in enumerate(filed):
        for side, string in enumerate(pair):
            row = rows.setdefault(string, len(rows))
            if row == len(groups):
                groups.append(set())
            groups[row].add(meaning + line)
            filed_P2[line, side] = row
    return PairTable(
        strings=tuple(rows),
        groups=tuple(tuple(sorted(found)) for found in groups),
        mirrored=tuple(range(len(corpus.strings))),
        entities=entities,
        filed_P2=filed_P2,
        counts={
            "lines": corpus.lines + len(filed) + dropped,
            "blank": corpus.blank,
            "duplicates": corpus.duplicates,
            "pairs_dropped": dropped,
            "strings": len(rows),
            "entities": len(named),
        },
        sha256=_digest(tuple(rows), groups, filed_P2),
        remarks=(*skipped.sentences(), *notes.sentences(), *map(_source_shown, sources)),
        sources=sources,
    )


def _sources(
    config: TrainConfig, corpus: Corpus, paired: Mapping[int, Sequence[int]]
) -> tuple[dict[str, str | int], ...]:
    """Count the entities and pairs of each of several files.

    Raises:
        InputError: A file has no synonyms, and there are only synonym pairs.
    """
    entities, pairs = [0] * len(config.corpora), [0] * len(config.corpora)
    for file in corpus.files:
        entities[file] += 1
    for entity, rows in paired.items():
        most = len(rows) * (len(rows) - 1) // 2
        pairs[corpus.files[entity]] += min(most, config.pairs_per_entity)
    if set(config.shares) == {PairSource.SYNONYMS}:
        for path, count in zip(config.corpora, pairs, strict=True):
            if not count:
                raise InputError(
                    f"{path}: has no entity with two names, so it gives no synonym pairs; "
                    "leave it out, or give --pairs mirror=1,synonyms=1"
                )
    return tuple(
        {"file": str(path), "entities": one, "synonym_pairs": two}
        for path, one, two in zip(config.corpora, entities, pairs, strict=True)
    )


def _source_shown(source: Mapping[str, str | int]) -> str:
    return (
        f"{source['file']}: {counted(int(source['entities']), 'entity')}, "
        f"{counted(int(source['synonym_pairs']), 'pair')} of synonyms an epoch"
    )


def _digest(strings: Sequence[str], groups: Sequence[set[int]], filed_P2: Int64) -> str:
    """Return the sha256 of the training data: strings, meanings and pairs from the file."""
    digest = hashlib.sha256()
    for string, meanings in zip(strings, groups, strict=True):
        digest.update(f"{string}\n{sorted(meanings)}\n".encode("utf-8", "surrogatepass"))
    digest.update(filed_P2.tobytes())
    return digest.hexdigest()


def hold_out(
    table: PairTable, config: TrainConfig, *, rng: np.random.Generator
) -> tuple[PairTable, Int64]:
    """Hold out pairs from training, in proportion to the shares of their sources.

    No name of a held-out entity is trained on, and no held-out string is in another pair.

    Returns:
        The table without them, and the (P, 2) int64 pairs.

    Raises:
        ConfigError: There are too few to measure on.
    """
    counts = {source: round(config.eval_pairs * share) for source, share in config.shares.items()}
    chosen = rng.permutation(len(table.entities))[: counts.get(PairSource.SYNONYMS, 0)].tolist()
    entities = [table.entities[i] for i in chosen]
    parts = [synonym_pairs(entities, most=1, rng=rng)]
    held = {m for rows in entities for m in set.intersection(*(set(table.groups[r]) for r in rows))}
    gone = {row for row, found in enumerate(table.groups) if held.intersection(found)}
    mirrored = [row for row in table.mirrored if row not in gone]
    picked = rng.permutation(len(mirrored))[: counts.get(PairSource.MIRROR, 0)].tolist()
    alone = [mirrored[i] for i in picked]
    parts.append(np.asarray([(row, row) for row in alone], dtype=np.int64).reshape(-1, 2))
    order = rng.permutation(len(table.filed_P2))
    lines = counts.get(PairSource.FILE, 0)
    parts.append(table.filed_P2[order[:lines]])
    held_P2 = np.concatenate(parts)
    if config.eval_pairs and len(held_P2) < 2:
        raise ConfigError(
            f"eval_pairs: sets aside {counted(len(held_P2), 'pair')}, and measuring takes 2; "
            f"give a higher --eval-pairs than {config.eval_pairs}, or 0"
        )
    gone.update(held_P2.reshape(-1).tolist())
    stays = ~np.isin(table.filed_P2, sorted(gone)).any(axis=1)
    left = [tuple(row for row in rows if row not in gone) for rows in table.entities]
    rest = replace(
        table,
        mirrored=tuple(row for row in mirrored if row not in gone),
        entities=tuple(rows for rows in left if len(rows) > 1),
        filed_P2=table.filed_P2[stays],
    )
    return rest, held_P2


def draw_epoch(table: PairTable, config: TrainConfig, *, rng: np.random.Generator) -> Int64:
    """Draw the pairs of one epoch, shuffled.

    Sources are mixed by their shares. The epoch ends when the first source is used up, so
    nothing is repeated within an epoch.

    Returns:
        (P, 2) int64 rows of ``table.strings``; a pair of equal rows is a mirror pair.
    """
    pools = {source: _pool(source, table, config, rng) for source in config.shares}
    total = min(len(pool) / config.shares[source] for source, pool in pools.items())
    if config.max_pairs is not None:
        total = min(total, config.max_pairs)
    parts = []
    for source, pool in pools.items():
        count = min(len(pool), round(total * config.shares[source]))
        parts.append(pool[rng.permutation(len(pool))[:count]])
    pairs_P2 = np.concatenate(parts)
    return pairs_P2[rng.permutation(len(pairs_P2))]


def _pool(
    source: PairSource, table: PairTable, config: TrainConfig, rng: np.random.Generator
) -> Int64:
    match source:
        case PairSource.MIRROR:
            rows = np.asarray(table.mirrored, dtype=np.int64)
            return np.stack((rows, rows), axis=1)
        case PairSource.SYNONYMS:
            return synonym_pairs(table.entities, most=config.pairs_per_entity, rng=rng)
        case PairSource.FILE:
            return table.filed_P2


def synonym_pairs(
    entities: Sequence[Sequence[int]], *, most: int, rng: np.random.Generator
) -> Int64:
    """Pair the names of each entity with one another.

    An entity with n names has n(n − 1) / 2 pairs. At most ``most`` of them are drawn, so
    entities with many names do not dominate.

    Returns:
        (P, 2) int64, the two rows of a pair in random order.
    """
    pairs: list[tuple[int, int]] = []
    for rows in entities:
        count = len(rows) * (len(rows) - 1) // 2
        chosen = range(count) if count <= most else rng.choice(count, size=most, replace=False)
        for code in chosen:
            first, second = _unrank(int(code))
            pairs.append((rows[first], rows[second]))
    pairs_P2 = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
    turned = rng.random(len(pairs_P2)) < 0.5
    pairs_P2[turned] = pairs_P2[turned][:, ::-1]
    return pairs_P2


def _unrank(code: int) -> tuple[int, int]:
    """The ``code``-th pair i < j, counted as (0,1), (0,2), (1,2), (0,3), and so on."""
    j = int((1 + (1 + 8 * code) ** 0.5) / 2)
    while j * (j - 1) // 2 > code:  # the square root may round up
        j -= 1
    return code - j * (j - 1) // 2, j


def same_meaning_mask(
    keys: Sequence[Sequence[int]], others: Sequence[Sequence[int]] | None = None
) -> npt.NDArray[np.bool_]:
    """Return which pairs of views may have the same meaning, and so are not negatives.

    InfoNCE leaves these pairs out (they would be false negatives); multi-similarity takes them
    as positives.

    Args:
        keys: The keys of each of V views: its string and its meanings.
        others: The keys of each of Q other views; by default the same views.

    Returns:
        (V, Q) bool; without others symmetric, and true on the diagonal if a view has a key.
    """
    others = keys if others is None else others
    strings_of: dict[int, list[int]] = {}
    for other, found in enumerate(others):
        for key in found:
            strings_of.setdefault(key, []).append(other)
    same_VQ = np.zeros((len(keys), len(others)), dtype=bool)
    for view, found in enumerate(keys):
        for key in found:
            same_VQ[view, strings_of.get(key, [])] = True
    return same_VQ
