r"""Accuracy of linking with and without documents, on mentions of abstracts.

The texts are not read: a document consists of the mentions of one abstract, in their order. If a
name belongs to several entities, any of them counts as right (BioSyn's convention). Composite
mentions are left out. ``--test`` evaluates the test part of NCBI disease.

    python benchmarks/documents.py --data DIR --bundle DIR --out benchmarks/results/documents.json
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness import provenance
from linking import Memory

from mirror_rt.bundle import Bundle
from mirror_rt.exporting.pipeline import export
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.knowledge.formats import read_entities
from mirror_rt.quickstart import demo_model
from mirror_rt.runtime import Encoder
from mirror_rt.types import IndexKind, LinkResult, Pooling

MEDIC, BB4 = "el_ncbi_disease/train_dictionary.txt", "el_bb4_habitat/ontobiotope_names.tsv"
PARTS = {
    "ncbi-train": (MEDIC, "el_ncbi_disease/processed_train/all.concept"),
    "ncbi-dev": (MEDIC, "el_ncbi_disease/processed_dev/all.concept"),
    "bc5cdr-train": (MEDIC, "el_bc5cdr_disease/processed_train/all.concept"),
    "bc5cdr-dev": (MEDIC, "el_bc5cdr_disease/processed_dev/all.concept"),
    "bb4-train": (BB4, "el_bb4_habitat/train.mentions.tsv"),
}
TEST = {"ncbi-test": (MEDIC, "el_ncbi_disease/processed_test/all.concept")}


def rows(path: Path) -> Iterator[tuple[str, str, frozenset[str]]]:
    """Yield (document, mention, ids) of mentions that are not composite."""
    if path.suffix == ".concept":
        for line in path.read_text("utf-8").splitlines():
            document, *_, mention, ids = line.split("||")
            if "|" not in mention and "+" not in ids:
                yield document, mention, frozenset(ids.split("|"))
    else:
        with open(path, encoding="utf-8", newline="") as handle:
            for row in csv.DictReader(handle, delimiter="\t", quoting=csv.QUOTE_NONE):
                yield row["doc"], row["mention"], frozenset({row["id"]})


def hits(
    kb: KnowledgeBase, found: Sequence[LinkResult], right: Sequence[frozenset[str]]
) -> list[bool]:
    resolve = kb.resources.catalogue.resolve
    summary = []
    for one, ids in zip(found, right, strict=True):
        first = [
            c for c in one if c is one[0] or (c.tied and c.matched_name == one[0].matched_name)
        ]
        wanted = {number for id_ in ids for number in resolve(id_)}
        summary.append(any(wanted.intersection(resolve(c.entity_id)) for c in first))
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, help="by default all-MiniLM-L6-v2 as int8")
    parser.add_argument("--test", action="store_true", help="the test part, and nothing else")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, help="write the record here")
    args = parser.parse_args()
    record = provenance("documents", ("mirror-rt", "faiss-cpu", "onnxruntime", "numpy"))
    record["parts"] = {}
    with tempfile.TemporaryDirectory() as folder:
        if args.bundle is None:
            export(demo_model(), Path(folder) / "bundle", pooling=Pooling.MEAN)
        bundle = Bundle.open(args.bundle or Path(folder) / "bundle")
        encoder = Memory(Encoder.open(bundle, threads=args.threads))
        built: dict[str, KnowledgeBase] = {}
        for name, (file, part) in (TEST if args.test else PARTS).items():
            if file not in built:
                built[file] = KnowledgeBase.build(
                    bundle, read_entities(args.data / file), Path(folder) / Path(file).stem,
                    encoder=encoder, index=IndexKind.EXACT,
                )  # fmt: skip
            mentions = list(rows(args.data / part))
            texts = defaultdict[str, list[str]](list)
            for document, mention, _ in mentions:
                texts[document].append(mention)
            texts, right = [m for _, m, _ in mentions], [ids for *_, ids in mentions]
            whole = [". ".join(texts[document]) for document, *_ in mentions]
            kb = built[file]
            plain = hits(kb, kb.link(texts, top=1), right)
            summary = hits(kb, kb.link(texts, top=1, document=whole), right)
            changed = list(zip(plain, summary, strict=True))
            record["parts"][name] = {
                "mentions": len(texts),
                "acc@1": round(sum(plain) / len(plain), 4),
                "acc@1_with_documents": round(sum(summary) / len(summary), 4),
                "won": changed.count((False, True)),
                "lost": changed.count((True, False)),
            }
            print(name, json.dumps(record["parts"][name]), flush=True)
    if args.out:
        args.out.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
