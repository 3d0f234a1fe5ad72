"""Bilingual lexicon induction: is the nearest foreign word a translation?

Source: Glavaš et al. 2019 (XLING), with CSLS of Lample et al. 2018. S sources, T targets, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt.evaluation.baselines import CharNgrams, ExactMatch, Model
from mirror_rt.evaluation.metrics import finite

if TYPE_CHECKING:
    from mirror_rt.types import Float32

__all__ = ["bilingual_lexicon_induction", "csls"]


def csls(cosines_ST: Float32, *, neighbors: int = 10) -> Float32:
    """Return 2·cos − r_T − r_S: cosines less the mean cosine to each side's nearest neighbors.

    Args:
        cosines_ST: (S, T) float32.
        neighbors: How many nearest neighbors make a word's density.
    """

    def density(scores: Float32) -> Float32:
        k = min(neighbors, scores.shape[1])
        nearest: Float32 = np.partition(scores, -k, axis=1)[:, -k:].mean(axis=1)
        return nearest

    corrected: Float32 = (
        2.0 * cosines_ST - density(cosines_ST)[:, None] - density(cosines_ST.T)[None, :]
    )
    return corrected


def bilingual_lexicon_induction(
    model: Model, translations: Mapping[str, set[str]]
) -> Mapping[str, float]:
    """Return acc@1 of the nearest target, with CSLS and by plain cosine.

    The candidates are the target words of the dictionary itself: names of a test file are all
    the vocabulary there is. Equal scores keep the order in which targets first stand there.

    Args:
        model: Encodes both languages.
        translations: Each source word's right target words.

    Raises:
        ModelError: A vector is not finite.
    """
    sources = list(translations)
    if isinstance(model, ExactMatch):
        same = sum(s in translations[s] for s in sources) / len(sources)
        return {"acc@1 csls": same, "acc@1": same}
    targets = list(dict.fromkeys(t for s in sources for t in sorted(translations[s])))
    if isinstance(model, CharNgrams):
        model = model.fitted([*sources, *targets])
    scores_ST = finite(model.encode(sources)) @ finite(model.encode(targets)).T

    def right(scores: Float32) -> float:
        chosen = [targets[column] for column in scores.argmax(axis=1).tolist()]
        hits = [t in translations[s] for s, t in zip(sources, chosen, strict=True)]
        return sum(hits) / len(hits)

    return {"acc@1 csls": right(csls(scores_ST)), "acc@1": right(scores_ST)}
