"""Store the decisions of reviewers in a folder: new names, gold links, and a calibration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mirror_rt.errors import InputError
from mirror_rt.knowledge.entities.names import KINDS
from mirror_rt.knowledge.linking.accepted import accepted_weight, all_but_accepted
from mirror_rt.knowledge.linking.calibration import FEWEST, CalibrationReport, calibrate
from mirror_rt.knowledge.linking.exact import exact_matches
from mirror_rt.knowledge.linking.feedback import FeedbackReport, read_reviewed
from mirror_rt.knowledge.linking.resources import LinkResources
from mirror_rt.knowledge.opening import open_resources
from mirror_rt.knowledge.ranking.learning import calibration_targets, precision_curve
from mirror_rt.knowledge.ranking.operating_points import operating_points
from mirror_rt.knowledge.ranking.reranker import Reranker
from mirror_rt.knowledge.storage.build import own_samples
from mirror_rt.knowledge.storage.feedback import Decision, FeedbackLog
from mirror_rt.knowledge.storage.manifest import FEEDBACK, RERANKER, KnowledgeBaseManifest
from mirror_rt.staging import staging_file
from mirror_rt.tables import ArrowTable, Notes, TableOptions, is_arrow
from mirror_rt.types import Embedder, NameKind

__all__ = [
    "DECISIONS",
    "calibrate_on",
    "decisions_in",
    "feedback_report",
    "finish",
    "own_calibration",
    "store_decisions",
]

DECISIONS = "decisions"
"""The number of decisions that a reranker was calibrated on, in ``fitted_on``."""


def decisions_in(
    source: str | Path | ArrowTable,
    before: FeedbackLog,
    resources: LinkResources,
    *,
    aliases: bool,
    column: str | None,
    table: TableOptions | None,
) -> tuple[FeedbackLog, FeedbackReport]:
    """Read reviewed rows; return the extended log, and the content of the file.

    Args:
        source: The rows, as for ``KnowledgeBase.feedback``.
        before: The decisions so far.
        resources: The opened knowledge base, to look up ids and names.
        aliases: Whether mentions become names, or stay NIL.
        column: The column of mentions.
        table: The options for reading the file.
    """
    notes = Notes()
    found = read_reviewed(source, resources.catalogue, column=column, options=table, notes=notes)
    mentions = [mention for mention, _ in found.links]
    own = exact_matches(resources, mentions, mask=all_but_accepted(resources))
    decisions = [
        Decision(
            mention=mention, entity_id=id_, decision=decision, named=not id_ and len(exact) > 0
        )
        for ((mention, id_), decision), exact in zip(found.links.items(), own, strict=True)
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
    own_links: int,
) -> FeedbackReport:
    """Report the content of a file, and all that the knowledge base has from feedback.

    Args:
        resources: Those after the change.
        log: All decisions.
        calibrations: The calibration on them, if there was one.
        read: What was read from the file.
        own_links: The result of ``own_calibration`` before the change.
    """
    gold = log.gold()
    resolve = resources.catalogue.resolve
    return replace(
        read,
        aliases=int((resources.names.kinds == KINDS.index(NameKind.ACCEPTED)).sum()),
        gold_links=len(gold),
        gone=sum(bool(ids) and not any(map(resolve, ids)) for _, ids in gold),
        calibration=calibrations[0] if calibrations else None,
        replaced=own_links if calibrations else 0,
    )


def store_decisions(
    resources: LinkResources,
    log: FeedbackLog,
    folder: Path,
    *,
    encoder: Embedder,
    calibrations: list[CalibrationReport],
) -> None:
    """Write decisions that change no names, and calibrate on them."""
    with staging_file(folder / FEEDBACK, force=True) as path:
        log.write(path)
    if not calibrate_on(resources, log, folder, encoder=encoder, calibrations=calibrations):
        _forget(resources.reranker, folder)


def finish(
    log: FeedbackLog,
    folder: Path,
    *,
    encoder: Embedder,
    calibrations: list[CalibrationReport] | None = None,
) -> None:
    """Write decisions into a new folder, and calibrate it on them."""
    fitted = False
    if log.batches:
        log.write(folder / FEEDBACK)
        _, resources = open_resources(folder, verify=False)
        try:
            # A calibration on other gold links stays until there are new decisions.
            fitted = calibrations is None and own_calibration(resources.reranker) > 0
            fitted = fitted or calibrate_on(
                resources, log, folder, encoder=encoder, calibrations=calibrations
            )
        finally:
            resources.close()
    if not fitted and calibrations is not None:
        _forget(Reranker.read(folder / RERANKER), folder)


def _forget(reranker: Reranker, folder: Path) -> None:
    """Write the reranker without what earlier decisions have taught it."""
    if not own_calibration(reranker):
        with staging_file(folder / RERANKER, force=True) as path:
            reranker.without_feedback().write(path)


def calibrate_on(
    resources: LinkResources,
    log: FeedbackLog,
    folder: Path,
    *,
    encoder: Embedder,
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
    weight = accepted_weight(replace(resources, reranker=reranker), gold, encoder.encode)
    resources = replace(resources, reranker=reranker.with_accepted(weight))
    try:
        reranker, report = calibrate(resources, gold, encoder.encode, without_accepted=True)
    except InputError:  # too few of them have a candidate
        return False
    reranker = replace(reranker, fitted_on={**reranker.fitted_on, DECISIONS: len(gold)})
    if (before := reranker.uncalibrated()).precision_curve:
        reranker = _with_thresholds_of_names(
            resources, reranker, before, encoder, changed=report.kept or weight > 0
        )
    with staging_file(folder / RERANKER, force=True) as path:
        reranker.write(path)
    if calibrations is not None:
        calibrations.append(report)
    return True


def _with_thresholds_of_names(
    resources: LinkResources,
    reranker: Reranker,
    before: Reranker,
    encoder: Embedder,
    *,
    changed: bool,
) -> Reranker:
    """Return a reranker with thresholds that are learned from held-out names, as a build does.

    Decisions are used to fit probabilities, but not thresholds. Reviewed mentions are the
    uncertain ones of a table, so the precision among them says nothing about all its mentions.

    Args:
        resources: The resources of the knowledge base.
        reranker: The reranker that was calibrated on decisions.
        before: The reranker without them.
        encoder: The encoder of mentions.
        changed: Whether probabilities are other ones than before.
    """
    fitted_on = {name: value for name, value in reranker.fitted_on.items() if name != "gold_links"}
    if not changed:
        curve, points = before.precision_curve, before.operating_points
        return replace(
            reranker, precision_curve=curve, operating_points=points, fitted_on=fitted_on
        )
    embed = bool(KnowledgeBaseManifest.read(resources.path).names_bundle)
    samples = own_samples(resources.catalogue, resources.retrievers, encoder, embed=embed)
    found = calibration_targets(samples, reranker)
    probability_S = found.probabilities(reranker)
    curve = precision_curve(probability_S, found.hit_S)
    reranker = replace(reranker, precision_curve=curve, fitted_on=fitted_on)
    reached = operating_points(
        probability_S, found.hit_S, np.arange(len(samples)), threshold=reranker.threshold
    )
    return replace(reranker, operating_points=[point.to_dict() for point in reached])


def own_calibration(reranker: Reranker) -> int:
    """Return how many gold links it was calibrated on by other means than feedback."""
    links = int(reranker.fitted_on.get("gold_links", 0))
    return 0 if DECISIONS in reranker.fitted_on else links
