"""Link into a file: a job that goes on after a kill, and ends in the same bytes.

.OUT.job/settings.json              what the answers depend on, beside the mentions
.OUT.job/000000-<content>.jsonl     the answers of a block, named by what was asked

OUT is made of the blocks when all are there, beside its place, and renamed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirror_rt.errors import ConfigError
from mirror_rt.staging import check_apart, check_target, staging_file

from . import output
from .asked import Block, Remembered

if TYPE_CHECKING:
    from mirror_rt.knowledge import KnowledgeBase

ENDINGS = (".jsonl", ".tsv", ".parquet", ".pubtator")

_TEXTS, _NUMBERS = ("id", "name", "matched", "how"), ("score", "probability")


def settings_of(kb: KnowledgeBase, **options: object) -> dict[str, object]:
    """Return what answers depend on: the knowledge base, the program and the options."""
    from mirror_rt.bundle import sum_of
    from mirror_rt.version import VERSION

    # The manifest has the sums of every file but the one that calibration changes. Both as they
    # were opened: the folder may be another one by now.
    sums = [sum_of(asdict(kb.manifest)), sum_of(asdict(kb.combination))]
    content = {"knowledge_base": sums, "version": VERSION, **options}
    return dict(json.loads(json.dumps(content)))


def blocks_of(out: Path) -> Path:
    """Return the folder of the blocks of a file to be."""
    return out.with_name(f".{out.name}.job")


class LinkJob:
    """The blocks of a file to be, held by this process.

    Attributes:
        kept: Blocks that an earlier run had answered.
        rows: Mentions answered.
        undecided: Mentions of which the file, PubTator, has one of several tied ids.
    """

    def __init__(self, source: str, out: Path, folder: Path) -> None:
        self.out = out
        self.kept = 0
        self.rows = 0
        self.undecided = 0
        self._source = source
        self._folder = folder
        self._blocks: list[Path] = []

    @classmethod
    @contextmanager
    def hold(
        cls,
        source: str,
        out: Path,
        settings: Mapping[str, object],
        *,
        force: bool,
        inputs: Mapping[str, str | Path | None] | None = None,
    ) -> Iterator[LinkJob]:
        """Begin a job, or go on with one of the same settings; leave no trace if no block comes.

        Args:
            source: The first of what was given: a file, or a mention.
            out: The file to be.
            settings: What ``settings_of`` says.
            force: Whether ``out`` may be replaced.
            inputs: What else is read, by the word for it.

        Raises:
            ConfigError: ``out`` has no ending that is written, or one for another ``source``.
            TargetError: ``out`` exists and ``force`` is not set, or another process writes it.
        """
        from mirror_rt.knowledge.pubtator import is_pubtator
        from mirror_rt.runtime.jobfolder import lock, write_json

        if out.suffix not in ENDINGS:
            raise ConfigError(f"{out}: name a file in {', '.join(ENDINGS)}")
        if out.suffix == ".pubtator" and (source == "-" or not is_pubtator(source)):
            raise ConfigError(f"{out}: PubTator is written for a PubTator file alone")
        check_target(out, force=force)
        check_apart(out, {"input": source, **(inputs or {})})
        folder = blocks_of(out)
        folder.mkdir(parents=True, exist_ok=True)
        with lock(folder / "lock", out):
            if _read(folder / "settings.json") != settings:
                for path in folder.glob("*.jsonl"):
                    path.unlink()
                write_json(folder / "settings.json", settings)
            try:
                yield cls(source, out, folder)
            except BaseException:
                if not any(folder.glob("*.jsonl")):
                    shutil.rmtree(folder, ignore_errors=True)
                raise

    def answer(self, block: Block, find: Remembered) -> list[str]:
        """Answer the next block, or read what an earlier run answered."""
        asked = json.dumps([block.texts, block.contexts, block.documents])
        content = hashlib.blake2b(asked.encode(), digest_size=16).hexdigest()
        path = self._folder / f"{len(self._blocks):06d}-{content}.jsonl"
        lines = _lines(path) if path.exists() else []
        if len(lines) == len(block.texts):
            # Asked and answered as if it had just been: which mentions stand beside each other
            # in a later batch must not depend on where a kill came.
            find.learn(block, lines)
            self.kept += 1
        else:
            lines = find(block)
            fresh = path.with_suffix(".partial")
            fresh.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="")
            os.replace(fresh, path)
        self._blocks.append(path)
        self.rows += len(lines)
        return lines

    def finish(self, *, force: bool) -> None:
        """Make the file of the blocks, a block in memory at a time, and remove the blocks.

        Raises:
            TargetError: The file exists by now and ``force`` is not set.
            InputError: A PubTator file changed meanwhile.
        """
        with staging_file(self.out, force=force) as fresh:
            match self.out.suffix:
                case ".parquet":
                    self._write_parquet(fresh)
                case ".tsv":
                    with open(fresh, "w", encoding="utf-8", newline="") as handle:
                        for number, path in enumerate(self._blocks):
                            for line in output.tsv(_lines(path), head=not number):
                                handle.write(f"{line}\n")
                case ".pubtator":
                    from mirror_rt.knowledge.pubtator import with_ids

                    with open(fresh, "wb") as annotated:
                        annotated.writelines(with_ids(self._source, self._ids()))
                case _:
                    with open(fresh, "wb") as joined:
                        for path in self._blocks:
                            joined.write(path.read_bytes())
        shutil.rmtree(self._folder, ignore_errors=True)

    def _ids(self) -> Iterator[str]:
        from mirror_rt.knowledge.pubtator import NO_ID

        for path in self._blocks:
            for line in _lines(path):
                best = _best(json.loads(line))
                self.undecided += any(c["tied"] and "context" not in c for c in best)
                yield "|".join(c["id"] for c in best) or NO_ID

    def _write_parquet(self, fresh: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        best = [
            *((name, pa.string()) for name in ("id", "name", "matched")),
            *((name, pa.float64()) for name in _NUMBERS),
            ("how", pa.string()),
            ("tied", pa.bool_()),
        ]
        candidate = pa.struct([*best, ("read_as", pa.string()), ("context", pa.float64())])
        schema = pa.schema(
            [
                ("mention", pa.string()),
                *best,
                ("reason", pa.string()),
                ("candidates", pa.list_(candidate)),
            ]
        )
        with pq.ParquetWriter(fresh, schema, compression="zstd") as writer:
            for path in self._blocks:
                rows = [_flat(json.loads(line)) for line in _lines(path)]
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))


def _best(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the best candidate of each part of a mention: most often of the one there is."""
    best: dict[str, dict[str, Any]] = {}
    for candidate in record["candidates"]:
        best.setdefault(candidate["read_as"], candidate)
    return list(best.values())


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    """Return a row of Parquet, with the parts of a composite together."""
    best = _best(record)
    if not best:
        return record
    numbers = {name: [c[name] for c in best if c[name] is not None] for name in _NUMBERS}
    return {
        **record,
        **{name: "|".join(c[name] for c in best) for name in _TEXTS},
        **{name: min(values, default=None) for name, values in numbers.items()},
        "tied": any(c["tied"] for c in best),
    }


def _lines(path: Path) -> list[str]:
    # Not splitlines: a mention may hold any other separator of Unicode.
    return path.read_bytes().decode("utf-8").split("\n")[:-1]


def _read(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
