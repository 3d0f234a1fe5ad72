"""Replace British spellings by American ones.

The table holds the regular differences between the two (-our, -re, -ise, ae and oe, the doubled l),
with the words that show them, and some single words. It is not copied from a list. Both names of a
pair are folded, so a word that is equal in both stays equal.
"""

from __future__ import annotations

import re

__all__ = ["american_spelling"]

_OUR = (
    "arb|arm|behavi|cand|cl[ae]m|col|discol|disfav|dishon|endeav|fav|ferv|flav|glam|harb|hon|hum|"
    "lab|misbehavi|neighb|od|parl|ranc|rig|rum|sav|savi|splend|succ|tum|val|vap|vig"
)
_RE = "calib|cent|epicent|fib|goit|lit|lust|meag|met|mit|nit|och|reconnoit|sab|salt[pb]et|scept|"
_RE += "sepulch|somb|spect|theat|tit"
_ISE = (
    "anonym|apolog|author|capital|categor|character|chart?er|civil|commercial|computer|crystall|"
    "custom|demineral|depolar|desensit|digit|digital|equal|emphas|fertil|final|formal|general|"
    "global|harmon|homogen|hospital|hybrid|hypnot|immobil|immun|ion|keratin|lateral|legal|local|"
    "magnet|marginal|maxim|mechan|memor|metabol|mineral|minim|mobil|modern|monopol|national|"
    "neutral|normal|optim|organ|ossif|oxid|pasteur|penal|personal|polar|polymer|popular|pressur|"
    "priorit|random|rational|real|recogn|revascular|scrutin|sensit|social|special|stabil|"
    "standard|steril|subsid|summar|symbol|sympath|synchron|synthes|system|systemat|theor|urban|"
    "util|vapor|vascular|visual|vocal|western"
)
_DOUBLED_L = (
    "apparel|barrel|bevel|cancel|channel|chisel|counsel|devil|dial|equal|fuel|funnel|initial|"
    "jewel|label|level|libel|marshal|model|panel|pencil|pummel|quarrel|refuel|remodel|relabel|"
    "rival|shovel|shrivel|signal|snivel|spiral|stencil|total|towel|travel|trowel|tunnel|unravel"
)
_PARTS = (
    ("anaem", "anem"), ("anaesth", "anesth"), ("aemi", "emi"), ("aetiolog", "etiolog"),
    ("caec", "cec"), ("caesar", "cesar"), ("caesium", "cesium"), ("coeli", "celi"),
    ("diaeres", "dieres"), ("diarrhoe", "diarrhe"), ("dyspnoe", "dyspne"), ("apnoe", "apne"),
    ("faec", "fec"), ("foet", "fet"), ("gynaec", "gynec"), ("haem", "hem"), ("homoeo", "homeo"),
    ("leucocyt", "leukocyt"), ("leucopen", "leukopen"), ("menorrhoe", "menorrhe"),
    ("gonorrhoe", "gonorrhe"), ("logorrhoe", "logorrhe"), ("orrhoea", "orrhea"),
    ("oedem", "edem"), ("oesoph", "esoph"), ("oestr", "estr"), ("orthopaed", "orthoped"),
    ("paed", "ped"), ("palaeo", "paleo"), ("naev", "nev"), ("sulph", "sulf"), ("manoeuv", "maneuv"),
    ("aluminium", "aluminum"), ("grey", "gray"), ("tyre", "tire"), ("plough", "plow"),
    ("catalogue", "catalog"), ("dialogue", "dialog"), ("analogue", "analog"),
    ("programme", "program"), ("artefact", "artifact"), ("moustache", "mustache"),
    ("mould", "mold"), ("pyjama", "pajama"), ("sceptic", "skeptic"), ("yoghurt", "yogurt"),
    ("judgement", "judgment"), ("enrolment", "enrollment"), ("fulfilment", "fulfillment"),
    ("instalment", "installment"), ("skilful", "skillful"), ("woollen", "woolen"),
    ("marvellous", "marvelous"), ("jewellery", "jewelry"), ("speciality", "specialty"),
    ("licence", "license"), ("defence", "defense"), ("offence", "offense"),
    ("pretence", "pretense"), ("practise", "practice"), ("doughnut", "donut"),
    ("draught", "draft"), ("cheque", "check"), ("cosy", "cozy"), ("omelette", "omelet"),
)  # fmt: skip
_WHOLE = {"ageing": "aging", "axe": "ax", "kerb": "curb", "whisky": "whiskey", "storey": "story"}

_RULES = tuple(
    (re.compile(pattern), put)
    for pattern, put in (
        *_PARTS,
        (rf"^((?:un|dis|re)?(?:{_OUR}))our", r"\1or"),
        (rf"((?:^|kilo|centi|milli|micro|nano|deci|peri|amphi|bio)(?:{_RE}))re(?=s?$|d$)", r"\1er"),
        (r"is(?=ations?$|ational$)", "iz"),
        (rf"((?:{_ISE}))is(?=e$|es$|ed$|er$|ers$|ing$)", r"\1iz"),
        (r"(anal|catal|dial|electrol|hydrol|lys|paral)ys(?=e$|es$|ed$|er$|ers$|ing$)", r"\1yz"),
        (rf"((?:{_DOUBLED_L}))l(?=ed$|ing$|er$|ers$|or$|ors$)", r"\1"),
    )
)
_LIKELY = re.compile(
    r"ae|oe|ou|re|is|ys|ll|sulph|leuc|ium|grey|tyre|gue|mme|rtef|yjam|scep|gemen|olmen|ilmen|almen|"
    r"ilful|iality|ence|cheq|cosy|ette|age|axe|kerb|whisky|storey|draught"
)


def american_spelling(word: str) -> str:
    """Return a word, in lower case, as Americans spell it.

    >>> [american_spelling(word) for word in "haemorrhage tumour fibre labelled disease".split()]
    ['hemorrhage', 'tumor', 'fiber', 'labeled', 'disease']
    """
    if not _LIKELY.search(word):
        return word
    for pattern, put in _RULES:
        word = pattern.sub(put, word)
    return _WHOLE.get(word, word)
