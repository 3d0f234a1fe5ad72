"""Mirror on a raw masked language model: the cells, the record, its tables and plots."""

from __future__ import annotations

import json
import shutil
from argparse import Namespace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mirror_rt.errors import ConfigError, InputError, MirrorError, ModelError
from mirror_rt.evaluation.result import Report, Result
from tests.tiny import NAMES

pytest.importorskip("torch")
ROOT = Path(__file__).resolve().parents[1]
HISTORY = [
    {"step": 10 * n, "tokens": 1_000_000 * n, "seconds": 60.0 * n, "held_out": 9.0 - n / 7,
     "accuracy": n / 50}
    for n in range(1, 13)
]  # fmt: skip
MANIFEST = {
    "kind": "raw_mlm", "recipe": {"layers": 3, "width": 32, "vocabulary": 1234}, "steps": 120,
    "tokens": 12_000_000, "seconds": 720.0, "bf16": False, "history": HISTORY,
}  # fmt: skip


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs of sentences and of words, and two vocabularies."""
    folder = tmp_path_factory.mktemp("data")
    rows = "".join(f"{i % 6}\t{a}\t{b}\n" for i, (a, b) in enumerate(pairwise(NAMES)))
    for file, text in {
        "sts/STSB.test.tsv": "score\tsentence1\tsentence2\n" + rows,
        "multisimlex/ENG.tsv": "score\tword1\tword2\n" + rows,
        "kb_hpo/hpo_names.tsv": "id\tname\tkind\n"
        + "".join(f"H{i}\t{n}\tlabel\nH{i}\t{n} too\texact_synonym\n" for i, n in enumerate(NAMES)),
        "el_ncbi_disease/train_dictionary.txt": "".join(
            f"D{i}||{a} {b}\n" for i, (a, b) in enumerate((a, b) for a in NAMES for b in NAMES[:9])
        ),
    }.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text)
    return folder


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """300 sentences; "fever" occurs most often, "cough" half as often."""
    lines = [f"Sentence {'x' * (n % 7)} number {n} says {a} and then {b}."
             for n, (a, b) in enumerate((a, b) for a in NAMES for b in NAMES[:12])]  # fmt: skip
    path = tmp_path / "corpus.txt"
    path.write_text("\n".join([*lines, "fever " * 900, "cough " * 450]), encoding="utf-8")
    return path


@pytest.fixture
def checkpoint(tmp_path: Path, tiny_bert: Path) -> Path:
    folder = shutil.copytree(tiny_bert, tmp_path / "raw")
    (folder / "manifest.json").write_text(json.dumps(MANIFEST))
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = ["BertForMaskedLM"]
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def arguments(checkpoint: Path, corpus: Path, data: Path, work: Path) -> Namespace:
    return Namespace(
        checkpoint=checkpoint, corpus=corpus, data=data, work=work, out=work / "out.json",
        seeds=[1, 2], threads=1, main=False, small=False, load_before=0.0,
    )  # fmt: skip


class Fixed:
    """An embedder of random unit vectors, the same for the same text."""

    dim = 6

    def encode(self, texts: Any) -> NDArray[np.float32]:  # noqa: ANN401
        mixed = np.random.default_rng(0).standard_normal((6, 6))
        rows = [np.random.default_rng(int(t)).standard_normal(6) @ mixed + 2 for t in texts]
        return np.array([row / np.linalg.norm(row) for row in rows], dtype=np.float32)


def test_whitened_cosines_are_those_of_the_inverse_covariance() -> None:
    from raw_results import Whitened

    fitted, asked = [str(n) for n in range(300)], [str(n) for n in range(500, 520)]
    base = Fixed().encode(fitted).astype(np.float64)
    inverse = np.linalg.inv(np.cov(base.T))
    moved = Fixed().encode(asked) - base.mean(0)
    inner = moved @ inverse @ moved.T
    lengths = np.sqrt(np.diag(inner))
    white = Whitened(Fixed(), fitted)
    found = white.encode(asked)
    assert (white.dim, found.dtype) == (6, np.float32)
    assert found @ found.T == pytest.approx(inner / np.outer(lengths, lengths), abs=1e-4)


def test_strings_are_frequent_words_and_seeded_samples(
    corpus: Path, data: Path, tmp_path: Path
) -> None:
    from raw_results import Strings

    from mirror_rt.evaluation.holdout import standard_split
    from mirror_rt.knowledge.formats import read_entities
    from mirror_rt.types import Preset

    strings = Strings(corpus, data, tmp_path)
    assert strings.draw(Preset.WORD, 2, 1) == ["fever", "cough"]
    held = {text for text, _ in standard_split(read_entities(data / "kb_hpo/hpo_names.tsv"))[1]}
    every = strings.draw(Preset.NAME, 26 * 2 + 26 * 9 - len(held), 1)
    assert held
    assert held.isdisjoint(every)
    assert len(set(every)) == len(every)
    for preset in (Preset.NAME, Preset.SENTENCE):
        larger = strings.draw(preset, 50, 1)
        assert strings.draw(preset, 20, 1) == larger[:20]
        assert strings.draw(preset, 50, 2) != larger
        with pytest.raises(ConfigError):
            strings.draw(preset, 10_000, 1)
        assert Strings(tmp_path / "gone", tmp_path, tmp_path).draw(preset, 50, 1) == larger


def test_a_killed_run_goes_on_and_another_checkpoint_begins_anew(
    checkpoint: Path, corpus: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import raw_results

    measured: list[raw_results.Cell] = []
    kills = [6]

    def measure(self: raw_results.Bench, cell: raw_results.Cell) -> dict[str, Any]:
        measured.append(cell)
        if len(measured) in kills:
            kills.clear()
            raise KeyboardInterrupt
        return {**cell.key, "seconds": 1.0, "report": {"model": "m", "results": []}}

    monkeypatch.setattr(raw_results.Bench, "measure", measure)
    args = arguments(checkpoint, corpus, data, tmp_path / "work")
    with pytest.raises(KeyboardInterrupt):
        raw_results.run(args)
    assert len(json.loads(args.out.read_text())["cells"]) == 5
    killed = measured.pop()
    record = raw_results.run(args)
    assert record == json.loads(args.out.read_text())
    assert measured[5] == killed
    # 3 without a seed; 2 seeds × (whitened, 3 presets, 5 other sizes of each, 3 views of two).
    assert len(measured) == len(set(measured)) == len(record["cells"]) == 3 + 2 * (4 + 15 + 6)
    raw_results.run(args)
    assert len(measured) == 53
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\x80?")
    assert len(raw_results.run(args)["cells"]) == 53
    assert len(measured) == 106
    args.out.write_text("{")
    with pytest.raises(InputError):
        raw_results.run(args)


def test_a_cell_has_the_scores_of_its_model_and_views(
    checkpoint: Path, corpus: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import raw_results

    from mirror_rt.evaluation.suite import evaluate
    from mirror_rt.training.checkpoint import TorchEncoder
    from mirror_rt.types import Pooling, Preset

    configs = []

    def train(config: Any, **options: bool) -> Any:  # noqa: ANN401
        configs.append(config)
        return real(config, **options)

    real = raw_results.train
    monkeypatch.setattr(raw_results, "train", train)
    bench = raw_results.Bench(checkpoint, raw_results.Strings(corpus, data, tmp_path), threads=1)
    raw = bench.measure(raw_results.Cell(way="raw mean", tasks=("stsb", "multisimlex-eng")))
    torch = TorchEncoder.open(checkpoint, pooling=Pooling.MEAN)
    wanted = evaluate(torch, data=data, tasks=("stsb", "multisimlex-eng"))
    for found, result in zip(raw["report"]["results"], wanted.results, strict=True):
        assert found["score"] == pytest.approx(result.score, abs=1e-6)
    cells = [
        raw_results.mirrored(Preset.SENTENCE, 200, 5, ("stsb",)),
        raw_results.mirrored(Preset.NAME, 200, 5, ("stsb",), dropout=False, masking=False),
    ]
    found_by_cell = [bench.measure(cell) for cell in cells]
    assert [(c.dropout, c.span_length, c.seed) for c in configs] == [(0.1, 5, 5), (0.0, 0, 5)]
    assert [(f["steps"], f["pooling"]) for f in found_by_cell] == [(1, "mean"), (2, "cls")]
    assert all(f["report"]["results"][0]["items"] == 25 for f in found_by_cell)
    assert not (tmp_path / "mirrored").exists()
    (data / "sts/STS12.test.tsv").write_text("score\tsentence1\tsentence2\n9\ta\tb\n")
    with pytest.raises(InputError):
        bench.measure(raw_results.Cell(way="raw mean", tasks=("sts12",)))


def spoilt(folder: Path, how: str) -> Path:
    """Spoil a checkpoint in one way."""
    if how == "no manifest":
        (folder / "manifest.json").unlink()
    elif how == "other manifest":
        (folder / "manifest.json").write_text("[1]")
    elif how == "no MLM":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"architectures": ["BertModel"]}))
    elif how == "no tokenizer":
        for file in folder.glob("*token*"):
            file.unlink()
    elif how == "no weights":
        (folder / "model.safetensors").unlink()
    else:
        shutil.rmtree(folder)
    return folder


@pytest.mark.parametrize(
    "how", ["no manifest", "other manifest", "no MLM", "no tokenizer", "no weights", "no folder"]
)
def test_a_bad_checkpoint_is_one_line_before_any_work(
    checkpoint: Path, corpus: Path, data: Path, tmp_path: Path, how: str
) -> None:
    from raw_results import run

    args = arguments(spoilt(checkpoint, how), corpus, data, tmp_path / "work")
    with pytest.raises(ModelError) as caught:
        run(args)
    assert str(checkpoint) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not args.work.exists()


def test_missing_files_are_faults_before_any_work(
    checkpoint: Path, corpus: Path, data: Path, tmp_path: Path
) -> None:
    from raw_results import run

    for place in ({"corpus": tmp_path / "none"}, {"data": tmp_path / "none"}):
        args = arguments(checkpoint, corpus, data, tmp_path / "work")
        with pytest.raises(MirrorError):
            run(Namespace(**{**vars(args), **place}))
        assert not args.work.exists()


def drawn_record(*, main: bool = False) -> dict[str, Any]:
    """A record of all cells with random scores."""
    from raw_results import SIZES, TASKS, Cell, main_cells, more_cells

    draw = np.random.default_rng(4)

    def result(task: str) -> Result:
        metric = "acc@1" if task.startswith(("ncbi", "hpo")) else "all"
        return Result(task=task, metric=metric, scores={metric: float(draw.random())}, items=9)

    def filled(cell: Cell) -> dict[str, Any]:
        tasks = [t for t in cell.tasks for t in ((t, f"{t}, unseen") if t == "ncbi-kb" else (t,))]
        report = Report(model="m", results=tuple(result(task) for task in tasks))
        seconds = {"train_seconds": float(draw.integers(10, 400)), "pooling": "cls"}
        return {**cell.key, **seconds, "report": report.to_dict()}

    cells = list(main_cells([1, 2, 3], TASKS, 10_000))
    cells += [] if main else list(more_cells([1, 2, 3], SIZES, 10_000))
    return {
        "name": "raw_results", "date": "2026-01-02T03:04:05+00:00", "commit": "abc1234",
        "command": "python benchmarks/raw_results.py DIR", "versions": {"onnxruntime": "1.0"},
        "machine": {"cpu": "A CPU", "cores": 2, "flags": ["avx2"]}, "strings": 10_000,
        "load_before": 1.5, "pretraining": MANIFEST, "cells": [filled(cell) for cell in cells],
    }  # fmt: skip


def expected(record: dict[str, Any], task: str, **key: Any) -> str:  # noqa: ANN401
    """The mean and standard deviation of a task over the cells of a key, computed anew."""
    scores = [
        r["score"]
        for one in record["cells"]
        if all(one[name] == value for name, value in key.items())
        for r in one["report"]["results"]
        if r["task"] == task
    ]
    assert len(scores) in {1, 3}
    spread = f" ±{np.std(scores, ddof=1):.3f}".replace("0.", ".") if len(scores) > 1 else ""
    return f"{np.mean(scores):.3f}".replace("0.", ".", 1) + spread


def row(lines: list[str], start: str) -> list[str]:
    (found,) = [line for line in lines if line.startswith(f"| {start}")]
    return [part.strip() for part in found.strip("|").split("|")]


def test_the_section_has_the_number_of_every_cell() -> None:
    from raw_results import SIZES, TASKS
    from raw_tables import OWN, raw_results

    record = drawn_record()
    lines = raw_results(record)
    usual = {"strings": 10_000, "dropout": True}
    for start, key in {
        "raw, [CLS] ": {"way": "raw cls"},
        "raw, mean ": {"way": "raw mean"},
        "raw, mean, whitened": {"way": "whitened mean"},
        "character n-grams": {"way": "char-ngram"},
        "**Mirror, `word`": {"way": "word", **usual},
        "**Mirror, `name`": {"way": "name", "masking": True, **usual},
        "**Mirror, `sentence`": {"way": "sentence", "masking": True, **usual},
    }.items():
        cells = row(lines, start)
        tasks = [*TASKS[:8], "ncbi-kb, unseen", "hpo"]
        assert cells[1:11] == [expected(record, task, **key) for task in tasks], start
    for preset, tasks in OWN.items():
        views = {"way": preset, "dropout": True, "masking": preset != "word"}
        for task in tasks:
            (cells,) = [
                line.strip("| ").split(" | ")
                for line in lines
                if line.startswith(f"| `{preset}` |")
                and expected(record, task, **views, strings=1000) in line
            ]
            assert cells[2:] == [expected(record, task, **views, strings=s) for s in SIZES]
    for start, dropout, masking in (
        ("dropout and masking", True, True), ("dropout |", True, False),
        ("masking", False, True), ("neither", False, False),
    ):  # fmt: skip
        key = {"strings": 10_000, "dropout": dropout, "masking": masking}
        assert row(lines, start)[1:-1] == [
            expected(record, task, way=way, **key)
            for way in ("name", "sentence")
            for task in OWN[way]
        ]
    curve = [row(lines, f"{point['step']} |")[1:] for point in (HISTORY[0], HISTORY[-1])]
    assert curve == [["1.0", "1", "8.857", "2.0%"], ["12.0", "12", "7.286", "24.0%"]]


def test_a_record_in_the_making_has_a_section_too(tmp_path: Path) -> None:
    from raw_tables import raw_results, readme
    from render_tables import generated

    record = drawn_record(main=True)
    for count in (0, 1, 4, 7):
        some = {**record, "cells": record["cells"][:count]}
        text = "\n".join(raw_results(some))
        assert "By the number" not in text
        assert text.count("*paper: BERT + Mirror*") == 1
        assert 1 <= len(readme(some)) <= 3
        (tmp_path / "raw_mlm.json").write_text(json.dumps(some))
        page = generated(tmp_path, ("raw_mlm.json",))
        assert page.count("(img/raw-") == 1
        assert "(img/raw-" not in generated(tmp_path)
    (tmp_path / "raw_mlm.json").write_text(json.dumps(drawn_record()))
    assert generated(tmp_path, ("raw_mlm.json",)).count("(img/raw-") == 2
    lines = readme(record)
    assert len(lines) == 3
    for task, way in (("stsb", "sentence"), ("multisimlex-eng", "word"), ("hpo", "name")):
        assert f"→ {expected(record, task, way=way)}" in lines[1]
    gains = next(line for line in raw_results(record) if line.startswith("Points gained"))
    assert "Multi-SimLex +28.9, NCBI +19.6" in gains


def test_the_effect_is_called_small_only_where_it_is() -> None:
    from raw_tables import raw_results

    record = drawn_record(main=True)
    for gain, small in ((0.02, True), (0.4, False)):
        for one in record["cells"]:
            for result in one["report"]["results"]:
                score = 0.3 + (gain if one["way"] in {"word", "name", "sentence"} else 0.0)
                result["scores"] = {result["metric"]: score}
        text = "\n".join(raw_results(record))
        assert ("The effect is much smaller" in text) == small
        assert f"STS-B {100 * gain:+.1f} (`sentence`)" in text


def test_plots_show_the_record_and_name_it(tmp_path: Path) -> None:
    import raw_plots
    from raw_results import SIZES

    record = drawn_record()
    figure = raw_plots.by_strings(record)
    for axes, (way, task) in zip(
        figure.axes,
        (("word", "multisimlex-eng"), ("name", "hpo"), ("sentence", "stsb")),
        strict=True,
    ):
        x, y = axes.containers[0].lines[0].get_data()
        key = {"way": way, "dropout": True, "masking": way != "word"}
        wanted = [expected(record, task, strings=size, **key) for size in SIZES]
        assert [*x] == [*SIZES]
        assert [f"{score:.3f}"[1:] for score in y] == [text[:4] for text in wanted]
    loss, right = raw_plots.pretraining(record).axes
    assert [*loss.lines[0].get_ydata()] == [point["held_out"] for point in HISTORY]
    assert [*right.lines[0].get_ydata()] == [100 * point["accuracy"] for point in HISTORY]
    raw_plots.draw(record, tmp_path)
    first = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    raw_plots.draw({**record, "cells": record["cells"][:3]}, tmp_path)
    assert {*first} == {raw_plots.STRINGS, raw_plots.PRETRAINING}
    for path in tmp_path.iterdir():
        assert raw_plots.fingerprint(record).encode() in first[path.name]
        assert raw_plots.fingerprint(record).encode() not in path.read_bytes()


def test_the_plots_of_the_page_are_those_of_its_record() -> None:
    import raw_plots

    path = ROOT / "benchmarks/results/raw_mlm.json"
    if not path.exists():
        pytest.skip("there is no record yet")
    record = json.loads(path.read_text())
    for name in (raw_plots.STRINGS, raw_plots.PRETRAINING):
        assert raw_plots.fingerprint(record) in (ROOT / "docs/img" / name).read_text("utf-8")
