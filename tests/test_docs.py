"""Every block of the README and of the documentation is run, in order, and prints what it should.

A block with a title is a file. ``sh`` and ``python`` blocks are run. A ``text`` block is the output
of the block before it; decimal numbers may differ a little. A ``console`` block needs other data
or machines: its commands and options must exist, and its requests are sent to a server.
The reference pages, and the one on thresholds, use files of the folder ``inputs``.
"""

from __future__ import annotations

import gzip
import http.client
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import unicodedata
from contextlib import closing
from itertools import product
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import typer.main

import mirror_rt
from mirror_rt import STARTER, KnowledgeBase
from mirror_rt.knowledge.formats import read_entities
from mirror_rt_cli.app import app
from tests.kb import entity

DOCS = Path(__file__).resolve().parent.parent / "docs"
TASKS = [*sorted((DOCS / "tasks").glob("*.md")), DOCS.parent / "README.md"]
REFERENCE = sorted(
    page
    for page in (*DOCS.glob("*.md"), *DOCS.glob("concepts/*.md"))
    if re.search(r"^```(sh|python)", page.read_text("utf-8"), re.M)
)
PAGES = [*TASKS, *REFERENCE]
NEEDS = {
    "match-a-table": "matplotlib", "choose-a-threshold": "matplotlib", "spacy": "spacy",
    "train-on-your-own-names": "torch", "evaluation": "matplotlib", "training": "torch",
    "bundle-format": "fastembed", "students": "torch",
}  # fmt: skip
NUMBER = re.compile(r"(\d*\.\d+)")


