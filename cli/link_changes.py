"""``mirror-rt link --against``: list the mentions whose link differs from an earlier result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mirror_rt._count import counted

from . import output

if TYPE_CHECKING:
    from mirror_rt.knowledge.linking.changes import LinkChanges

AgainstOption = Annotated[
    Path | None,
    typer.Option(
        help="An earlier result: print only the mentions whose link changes.",
        rich_help_panel=output.PANEL,
    ),
]


def report(against: Path, found: LinkChanges, form: output.Format) -> None:
    """Print the changes, and the number of each kind on standard error."""
    from mirror_rt.knowledge.linking.changes import CHANGE_COLUMNS

    rows = [change.cells() for change in found.changes]
    if rows or form is not output.Format.TABLE:
        output.table(CHANGE_COLUMNS, rows, form, typer.echo)
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in found.counts.most_common())
    words = f"{against}: {len(rows):,} of {counted(found.compared, 'link')} changed"
    words += f" ({kinds})" if kinds else ""
    words += f"; {counted(found.added, 'mention')} not in it" if found.added else ""
    words += f"; {found.gone:,} of its mentions no longer in the input" if found.gone else ""
    typer.echo(words, err=True)
