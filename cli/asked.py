"""The strings that a command is asked about: words, a file's rows, or standard input's."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from mirror_rt.errors import ConfigError, InputError

from . import progress

if TYPE_CHECKING:
    from mirror_rt.knowledge import KnowledgeBase
    from mirror_rt.runtime import Encoder
    from mirror_rt.tables import Notes, TableOptions
    from mirror_rt.types import Float32


class InputFormat(Enum):
    """The layouts of a file; the same words as those of the reader, without importing it."""

    TEXT = "text"
    CSV = "csv"
    TSV = "tsv"
    JSONL = "jsonl"
    PARQUET = "parquet"
    XLSX = "xlsx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Strings that are answered together.

    Attributes:
        texts: The strings.
        contexts: The text around each, empty where none was asked for.
        documents: The document that each is from, where it may define the string; else empty.
    """

    texts: list[str]
    contexts: list[str]
    documents: list[str]


BLOCK = 1_024
"""Strings answered and printed at a time: an interrupt loses no more than these."""

ColumnOption = Annotated[
    str | None, typer.Option(help="Column or field of a .csv, .tsv, .jsonl or .parquet file.")
]

FormatOption = Annotated[
    InputFormat | None,
    typer.Option("--input-format", help="What the file or standard input is; else its name tells."),
]

TypeOption = Annotated[
    list[str] | None,
    typer.Option("--type", "--types", help="Only entities of this type (or of another one given)."),
]

WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Only entities with FIELD=VALUE[,VALUE]: type, id, source, language, xref, "
        "description (yes, no), metadata of passages; repeatable."
    ),
]

_FILE_ENDINGS = (
    ".txt", ".list", ".tsv", ".csv", ".jsonl", ".ndjson", ".json", ".parquet", ".pubtator",
    ".gz", ".zst", ".bz2", ".xz", ".xlsx",
)  # fmt: skip


def table_options(
    form: InputFormat | None, delimiter: str | None, encoding: str | None
) -> TableOptions:
    """Return what the options say of a file."""
    from mirror_rt.tables import Kind, TableOptions

    kind = None if form is None else Kind(form.value)
    return TableOptions(format=kind, delimiter=delimiter, encoding=encoding)


def conditions(
    where: Sequence[str] | None, types: Sequence[str] | None = None
) -> list[tuple[str, list[str]]]:
    """Read ``--where`` and ``--type`` into the filters that a knowledge base takes.

    Raises:
        ConfigError: A condition is not FIELD=VALUE.
    """
    found = []
    for text in where or ():
        field, equals, values = text.partition("=")
        if not field or not equals:
            raise ConfigError(f"--where {text}: give FIELD=VALUE, as in type=disease")
        found.append((field.strip(), [value.strip() for value in values.split(",")]))
    return [*found, ("type", list(types))] if types else found


def blocks(
    arguments: Sequence[str],
    *,
    column: str | None,
    beside: str | None = None,
    documents: str | None = None,
    abbreviations: bool = True,
    options: TableOptions | None = None,
) -> Iterator[Block]:
    """Yield the strings meant on the command line, ``BLOCK`` at a time; a file is read as it goes.

    A single argument may be a file, in every layout that ``embed`` reads, or ``-``. A null in it
    is an empty string. What it passes over is said on standard error when it has been read.

    Args:
        arguments: The words, a file or ``-``.
        column: The file's column of strings.
        beside: Another column of it, whose strings are the contexts: of PubTator ``sentence`` or
            ``document``.
        documents: Another column of it, whose strings are the documents; PubTator has its own.
        abbreviations: Whether documents are wanted, for the abbreviations that they define.
        options: What is said of the file.

    Raises:
        InputError: A file cannot be read or is empty, the only argument looks like a file
            that is not there, or one of several is a file.
        ConfigError: Words, or plain text, were asked for a column.
    """
    rows = _rows(arguments, column, beside, documents, options)
    if abbreviations:
        rows = _defining(rows)
    else:
        rows = ((text, context, "") for text, context, _ in rows)
    first = list(islice(rows, BLOCK))
    if not first:
        raise InputError(f"{_shown(arguments[0])}: is empty; give one string a row")
    some = chain([first], iter(lambda: list(islice(rows, BLOCK)), []))
    return (
        Block(
            texts=[text for text, _, _ in rows],
            contexts=[context for _, context, _ in rows],
            documents=[document for _, _, document in rows],
        )
        for rows in some
    )


