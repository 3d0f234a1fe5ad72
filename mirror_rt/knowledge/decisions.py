"""Store the decisions of reviewers in a folder: new names, gold links, and a calibration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mirror_rt.errors import InputError
from mirror_rt.knowledge.entities.names import KINDS
from mirror_rt.knowledge.linking.accepted import accepted_weight
from mirror_rt.knowledge.linking.calibration import FEWEST, CalibrationReport, calibrate
from mirror_rt.knowledge.linking.feedback import FeedbackReport, read_reviewed
from mirror_rt.knowledge.linking.resources import LinkResources
from mirror_rt.knowledge.opening import open_resources
from mirror_rt.knowledge.ranking.reranker import Reranker
from mirror_rt.knowledge.storage.feedback import Decision, FeedbackLog
from mirror_rt.knowledge.storage.manifest import (
    FEEDBACK,
    RERANKER,
)
from mirror_rt.staging import staging_file
from mirror_rt.tables import ArrowTable, Notes, TableOptions, is_arrow
from mirror_rt.types import (
    NameKind,
)

if TYPE_CHECKING:
    from mirror_rt.knowledge.entities.reader import Catalogue
    from mirror_rt.knowledge.linking.resources import Encode

__all__ = ["calibrate_on", "decisions_in", "feedback_report", "finish", "store_decisions"]


def decisions_in(
    source: str | Path | ArrowTable,
    before: FeedbackLog,
    catalogue: Catalogue,
    *,
    aliases: bool,
    column: str | None,
    table: TableOptions | None,
) -> tuple[FeedbackLog, FeedbackReport]:
    """Read reviewed rows; return the extended log, and the content of the file.

    Args:
        source: The rows, as for ``KnowledgeBase.feedback``.
        before: The decisions so far.
        catalogue: The catalogue, to look up ids.
        aliases: Whether mentions become names.
        column: The column of mentions.
        table: The options for reading the file.
    """
    notes = Notes()
    found = read_reviewed(source, catalogue, column=column, options=table, notes=notes)
    decisions = [
        Decision(mention=mention, entity_id=id_, decision=decision)
        for (mention, id_), decision in found.links.items()
    ]
    shown = "a table" if is_arrow(source) else Path(source).name
    after = before.added(decisions, shown, aliases=aliases) if decisions else before
    counts = Counter(found.links.values())
    return after, FeedbackReport(
        accepted=counts["accepted"],
        rejected=counts["rejected"],
        corrected=counts["corrected"],
        undecided=found.undecided,
        composites=found.composites,
        known=bool(decisions) and after is before,
        notes=notes,
    )


def feedback_report(
    resources: LinkResources,
    log: FeedbackLog,
    calibrations: Sequence[CalibrationReport],
    *,
    read: FeedbackReport,
) -> FeedbackReport:
    """Report the content of a file, and all that the knowledge base has from feedback."""
    gold = log.gold()
    resolve = resources.catalogue.resolve
    return replace(
        read,
        aliases=int((resources.names.kinds == KINDS.index(NameKind.ACCEPTED)).sum()),
        gold_links=len(gold),
        gone=sum(bool(ids) and not any(map(resolve, ids)) for _, ids in gold),
        calibration=calibrations[0] if calibrations else None,
    )


def store_decisions(
    resources: LinkResources,
    log: FeedbackLog,
    folder: Path,
    *,
    encode: Encode,
    calibrations: list[CalibrationReport],
) -> None:
    """Write decisions that change no names, and calibrate on them."""
    with staging_file(folder / FEEDBACK, force=True) as path:
        log.write(path)
    if not calibrate_on(resources, log, folder, encode=encode, calibrations=calibrations):
        with staging_file(folder / RERANKER, force=True) as path:
            resources.reranker.without_feedback().write(path)


def finish(
    log: FeedbackLog,
    folder: Path,
    *,
    encode: Encode,
    calibrations: list[CalibrationReport] | None = None,
) -> None:
    """Write decisions into a new folder, and calibrate it on them."""
    fitted = False
    if log.batches:
        log.write(folder / FEEDBACK)
        _, resources = open_resources(folder, verify=False)
        try:
            fitted = calibrate_on(resources, log, folder, encode=encode, calibrations=calibrations)
        finally:
            resources.catalogue.close()
    if not fitted and calibrations is not None:  # undo the fit to earlier decisions
        Reranker.read(folder / RERANKER).without_feedback().write(folder / RERANKER)


def calibrate_on(
    resources: LinkResources,
    log: FeedbackLog,
    folder: Path,
    *,
    encode: Encode,
    calibrations: list[CalibrationReport] | None = None,
) -> bool:
    """Learn from decisions and write the reranker; return False if there are too few.

    First the weight of ``accepted_mentions`` is fitted, then the probabilities.
    """
    resolve = resources.catalogue.resolve
    gold = [(text, ids) for text, ids in log.gold() if not ids or any(map(resolve, ids))]
    if len(gold) < FEWEST:
        return False
    reranker = resources.reranker.without_feedback()
    weight = accepted_weight(replace(resources, reranker=reranker), gold, encode)
    resources = replace(resources, reranker=reranker.with_accepted(weight))
    try:
        reranker, report = calibrate(resources, gold, encode, without_accepted=True)
    except InputError:  # too few of them have a candidate
        return False
    with staging_file(folder / RERANKER, force=True) as path:
        reranker.write(path)
    if calibrations is not None:
        calibrations.append(report)
    return True
