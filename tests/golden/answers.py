"""Recorded answers of a knowledge base, to check that a rewrite gives the same answers.

The names are made of word lists, without randomness; the vectors are those of letters. To record
the answers of a checkout, with the Python that has it installed::

    cd CHECKOUT && python THIS/tests/golden/answers.py THIS/tests/golden/link_answers.json

The numbers of the reranker are recorded too, because answers depend on them. Mentions whose
candidates are so close that rounding may swap them are left out. Answers are recorded again if a
change is intended, such as new levels of match; docs/experiments.md ("Golden answers") lists the
changes of each recording.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))

from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.types import Candidate, Entity, IndexKind, LinkResult, Name, NameKind, SearchResult
from tests.kb import LetterEncoder, fake_bundle

FIELDS = (
    "entity_id", "entity_name", "matched_name", "match_type", "score", "probability", "tied",
    "expanded_form",
)  # fmt: skip
LEARNED = ("weights", "nil_score", "in_candidates_weights", "top1_weights")
CLOSE = 1e-4
"""Candidates of which one is by less than this part more probable, but not equally, are close."""

SITES = {
    "liver": "hepatic", "kidney": "renal", "heart": "cardiac", "lung": "pulmonary",
    "stomach": "gastric", "skin": "cutaneous", "brain": "cerebral", "eye": "ocular",
    "bone": "osseous", "pancreas": "pancreatic", "bladder": "vesical", "spleen": "splenic",
    "nose": "nasal", "ear": "aural", "mouth": "oral", "artery": "arterial", "vein": "venous",
    "nerve": "neural", "muscle": "muscular", "throat": "pharyngeal", "breast": "mammary",
    "ovary": "ovarian", "thyroid": "thyroid", "larynx": "laryngeal",
}  # fmt: skip
DISORDERS = {
    "cancer": ("tumour", "carcinoma"), "abscess": ("infection", "purulent collection"),
    "failure": ("function", "insufficiency"), "cyst": ("tumour", "cystic lesion"),
    "haemorrhage": ("vessel", "bleeding"), "tuberculosis": ("infection", "TB"),
    "stenosis": ("vessel", "narrowing"), "atrophy": ("growth", "wasting"),
    "hypertrophy": ("growth", "enlargement"), "injury": ("trauma", "traumatic lesion"),
    "inflammation": ("infection", "inflammatory disease"), "calculus": ("function", "stone"),
    "thrombosis": ("vessel", "blood clot"), "fibrosis": ("growth", "scarring"),
    "ischaemia": ("vessel", "lack of blood"), "malformation": ("growth", "congenital anomaly"),
}  # fmt: skip
NUMBERED = {
    "spinocerebellar ataxia": "SCA", "long QT syndrome": "LQT", "Usher syndrome": "USH",
    "hereditary spastic paraplegia": "SPG", "maturity-onset diabetes": "MODY",
}  # fmt: skip
EPONYMS = {
    "Sjögren": "syndrome", "Ménière": "disease", "Behçet": "disease", "Guillain-Barré": "syndrome",
    "Crohn": "disease", "Kaposi": "sarcoma", "Hodgkin": "lymphoma", "Löffler": "endocarditis",
    "Köhler": "disease", "Möbius": "syndrome", "Parkinson": "disease", "Duchenne": "dystrophy",
}  # fmt: skip
ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII")


def entities() -> Iterator[Entity]:
    """Yield 458 entities of 1,800 names: synonyms, homonyms, abbreviations, numbers, accents."""
    for i, (site, adjective) in enumerate(SITES.items()):
        for j, (disorder, (type_, other)) in enumerate(DISORDERS.items()):
            names = [f"{adjective} {disorder}", f"{disorder} of the {site}", f"{site} {other}"]
            if (i + j) % 2:
                names.append(f"{adjective} {other}")
            if (i + j) % 3 == 0:
                names.append(f"chronic {site} {disorder}")
            loose = [(f"{type_} of the {site}", NameKind.BROAD)] if j % 4 == 0 else []
            if (2 * i + j) % 7 == 0:
                loose.append((f"{site[0]}{disorder[:2]}".upper(), NameKind.ABBREVIATION))
            if j % 5 == 0:
                loose.append((f"{disorder} syndrome {i % 6 + 1}", NameKind.RELATED))
            yield _entity(
                f"D:{i:02}{j:02}", names, loose, type_, about=f"A {disorder} in the {site}."
            )
    for name, short in NUMBERED.items():
        for number, roman in enumerate(ROMAN, start=1):
            texts = [f"{name} type {number}", f"{name} {roman}", f"{short}{number}"]
            loose = [(name, NameKind.BROAD)] if number < 4 else []
            yield _entity(f"N:{short}{number}", texts, loose, "hereditary")
    for name, thing in EPONYMS.items():
        texts = [f"{name} {thing}", f"{name}'s {thing}", f"morbus {name}"]
        yield _entity(f"E:{name}", texts, [], "eponym")
    heart = "A gap in the wall between the"
    for n, part in enumerate(("atria", "ventricles")):
        texts = [f"{part} septal defect", "hole in the heart"]
        yield _entity(f"H:{n}", texts, [], "growth", about=f"{heart} {part}.")


def _entity(
    id_: str,
    texts: Sequence[str],
    loose: Sequence[tuple[str, NameKind]],
    type_: str,
    *,
    about: str = "",
) -> Entity:
    kinds = [NameKind.PREFERRED] + [NameKind.EXACT] * (len(texts) - 1)
    pairs = [*zip(texts, kinds, strict=True), *loose]
    names = tuple(Name(text=text, kind=kind) for text, kind in pairs)
    return Entity(id=id_, names=names, types=(type_,), description=about)


PLAIN = [
    # names, and names except for case, punctuation, plural, accents, word order
    "renal cyst", "hole in the heart", "tumour of the liver", "SCA3", "cyst syndrome 2",
    "RENAL CYST", "Hepatic Cancer", "sjögren syndrome", "renal-cyst", "hepatic cancer.",
    "guillain barré syndrome", "(oral) abscess", "long qt syndrome type-4", "renal cysts",
    "hepatic cancers", "liver stones", "cancers of the liver", "sjogren syndrome",
    "meniere disease", "Mobius syndrome", "morbus kohler", "behcet's disease", "cyst, renal",
    "liver, cancer of the", "stenosis, arterial", "ataxia, spinocerebellar, type 3",
    "injury to the brain", "the fibrosis of a lung",
    # other words
    "liver carcinoma in situ", "acute renal failure", "failure of both kidneys", "stomach ulcer",
    "bleeding in the brain", "clot in a vein", "lack of blood to the heart", "scarred lungs",
    "wasting of muscles", "congenital anomaly of an ear", "stones in the bladder", "eye trauma",
    "inflamed pancreas", "enlarged spleen", "pulmonary TB", "TB of the bone", "breast lump",
    "neural injuries of childhood", "bilateral ovarian cysts", "severe chronic kidney disease",
    "narrowing of arteries and veins", "hepatic", "cancer", "syndrome", "chronic", "of the",
    # misspelled
    "hepatic cancre", "renl failure", "cutanoeus abscess", "pancreattic cyst", "gastrc stenosis",
    "trombosis of the vein", "cardiac hypertropy", "pharingeal inflamation", "ovarain cancer",
    "parkinsson disease", "duchene dystrophy", "hodgkins lymfoma", "splenic hemorrhage",
    "spinocerebelar ataxia 7", "hepatic ischemia",
    # numbers
    "spinocerebellar ataxia 3", "spinocerebellar ataxia type 13", "SCA 4", "sca-12", "LQT13",
    "long QT syndrome", "long QT 7 syndrome", "Usher syndrome type IV", "usher syndrome 2a",
    "Usher's syndrome, type 9", "hereditary spastic paraplegia 12", "MODY type 3", "MODY IV",
    "paraplegia type XI", "maturity onset diabetes of the young 5", "cancer 2", "type 2",
    # blank, or unlike all names
    "", "   ", "...", "-", "?!", "a", "zzzz", "quarterly revenue", "42", "肝臓", "печень",
    "x" * 200,
]  # fmt: skip
DOCUMENT = (
    "Renal failure (RF) came before long QT syndrome (LQTS). Atrophy of the muscle (AOM), and "
    "spinocerebellar ataxia type 6 (SCAT): in SCAT and RF the nerves waste. Pulmonary fibrosis "
    "(PF; rare), and CI (cardiac insufficiency)."
)
IN_DOCUMENT = [
    "RF", "LQTS", "AOM", "SCAT", "PF", "CI", "SCA6", "RF and PF", "liver and kidney cancer",
    "renal or hepatic failure", "spinocerebellar ataxia 1 and 2", "cancer of the lung or stomach",
    "hepatic, gastric and oral abscesses", "Usher syndrome I or II", "bleeding and ...",
    "lung fibrosis", "salt and pepper",
]  # fmt: skip
FILTERED = [
    "hepatic cancer", "renal cyst", "SCA3", "hole in the heart", "narrow vein", "liver",
    "cardiac insuficiency", "blood clot of the lung", "Crohn's disease", "",
]  # fmt: skip
DOUBTFUL = [
    "hepatic cancer", "hole in the heart", "hepatic cancre", "cyst syndrome 2", "zzzz", "...",
    "acute renal failure", "long QT syndrome", "quarterly revenue", "renal cysts",
]  # fmt: skip
QUERIES = [
    "liver cancer", "bleeding in the brain", "sjogren", "ataxia 3", "hole in the heart", "",
    "stone", "...",
]  # fmt: skip

CALLS: Mapping[str, tuple[str, Sequence[str], Mapping[str, Any]]] = {
    "link": ("link", PLAIN, {"top": 5}),
    "link_one": ("link", PLAIN[28:40], {"top": 1}),
    "link_many": ("link", PLAIN[40:46], {"top": 20}),
    "link_in_document": ("link", IN_DOCUMENT, {"document": DOCUMENT, "split_composites": True}),
    "link_of_types": ("link", FILTERED, {"top": 3, "filters": {"type": ["tumour", "vessel"]}}),
    "link_by_id": ("link", FILTERED, {"top": 3, "filters": {"id": "N:", "description": "no"}}),
    "link_probable_of_types": (
        "link",
        FILTERED,
        {"top": 3, "filters": {"type": "tumour"}, "min_probability": 0.6},
    ),
    "link_probable": ("link", DOUBTFUL, {"top": 3, "min_probability": 0.5}),
    "link_in_context": (
        "link",
        ["hole in the heart", "hole in a heart", "septal defects"],
        {"top": 3, "contexts": ["A gap between the ventricles.", "between the atria", ""]},
    ),
    "search": ("search", QUERIES, {"top": 5}),
    "search_hybrid": ("search", QUERIES, {"top": 5, "hybrid": True}),
}
"""The method, the texts and the options of each call."""


def built(folder: Path) -> KnowledgeBase:
    """Build the knowledge base in a folder."""
    bundle = fake_bundle(folder / "bundle")
    return KnowledgeBase.build(
        bundle, entities(), folder / "kb", encoder=LetterEncoder(), index=IndexKind.EXACT
    )


def ask(kb: KnowledgeBase, call: str, texts: Sequence[str]) -> list[dict[str, Any]]:
    """Return for each text the reason of NIL, and the candidates, as ``FIELDS``."""
    method, requested, options = CALLS[call]
    if "contexts" in options:
        context_of = dict(zip(requested, options["contexts"], strict=True))
        options = {**options, "contexts": [context_of[text] for text in texts]}
    return [_output(found) for found in getattr(kb, method)(list(texts), **options)]


def _output(found: LinkResult | SearchResult) -> dict[str, Any]:
    reason = None if found.nil_reason is None else found.nil_reason.value
    return {"nil_reason": reason, "candidates": [_row(one) for one in found]}


def _row(candidate: Candidate) -> list[Any]:
    values = [getattr(candidate, field) for field in FIELDS]
    values[3] = candidate.match_type.value
    return values


def _too_close(output: Mapping[str, Any]) -> bool:
    rows = [dict(zip(FIELDS, row, strict=True)) for row in output["candidates"]]
    heights = [r["score"] if r["probability"] is None else r["probability"] for r in rows]
    return any(0 < abs(a - b) < CLOSE * a for a, b in pairwise(heights))


def main() -> None:
    """Record the answers."""
    with tempfile.TemporaryDirectory() as folder, built(Path(folder)) as kb:
        calls = {}
        learned = asdict(kb.resources.reranker)
        for call, (_, texts, _) in CALLS.items():
            output = dict(zip(texts, ask(kb, call, texts), strict=True))
            calls[call] = {text: found for text, found in output.items() if not _too_close(found)}
            sys.stderr.write(f"{call}: {len(calls[call])} of {len(texts)}\n")
    lines = []
    for call, answers in calls.items():
        for found in answers.values():
            for row in found["candidates"]:
                row[4:6] = [None if value is None else round(value, 7) for value in row[4:6]]
        rows = [f"  {_json(text)}: {_json(found)}" for text, found in answers.items()]
        lines.append(f" {_json(call)}: {{\n" + ",\n".join(rows) + "\n }")
    numbers = ",\n".join(f"  {_json(name)}: {_json(learned[name])}" for name in LEARNED)
    head = f'{{\n "fields": {_json(FIELDS)},\n "reranker": {{\n{numbers}\n }},\n'
    text = head + ",\n".join(lines) + "\n}\n"
    Path(sys.argv[1]).write_text(text, encoding="utf-8")


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    main()