def _rows(
    arguments: Sequence[str],
    column: str | None,
    beside: str | None,
    documents: str | None,
    options: TableOptions | None,
) -> Iterator[tuple[str, str, str]]:
    from mirror_rt.knowledge.pubtator import is_pubtator

    if len(arguments) == 1:
        only = arguments[0]
        if only == "-" or _is_file(only):
            said = options is not None and options.format is not None
            if not said and Path(only).is_file() and is_pubtator(only):
                return _pubtator(only, column, beside, documents)
            if only != "-" and not said and "." not in only and "/" not in only:
                typer.echo(
                    f"{only}: is read as the file of that name; to ask the word, give it through -",
                    err=True,
                )
            return _table(only, column, beside, documents, options)
        if only.lower().endswith(_FILE_ENDINGS):
            raise InputError(f"{only}: no such file")
    for argument in arguments:
        if _is_file(argument):
            raise InputError(
                f"{argument}: is a file among other arguments; give one file, or join files "
                "and words through - (standard input)"
            )
    given = {"--column": column, "--context-column": beside, "--document-column": documents}
    for option, named in given.items():
        if named is not None:
            raise ConfigError(f"{option}: words have no columns; name a file")
    return ((argument, "", "") for argument in arguments)


def _table(
    source: str,
    column: str | None,
    beside: str | None,
    documents: str | None,
    options: TableOptions | None,
) -> Iterator[tuple[str, str, str]]:
    from mirror_rt.runtime.sources import Notes, read_columns

    notes = Notes()
    others = [name for name in (beside, documents) if name is not None]
    for text, *rest in read_columns(source, column, others, options=options, notes=notes):
        context = rest[0] if beside is not None else ""
        yield text, context, rest[-1] if documents is not None else ""
    tell(source, notes)


def tell(source: str, notes: Notes) -> None:
    """Say on standard error what was passed over of a file, and how it was understood."""
    for sentence in notes.sentences():
        typer.echo(f"{_shown(source)}: {sentence}", err=True)


def _pubtator(
    source: str, column: str | None, beside: str | None, documents: str | None
) -> Iterator[tuple[str, str, str]]:
    from mirror_rt.knowledge.pubtator import read_mentions

    if column is not None or documents is not None or beside not in {None, "sentence", "document"}:
        raise ConfigError(
            f"{source}: PubTator has no columns; --context-column takes sentence or document"
        )

    def rows() -> Iterator[tuple[str, str, str]]:
        elsewhere = 0
        for mention in read_mentions(source):
            elsewhere += not mention.stands
            document = mention.document
            context = mention.sentence if beside == "sentence" else document if beside else ""
            yield mention.text, context, document
        if elsewhere:
            told = f"{source}: {elsewhere:,} mentions do not stand in the text at their offsets"
            typer.echo(told, err=True)

    return rows()


def _defining(rows: Iterator[tuple[str, str, str]]) -> Iterator[tuple[str, str, str]]:
    """Leave out a document that does not define its mention: nothing stands beside it then."""
    from mirror_rt.knowledge.mentions import abbreviations

    last, defined = "", dict[str, str]()
    for text, context, document in rows:
        if document != last:
            last, defined = document, abbreviations(document)
        yield text, context, document if text.strip() in defined else ""


def count(arguments: Sequence[str]) -> int | None:
    """Return about how many strings there are, for showing the time left."""
    from mirror_rt.runtime.sources import count_rows

    if not sys.stderr.isatty():
        return None  # nothing is shown
    return count_rows(arguments[0]) if len(arguments) == 1 and _is_file(arguments[0]) else None


def _is_file(argument: str) -> bool:
    try:
        path = Path(argument)
        if not path.is_dir():
            return path.exists()
    except (OSError, ValueError):  # too long for a name of a file, or holds a NUL
        return False
    from mirror_rt.tables import parquet_parts

    return bool(parquet_parts(path))


def _shown(argument: str) -> str:
    return "standard input" if argument == "-" else argument


