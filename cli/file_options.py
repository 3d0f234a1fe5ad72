"""The options that say how a command reads a file of entities: its format, layout and columns.

Each is defined once, here. Columns of mentions and texts are options of ``inputs`` and of the
commands.

A command names its options with ``with_file_options`` and gets their values as ``FileOptions``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from mirror_rt.types import FileFormat, KbFormat

if TYPE_CHECKING:
    from mirror_rt.knowledge.formats import Columns, SkippedRows
    from mirror_rt.tables import TableOptions

FILE_PANEL = "The file that is read"

TABLE = ("delimiter", "encoding")
"""For any table."""
COLUMNS = ("id_column", "name_column", "alias_column", "field", *TABLE)
"""For a table of names."""
NAMES = ("kb_format", *COLUMNS)
"""For a file of a vocabulary."""
ENTITIES = ("kb_format", "language", "source", "suppressed", *COLUMNS)
"""For a file of a vocabulary, of which some names are kept."""
ROWS = ("input_format", *TABLE)
"""For a file of strings or rows."""


def _option(*names: str, help: str) -> Any:  # noqa: ANN401  (as ``typer.Option``)
    return typer.Option(*names, help=help, rich_help_panel=FILE_PANEL)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOptions:
    """How a command reads its file. An option that a command does not have is at its default."""

    input_format: Annotated[
        FileFormat | None,
        _option(help="Format of the file or standard input; by default by its name."),
    ] = None
    kb_format: Annotated[
        KbFormat | None, _option(help="File format; by default detected from name and content.")
    ] = None
    language: Annotated[
        list[str] | None,
        _option(help="Keep names of this language; repeatable, preferred first."),
    ] = None
    source: Annotated[
        list[str] | None, _option(help="Keep names from this source (UMLS: MSH).")
    ] = None
    suppressed: Annotated[
        bool, _option("--suppressed", help="Keep names that UMLS marks as suppressed.")
    ] = False
    id_column: Annotated[str | None, _option(help="Heading of the ids, or its number.")] = None
    name_column: Annotated[str | None, _option(help="Heading of the names, or its number.")] = None
    alias_column: Annotated[list[str] | None, _option(help="Heading of aliases; repeatable.")] = (
        None
    )
    field: Annotated[
        list[str] | None,
        _option(help="This column is a field, not a name; repeatable; '*' for all others."),
    ] = None
    delimiter: Annotated[
        str | None, _option(help="Separator of a table's cells: one character, or tab.")
    ] = None
    encoding: Annotated[
        str | None, _option(help="Encoding, such as windows-1252; by default UTF-8.")
    ] = None
    skip_bad: Annotated[
        bool, _option("--skip-bad", help="Count bad rows instead of stopping at the first.")
    ] = False

    def columns(self) -> Columns:
        """Return the columns of a table of names."""
        from mirror_rt.knowledge.formats import Columns

        return Columns(
            id=self.id_column, name=self.name_column, aliases=tuple(self.alias_column or ()),
            fields=tuple(self.field or ()),
        )  # fmt: skip

    def table(self) -> TableOptions:
        """Return the options for reading a table."""
        from mirror_rt.tables import TableOptions

        return TableOptions(
            format=self.input_format, delimiter=self.delimiter, encoding=self.encoding
        )

    def skipped(self) -> SkippedRows:
        """Return a new counter of skipped rows."""
        from mirror_rt.knowledge.formats import SkippedRows

        return SkippedRows(strict=not self.skip_bad)


def with_file_options(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command these options, in place of its parameter ``file_options``."""
    hints = get_type_hints(FileOptions, include_extras=True)
    defaults = {one.name: one.default for one in fields(FileOptions)}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True)
        parameters: list[inspect.Parameter] = []
        for parameter in own.parameters.values():
            if parameter.name == "file_options":
                parameters += [
                    parameter.replace(name=name, default=defaults[name], annotation=hints[name])
                    for name in names
                ]
            else:
                parameters.append(parameter)

        @wraps(command)
        def run(**given: Any) -> None:  # noqa: ANN401  (the values of the options)
            file_options = FileOptions(**{name: given.pop(name) for name in names})
            command(**given, file_options=file_options)

        run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        return run

    return decorate
