"""Warn if a model is evaluated on its training or calibration data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mirror_rt.bundle import MANIFEST
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.knowledge.entities.sketch import share_among
from mirror_rt.knowledge.storage.feedback import FeedbackLog
from mirror_rt.knowledge.storage.manifest import BUNDLE
from mirror_rt.knowledge.text.normalize import normalize
from mirror_rt.pooling_config import read_object

if TYPE_CHECKING:
    from mirror_rt.evaluation.link_report import LinkingEvaluation

__all__ = ["overlaps"]

_FEW = 0.01
"""No warning below this share, as it cannot change a score by more."""


def overlaps(name: str, model: object, evaluation: LinkingEvaluation) -> Iterator[str]:
    """Yield a sentence for each kind of training that used the gold mentions.

    The training data of an encoder is compared only with mentions that are not names of the
    knowledge base, as names are exact matches anyway.

    Args:
        name: The folder of the model, or its name.
        model: The model.
        evaluation: The evaluation.
    """
    mentions = [(part, o.known) for o in evaluation.outcomes for part in o.query.parts]
    if isinstance(model, KnowledgeBase):
        decided = {normalize(mention) for mention, _ in FeedbackLog.read(model.path).gold()}
        texts = {normalize(text) for text, _ in mentions}
        share = len(texts & decided) / max(len(texts), 1)
        if share >= _FEW:
            yield (
                f"{name}: was given {100 * share:.0f} % of these mentions with the answers by "
                "feedback, so that its scores look better here than they are"
            )
        record = model.resources.reranker.fitted_on.get("gold_sketch", "")
        share = share_among((text for text, _ in mentions), record) if record else 0.0
        if share >= _FEW:
            yield (
                f"{name}: was calibrated on {100 * share:.0f} % of these mentions, so that its "
                "probabilities look better here than they are"
            )
    record = _strings_trained_on(Path(name))
    share = share_among((text for text, known in mentions if not known), record) if record else 0.0
    if share >= _FEW:
        yield (
            f"{name}: its encoder was trained on {100 * share:.0f} % of the mentions that equal "
            "no name, so its scores look better here than they are"
        )


def _strings_trained_on(folder: Path) -> str:
    """Return the sketch of the training strings of a checkpoint, bundle or base."""
    for path, *keys in (
        (folder / "training.json", "strings_sketch"),
        (folder / BUNDLE / MANIFEST, "source", "strings_sketch"),
        (folder / MANIFEST, "source", "strings_sketch"),
    ):
        if not path.is_file():
            continue
        found: object = read_object(path)
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        if isinstance(found, str):
            return found
    return ""