class CountingEncoder:
    """Opens a bundle when it is first needed, and counts what it cuts off.

    Attributes:
        calls: (strings, how many of them were cut off) of each call, while there is no ``kb``.
        cut: The strings cut off since there is one.
        kb: The knowledge base that the bundle is in, once that is open.
    """

    def __init__(self, bundle: Path) -> None:
        self.calls: list[tuple[int, int]] = []
        self.cut: set[str] = set()
        self.kb: KnowledgeBase | None = None
        self._bundle = bundle
        self._encoder: Encoder | None = None

    @property
    def encoder(self) -> Encoder:
        """The encoder behind it."""
        from mirror_rt.knowledge.store import open_bundle
        from mirror_rt.runtime import Encoder

        if self._encoder is None:
            kb = self.kb
            bundle = self._bundle if kb is None else open_bundle(kb.path, kb.manifest.bundle)
            self._encoder = Encoder.open(bundle)
        return self._encoder

    @property
    def dim(self) -> int:
        """Width D of a vector."""
        return self.encoder.dim

    def encode(self, texts: Sequence[str]) -> Float32:
        """Return (N, D) float32 unit rows, row i for texts[i]."""
        found = self.encoder.encode_counted(texts)
        if self.kb is None:
            self.calls.append((len(texts), found.truncated))
        elif found.truncated:
            self.cut.update(text for text in texts if self.encoder.count_truncated([text]))
        return found.vectors_ND

    def tell_cut(self, names: int, *, more: str = "") -> None:
        """Say how many of the names of a build were cut off: misspelt ones come after them."""
        cut = done = 0
        for strings, truncated in self.calls:
            if done < names:
                done, cut = done + strings, cut + truncated
        tell_cut(self, cut, what=f"of {names:,} strings{more}")


class Remembered:
    """Answers mentions in lines, each mention that comes with nothing beside it only once.

    Attributes:
        room: Lines kept, about a kilobyte each; the oldest go first.
    """

    room = 1 << 17

    def __init__(self, find: Callable[[Block], list[str]]) -> None:
        self._find = find
        self._lines: dict[str, str] = {}

    def __call__(self, block: Block) -> list[str]:
        """Return a line for each text of a block."""
        beside = [a or b for a, b in zip(block.contexts, block.documents, strict=True)]
        # A text that is known, or comes a second time, is not asked.
        first: dict[str, int] = {}
        fresh = [
            i
            for i, text in enumerate(block.texts)
            if beside[i] or (text not in self._lines and first.setdefault(text, i) == i)
        ]
        asked = Block(
            texts=[block.texts[i] for i in fresh],
            contexts=[block.contexts[i] for i in fresh],
            documents=[block.documents[i] for i in fresh],
        )
        found = dict(zip(fresh, self._find(asked) if fresh else [], strict=True))
        lines = [
            found[i] if i in found else self._lines.get(text) or found[first[text]]
            for i, text in enumerate(block.texts)
        ]
        self.learn(block, lines)
        return lines

    def learn(self, block: Block, lines: Sequence[str]) -> None:
        """Remember what a block was answered."""
        for text, context, document, line in zip(
            block.texts, block.contexts, block.documents, lines, strict=True
        ):
            if not (context or document):
                self._lines.pop(text, None)  # put last: what came lately stays
                self._lines[text] = line
        while len(self._lines) > self.room:
            del self._lines[next(iter(self._lines))]


FoundT = TypeVar("FoundT")


def answer(
    some: Iterable[Block],
    find: Callable[[Block], FoundT],
    write: Callable[[list[str], FoundT, bool], None],
    *,
    encoder: CountingEncoder,
    what: str,
    total: int | None = None,
    read: Callable[[Block], Iterable[Sequence[str]]] = lambda block: zip(block.texts),
    around: Callable[[Block], Sequence[str] | None] = lambda block: None,
) -> None:
    """Answer and print block by block; say at the end how many different strings were cut off.

    Contexts that were compared count apart; what they were compared with does not count.

    Args:
        some: The blocks.
        find: Answers a block. What it encodes more than once counts once.
        write: Prints a block and its answers; told whether it is the first.
        encoder: The knowledge base's.
        what: A word for the job, for a bar where the answers go elsewhere.
        total: How many strings there are, where that is known.
        read: Gives what each string of a block is read as.
        around: Gives the contexts of a block, if it has any.
    """
    done, cut, cut_contexts = 0, set[int](), set[int]()
    with progress.bar(what, shown=not sys.stdout.isatty()) as show:
        for block in some:
            found = find(block)
            write(block.texts, found, not done)
            done += len(block.texts)
            if encoder.cut:
                for text, readings in zip(block.texts, read(block), strict=True):
                    if not encoder.cut.isdisjoint(one.strip() for one in readings):
                        cut.add(hash(text))
                contexts = {text.strip() for text in around(block) or ()}
                cut_contexts.update(hash(text) for text in contexts & encoder.cut)
                encoder.cut.clear()
            show(done, total)
    tell_cut(encoder, len(cut), what="different strings")
    tell_cut(encoder, len(cut_contexts), what="different contexts")


def tell_cut(encoder: CountingEncoder, cut: int, *, what: str) -> None:
    """Say on standard error how many were cut off; nothing if none was."""
    if cut:
        longest = encoder.encoder.bundle.manifest.max_length
        typer.echo(f"cut off at {longest} tokens: {cut:,} {what}", err=True)