def blocks_of(page: Path) -> list[tuple[str, str, str]]:
    """Language, title and text of each block."""
    found = re.findall(r"^```(\w+)([^\n]*)\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)
    return [
        (language, (re.search(r'title="([^"]+)"', rest) or ["", ""])[1], text)
        for language, rest, text in found
    ]


def same(printed: str, output: str) -> bool:
    """Whether two outputs are the same but for the ends of lines and .06 in numbers."""
    one, two = (
        NUMBER.split(
            "\n".join(re.sub(r" {2,}", "  ", line.rstrip()) for line in text.strip().splitlines())
        )
        for text in (printed, output)
    )
    return len(one) == len(two) and all(
        abs(float(a) - float(b)) < 0.06 if i % 2 else a == b
        for i, (a, b) in enumerate(zip(one, two, strict=True))
    )


GRAPH = {"bundle-format": "bundle", "students": "teacher"}
"""Folders that must be a bundle with a graph, as the starter is a table."""
SLOW = {"train-on-your-own-names", "training", "bundle-format"}
"""Pages that import torch."""


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.stem, marks=pytest.mark.slow if page.stem in SLOW else ())
        for page in PAGES
    ],
)
def test_a_page_runs_as_printed(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if page.stem in NEEDS:
        pytest.importorskip(NEEDS[page.stem])
    if page in REFERENCE or page.stem == "choose-a-threshold":
        shutil.copytree(request.getfixturevalue("inputs"), tmp_path, dirs_exist_ok=True)
    if page.stem in GRAPH:
        shutil.rmtree(tmp_path / "bundle")
        shutil.copytree(request.getfixturevalue("tiny_bundle"), tmp_path / GRAPH[page.stem])
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "100",
    }
    printed = ""
    for language, title, text in blocks_of(page):
        if title:
            (tmp_path / title).write_text(text, encoding="utf-8")
        elif language in ("sh", "python"):
            if "bert-base-uncased" in text:  # a name on the hub; here a small model stands for it
                base = request.getfixturevalue("tiny_bert")
                text = text.replace("bert-base-uncased", shlex.quote(str(base)))
            if page.stem == "bundle-format":
                text = text.replace("dim=384", "dim=32")  # of the small model
            if page.stem == "students":  # the default is more than the small teacher has
                text = text.replace("--out student\n", "--out student --dims 8\n")
            command = ["bash", "-e", "-c"] if language == "sh" else [sys.executable, "-c"]
            done = subprocess.run(
                [*command, text], cwd=tmp_path, env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, f"{text}\n{done.stderr}"
            printed = done.stdout
        elif language == "text":
            assert same(printed, text), f"the page says\n{text}\nand this is printed\n{printed}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_that_are_only_shown_parse(page: Path) -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for language, _, text in blocks_of(page):
        for line in text.splitlines() if language == "console" else ():
            if line.startswith(("$ make ", "$ pip ", "$ curl ")):
                continue  # requests are sent below
            assert line.startswith("$ mirror-rt ")
            name, *words = shlex.split(line)[2:]
            command = commands[name]
            assert command.make_context(name, words, resilient_parsing=True) is not None
            options = {o for parameter in command.params for o in parameter.opts}
            assert {word for word in words if word.startswith("-")} <= options


def test_no_block_is_left_out_by_its_language() -> None:
    known = "sh python text console csv obo json yaml nginx".split()
    for page in (*DOCS.rglob("*.md"), DOCS.parent / "README.md"):
        assert {language for language, _, _ in blocks_of(page)} <= {*known}, page


REQUESTS = [
    (page, line.removeprefix("$ "))
    for page in (DOCS / "serving.md", *TASKS)
    for language, _, text in blocks_of(page)
    for line in (text.splitlines() if language == "console" else ())
    if line.startswith("$ curl ")
]


def test_the_requests_of_the_pages_are_answered(inputs: Path) -> None:
    pytest.importorskip("fastapi", reason="needs mirror-rt[serve]")
    from mirror_rt.serving import Library
    from tests.serving import in_thread

    assert len(REQUESTS) == 5
    for page, line in REQUESTS:
        words = shlex.split(line)
        name = "diseases" if page.stem == "serving" else "tools"
        with closing(Library({name: inputs / "my-kb"})) as library, in_thread(library) as address:
            url = urlsplit(next(word for word in words if word.startswith("http://")))
            head = dict(words[i + 1].split(": ") for i, word in enumerate(words) if word == "-H")
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
            connection.request("POST", url.path, words[words.index("-d") + 1], form | head)
            answer = connection.getresponse()
            body = answer.read()
            connection.close()
        assert answer.status == 200, (line, body)


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files and folders that the reference pages name, made of 80 conditions of organs."""
    folder = tmp_path_factory.mktemp("inputs")
    kinds = ("abnormal", "congenital", "acute", "chronic", "small", "large", "painful", "swollen")
    organs = ("heart", "lung", "kidney", "liver", "hand", "foot", "eye", "ear", "nose", "tongue")
    names = [*product(organs, kinds)]
    ids = [f"HP:{number:07d}" for number in (1626, 3011, 707, 1657, *range(118, 194))]

    def ontology(prefix: str, ids: list[str], *synonyms: str, xrefs: bool = False) -> str:
        terms = []
        for (organ, kind), id_, original in zip(names, ids, hpo, strict=True):
            said = "".join(
                f'synonym: "{form.format(organ=organ, kind=kind)}" EXACT []\n' for form in synonyms
            )
            own = "" if id_ in ids[:3] else f"is_a: {ids[len(terms) % 3]}\n"
            xref = f"xref: {original}\n" if xrefs else ""
            terms.append(f"[Term]\nid: {id_}\nname: {kind} {organ}\n{said}{xref}{own}")
        return f"format-version: 1.2\nontology: {prefix}\n\n" + "\n".join(terms)

    hpo = ids
    old = ontology("hp", hpo, "{organ} that is {kind}", "{kind} form of the {organ}")
    other = [f"MONDO:{number}" for number in range(80)]
    texts = {
        "hp.obo": old,
        "hp-2025.obo": old,
        "hp-2026.obo": old.replace("large tongue", "macroglossia"),
        "mondo.obo": ontology("mondo", other, "{kind} disorder of {organ}", xrefs=True),
        "zfa.obo": ontology("zfa", [f"ZFA:{n}" for n in range(80)], "{organ}, {kind}"),
        "uberon.obo": ontology("uberon", [f"UBERON:{n}" for n in range(80)]),
        "kb.tsv": "id\tname\n"
        + "".join(f"{i}\t{k} {o}\n" for i, (o, k) in zip(ids, names, strict=True)),
        "more.tsv": "id\tname\nX:1\tshort stature\n",
        "more-names.txt": "short stature\nliver cancer\n",
        "mentions.txt": "a painful hart\nswollen tongue\n",
        "table.csv": "title,price\nswolen tongue,1\nlarge nose,2\n",
        "gold.tsv": "mention\tid\n"
        + "".join(f"{k} {o} of a patient\t{i}\n" for i, (o, k) in zip(ids, names, strict=True)),
    }
    gold = [
        f"{form.format(f'{k} {o}')},{id_}\n"
        for form in ("a {}", "very {}", "{} of a patient", "{} today")
        for id_, (o, k) in zip(ids, names, strict=True)
    ]
    nil = [f"garden hose {number},\n" for number in range(40)]
    texts["gold.csv"] = texts["mentions.csv"] = "".join(["mention,id\n", *gold, *nil])
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "names.tsv").write_text(texts["kb.tsv"], encoding="utf-8")
    (folder / "names.tsv.gz").write_bytes(gzip.compress(texts["kb.tsv"].encode()))
    shutil.copytree(STARTER, folder / "bundle")
    things = [
        entity("D:1", "kidney stones", types=("disease",)),
        entity("D:2", "atrial septal defect", "ASD", types=("disease",)),
        entity("D:3", "autism", "ASD", types=("disease",)),
    ]
    for out, entities in (
        ("kb", read_entities(folder / "hp.obo")),
        ("other-kb", read_entities(folder / "mondo.obo")),
        ("uberon", read_entities(folder / "uberon.obo")),
        ("my-kb", [*read_entities(folder / "hp.obo"), *things]),
    ):
        KnowledgeBase.build(STARTER, entities, folder / out).close()
    return folder


def test_every_page_is_in_the_menu() -> None:
    menu = (DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8")
    for page in DOCS.rglob("*.md"):
        assert f": {page.relative_to(DOCS).as_posix()}\n" in menu, f"{page.name} is in no menu"


def test_the_python_reference_has_every_public_name() -> None:
    page = (DOCS / "python-api.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^::: mirror_rt\.(\w+)$", page, re.M))
    # The errors are on the page by their module.
    assert listed - {"errors"} == {*mirror_rt.__all__} - {"MirrorError", "__version__"}


def test_the_code_that_the_design_names_is_there() -> None:
    page = (DOCS / "design.md").read_text(encoding="utf-8")
    package = DOCS.parent / "mirror_rt"
    folders = [DOCS.parent, package, *(p for p in package.rglob("*") if p.is_dir())]
    named = re.findall(r"`([\w/]+\.py)(?:: ([\w., ]+))?`", page)
    assert len(named) > 50
    for file, names in named:
        if file == "cli/NAME.py":  # a command that is to be written
            continue
        found = [folder / file for folder in folders if (folder / file).is_file()]
        assert found, file
        code = "\n".join(path.read_text(encoding="utf-8") for path in found)
        for name in filter(None, (name.strip() for name in names.split(","))):
            last = re.escape(name.split(".")[-1])
            assert re.search(rf"\b(def|class) {last}\b|^{last}\b", code, re.MULTILINE), name


def test_the_table_of_features_has_every_feature_in_order() -> None:
    from mirror_rt.knowledge.ranking.features import FEATURES

    page = (DOCS / "linking.md").read_text(encoding="utf-8")
    table = page.partition("## Features")[2].partition("##")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert [*re.findall(r"`(\w+)`", " ".join(rows))] == [*FEATURES]


def test_the_table_of_output_fields_has_every_field() -> None:
    page = (DOCS / "output-fields.md").read_text(encoding="utf-8").partition("## ")[0]
    outputs = json.loads((DOCS / "output.schema.json").read_text(encoding="utf-8"))["$defs"]
    kinds = "candidate passage link explain search link_row link_row_long link_change".split()
    fields = {name for kind in (*kinds, "operating_point") for name in outputs[kind]["properties"]}
    explained = outputs["explain"]["properties"]["candidates"]["items"]["properties"]
    assert fields | {*explained} <= set(re.findall(r"`(\w+)`", page))


def test_the_index_of_experiments_lists_each_section_once_with_its_record() -> None:
    page = (DOCS / "experiments.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| [^|]+ \| \[[^|]+\]\(#([\w-]+)\) \| ([^|]+) \| ([\d-]+) \| ([^|]*)\|", page, re.M
    )
    sections = re.findall(r"^## (.+)$", page, re.M)[1:]
    assert sorted(anchor for anchor, *_ in rows) == sorted(map(slugify, sections))
    for _, answer, date, records in rows:
        assert answer.strip()
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", date)
        for record in re.findall(r"`([^`]+)`", records):
            assert (DOCS.parent / "benchmarks/results" / record).is_file(), record


def slugify(heading: str) -> str:
    """The anchor that mkdocs gives a heading."""
    plain = unicodedata.normalize("NFKD", heading).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())
