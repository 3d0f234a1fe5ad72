"""Static encoders: features, the fit, the table, and a bundle like any other."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import unicodedata
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array, random_array

from mirror_rt import Encoder, KnowledgeBase
from mirror_rt.bundle import Bundle, Manifest, seal
from mirror_rt.distillation.ridge import solve_ridge
from mirror_rt.distillation.static import (
    StaticConfig,
    _whole_words,
    design,
    distil_static,
    quantize_rows,
)
from mirror_rt.errors import AccuracyGateError, BundleError, ConfigError, InputError, TargetError
from mirror_rt.runtime.features import KINDS, extract, find_words, random_signs
from mirror_rt.runtime.static import FeatureIndex
from mirror_rt.types import BundleKind, Entity, IndexKind, Name
from tests.errors import about
from tests.tiny import WORDS

RNG = random.Random(3)
NAMES = list(dict.fromkeys(" ".join(RNG.sample(WORDS, RNG.randint(1, 4))) for _ in range(900)))
CONFIG = StaticConfig(dims=16, min_top1=0.05)


@pytest.fixture(scope="module")
def student(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("students") / "student"
    return distil_static(tiny_bundle, NAMES, out, config=CONFIG).path


def of_text(text: str) -> Counter[tuple[str, str]]:
    """Split a text letter by letter, as the arrays of ``features`` should."""
    signs = unicodedata.normalize("NFKD", text.lower()).lower()
    signs = "".join(sign for sign in signs if not unicodedata.combining(sign))
    signs = "".join(sign if sign.isalnum() else " " for sign in signs)
    words = signs.split()
    found = Counter(("word", word) for word in words)
    found += Counter(("pair", f"{a} {b}") for a, b in pairwise(words))
    for word in words:
        for length in (3, 4, 5):
            whole = f" {word} "
            found += Counter(
                (str(length), whole[i : i + length]) for i in range(len(whole) - length + 1)
            )
    return found


@given(st.lists(st.text("aB é\0-'ﬁΣ漢1\u0301\n", max_size=12), min_size=1, max_size=5))
def test_features_are_those_of_each_text_alone(texts: list[str]) -> None:
    found = extract(texts, KINDS)
    for row, text in enumerate(texts):
        expected = Counter(kind for kind, _ in of_text(text).elements())
        counts = {k: int(np.diff(found[k].offsets_N)[row]) for k in KINDS}
        assert counts == {k: expected[k] for k in KINDS}
        alone = extract([text], KINDS)
        for kind, features in found.items():
            first, last = features.offsets_N[row : row + 2]
            np.testing.assert_array_equal(features.hashes_F[first:last], alone[kind].hashes_F)


def test_features_are_equal_where_their_letters_are_and_only_there() -> None:
    hashes: dict[tuple[str, str], int] = {}
    for text in NAMES:
        found = extract([text], KINDS)
        words = text.split()
        output = [("word", word) for word in words]
        output += [("pair", f"{a} {b}") for a, b in pairwise(words)]
        for length in (3, 4, 5):
            whole = [f" {word} " for word in words]
            output += [
                (str(length), w[i : i + length]) for w in whole for i in range(len(w) - length + 1)
            ]
        numbers = [int(h) for kind in KINDS for h in found[kind].hashes_F]
        for name, number in zip(output, numbers, strict=True):
            assert hashes.setdefault(name, number) == number
    assert len(set(hashes.values())) == len(hashes)


def test_words_are_found_as_features_find_them() -> None:
    assert find_words(["Ménière's ﬁt", "x-ray\0ΣΑΣ"]) == ["meniere", "s", "fit", "x", "ray", "σας"]
    assert find_words([]) == find_words(["", " -"]) == []


def test_an_index_of_features_finds_what_is_there_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    hashes = np.unique(rng.integers(0, 2**64, 5000, dtype=np.uint64))
    # Neighbors share a bucket, and the ends are looked up as well.
    ends = np.array([0, 2**64 - 1], dtype=np.uint64)
    hashes = np.unique(np.concatenate([hashes, hashes + np.uint64(1), ends]))
    present, absent = hashes[::2], np.setdiff1d(hashes[1::2], hashes[::2])
    index = FeatureIndex(present)
    np.testing.assert_array_equal(index.find(present), np.arange(len(present)))
    assert (index.find(absent) == -1).all()
    assert (FeatureIndex(np.empty(0, np.uint64)).find(absent) == -1).all()


@pytest.mark.parametrize("with_prior", [False, True])
def test_the_ridge_solution_is_that_of_a_dense_solver(with_prior: bool) -> None:
    rng = np.random.default_rng(1)
    x_NF = csr_array(random_array((300, 80), density=0.1, rng=rng, dtype=np.float32))
    y_ND = rng.standard_normal((300, 7), dtype=np.float32)
    prior_FD = rng.standard_normal((80, 7), dtype=np.float32) if with_prior else None
    found_FD = solve_ridge(
        x_NF, y_ND, penalty=0.3, prior_FD=prior_FD, iterations=200, tolerance=1e-7
    )
    dense = x_NF.toarray().astype(np.float64)
    start = np.zeros((80, 7)) if prior_FD is None else prior_FD
    expected = start + np.linalg.solve(
        dense.T @ dense + 0.3 * np.eye(80), dense.T @ (y_ND - dense @ start)
    )
    np.testing.assert_allclose(found_FD, expected, atol=1e-4)


def test_a_target_of_zeros_gives_zeros() -> None:
    x_NF = csr_array(np.eye(5, dtype=np.float32))
    found = solve_ridge(x_NF, np.zeros((5, 2), np.float32), penalty=1.0, iterations=5)
    assert not found.any()


def test_the_most_frequent_features_get_rows_and_texts_count_them() -> None:
    config = StaticConfig(kinds=("word",), max_features=3, min_count=2)
    hashes_F, counts_NF = design(["a b b", "a b c", "a c", "d"], config)
    of = {w: int(extract([w], ("word",))["word"].hashes_F[0]) for w in "abcd"}
    assert set(hashes_F.tolist()) == {of["a"], of["b"], of["c"]}
    row = {w: int(np.flatnonzero(hashes_F == of[w])[0]) for w in "abc"}
    dense = counts_NF.toarray()
    np.testing.assert_allclose(dense[0, [row["a"], row["b"], row["c"], 3]], [0.5, 1, 0, 0.5])
    np.testing.assert_allclose(dense[3], [0, 0, 0, 1])


def test_the_encoder_sums_the_rows_of_the_table(student: Path) -> None:
    values = np.load(student / "table.npy") * np.load(student / "scales.npy")[:, None]
    rows = {int(h): i for i, h in enumerate(np.load(student / "features.npy"))}
    kinds = Bundle.open(student).manifest.features["kinds"]
    signs = random_signs(1024, values.shape[1])
    for text in ["acute liver cancer", "Heart-disease!", "zzz", ""]:
        numbers = [h for found in extract([text], kinds).values() for h in found.hashes_F.tolist()]
        total = values[-1].astype(np.float64)
        for number in numbers:
            total += values[rows[number]] if number in rows else 0
        if text == "zzz":  # without a known feature
            assert not set(numbers) & set(rows)
            total = signs[[number % len(signs) for number in numbers]].sum(axis=0)
        expected = total / np.linalg.norm(total)
        np.testing.assert_allclose(Encoder.open(student).encode(text), expected, atol=1e-6)


def test_a_text_has_the_same_bits_in_any_batch_order_and_number_of_threads(student: Path) -> None:
    texts = [*NAMES, "", "ÉCOLE", "漢字", "a" * 100_000, "\0", "liver " * 9000]
    whole = Encoder.open(student, threads=3).encode(texts)
    one = Encoder.open(student, threads=1)
    order = random.Random(1).sample(range(len(texts)), len(texts))
    np.testing.assert_array_equal(one.encode([texts[i] for i in order]), whole[order])
    for row in (0, 5, *range(len(NAMES), len(texts))):
        np.testing.assert_array_equal(one.encode(texts[row]), whole[row])
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-6)


def test_int8_rows_are_as_good_as_the_floats_they_were_made_of() -> None:
    table = np.random.default_rng(0).standard_normal((500, 64)).astype(np.float32)
    table[7] = 0
    values, steps = quantize_rows(table)
    assert np.abs(values * steps[:, None] - table).max(axis=1).max() <= steps.max() / 2 * 1.001
    assert (np.abs(values * steps[:, None] - table) <= steps[:, None] / 2 * 1.001).all()
    assert not values[7].any()


def test_a_student_is_like_its_teacher_on_names_it_has_not_seen(
    student: Path, tiny_bundle: Path
) -> None:
    unseen = [" ".join(RNG.sample(WORDS, 3)) for _ in range(300)]
    unseen = [name for name in dict.fromkeys(unseen) if name not in set(NAMES)]
    teacher, found = Encoder.open(tiny_bundle).encode(unseen), Encoder.open(student).encode(unseen)
    np.fill_diagonal(by_teacher := teacher @ teacher.T, -1)
    np.fill_diagonal(by_student := found @ found.T, -1)
    same = (by_teacher.argmax(1) == by_student.argmax(1)).mean()
    assert same > 20 / len(unseen)
    gate = Bundle.open(student).manifest.accuracy_gate
    assert gate["top1_agreement"] >= CONFIG.min_top1
    assert gate["names"] == len(NAMES) // 10


def test_case_and_accents_change_nothing_and_unknown_texts_are_counted(student: Path) -> None:
    encoder = Encoder.open(student)
    np.testing.assert_array_equal(encoder.encode("Lîver CANCER"), encoder.encode("liver cancer"))
    found = encoder.encode_counted(["liver", "Больница", "病院", "病院", "", "x" * 5000])
    assert (found.unfamiliar, found.truncated, found.different) == (3, 1, 5)
    assert encoder.count_unfamiliar(["Больница", "liver", "Больница"]) == 1
    assert encoder.count_truncated(["liver", "x" * 5000]) == 1


def test_texts_of_no_known_feature_are_compared_by_what_they_share(student: Path) -> None:
    encoder = Encoder.open(student)
    names = ["Городская больница", "Городская больницы", "Центральный вокзал", "病院", "駅"]
    found = encoder.encode([*names, "liver cancer"])
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    cosines = found @ found.T
    assert cosines[0, 1] > 0.6
    assert np.abs(cosines[0, 2:]).max() < 0.35
    assert np.abs(cosines[3:5, [0, 1, 2, 5]]).max() < 0.35
    np.testing.assert_array_equal(found[0], encoder.encode("Городская больница"))


def test_text_that_is_none_is_refused_by_its_own_index(student: Path) -> None:
    encoder = Encoder.open(student)
    with pytest.raises(InputError, check=about("texts[2]")):
        encoder.encode(["a", "a", "b\ud800"])
    with pytest.raises(InputError):
        encoder.encode("\udfff")


def test_fitting_again_gives_the_same_bundle(
    student: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    again = distil_static(tiny_bundle, NAMES, tmp_path / "again", config=CONFIG)
    assert again.fingerprint == Bundle.open(student).fingerprint
    assert again.manifest.kind is BundleKind.STATIC


@pytest.mark.parametrize(
    ("names", "config", "error"),
    [
        (["same"] * 500, CONFIG, InputError),
        (NAMES[:12], CONFIG, InputError),
        (NAMES[:12], StaticConfig(dims=4), InputError),
        (NAMES[:19], StaticConfig(dims=4), InputError),
        (["", " "], CONFIG, InputError),
        (NAMES, StaticConfig(dims=33), ConfigError),
        (NAMES, StaticConfig(dims=8, ridge=0.0), ConfigError),
        (NAMES, StaticConfig(dims=8, ridge=float("nan")), ConfigError),
        (NAMES, StaticConfig(dims=8, kinds=("pieces",)), ConfigError),
        (NAMES, StaticConfig(dims=8, min_top1=1.0), AccuracyGateError),
    ],
)
def test_what_cannot_be_distilled_is_refused_and_leaves_nothing(
    tiny_bundle: Path, tmp_path: Path, names: list[str], config: StaticConfig, error: type
) -> None:
    with pytest.raises(error):
        distil_static(tiny_bundle, names, tmp_path / "out", config=config)
    assert list(tmp_path.iterdir()) == []


def test_a_student_cannot_be_a_teacher_and_is_replaced_only_with_force(
    student: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError):
        distil_static(student, NAMES, tmp_path / "out", config=CONFIG)
    with pytest.raises(TargetError):
        distil_static(student, NAMES, student, config=CONFIG)


def spoilt(student: Path, folder: Path, name: str, content: np.ndarray) -> Path:
    """Write another array into a copy with a matching manifest."""
    shutil.copytree(student, folder)
    np.save(folder / name, content)
    seal(folder, Manifest.read(folder / "manifest.json"))
    return folder


def test_a_table_that_does_not_fit_is_refused(student: Path, tmp_path: Path) -> None:
    table, scales = np.load(student / "table.npy"), np.load(student / "scales.npy")
    hashes = np.load(student / "features.npy")
    not_finite = scales.copy()
    not_finite[3] = np.nan
    wrong = {
        "nan": ("scales.npy", not_finite),
        "row": ("table.npy", table[:-1]),
        "width": ("table.npy", table[:, :-1].copy()),
        "type": ("table.npy", table.astype(np.int16)),
        "order": ("features.npy", hashes[::-1].copy()),
        "few": ("features.npy", hashes[:-1]),
        "flat": ("scales.npy", scales[:, None]),
        "pickle": ("scales.npy", np.array([{}], dtype=object)),
    }
    for label, (name, content) in wrong.items():
        with pytest.raises(BundleError):
            Encoder.open(spoilt(student, tmp_path / label, name, content))


def test_a_file_shorter_than_it_says_is_refused_before_memory_is_taken(
    student: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(student, tmp_path / "short"))
    header = (folder / "table.npy").read_bytes()[:128]
    text = header.decode("latin1")
    rows = text[text.index("(") + 1 : text.index(",", text.index("("))]
    (folder / "table.npy").write_bytes(
        text.replace(rows, "9" * len(rows)).encode("latin1") + b"\0" * 64
    )
    seal(folder, Manifest.read(folder / "manifest.json"))
    with pytest.raises(BundleError):
        Encoder.open(folder)


@pytest.mark.parametrize(
    "change", [{"kind": "dynamic"}, {"features": {}}, {"features": {"kinds": ["6"]}}]
)
def test_a_manifest_of_what_this_version_does_not_know_is_refused(
    student: Path, tmp_path: Path, change: dict[str, object]
) -> None:
    folder = Path(shutil.copytree(student, tmp_path / "other"))
    content = json.loads((folder / "manifest.json").read_text()) | change
    del content["manifest_sha256"]
    (folder / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(BundleError):
        Encoder.open(folder)


def test_the_fingerprint_covers_what_is_looked_for(student: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(student, tmp_path / "other"))
    content = json.loads((folder / "manifest.json").read_text())
    del content["manifest_sha256"]
    content["features"] = {"kinds": ["word"]}
    (folder / "manifest.json").write_text(json.dumps(content))
    assert Bundle.open(folder).fingerprint != Bundle.open(student).fingerprint


def test_a_students_knowledge_base_finds_what_brute_force_finds(
    student: Path, tmp_path: Path
) -> None:
    names = NAMES[:200]
    entities = [Entity(id=f"E{i}", names=(Name(text=name),)) for i, name in enumerate(names)]
    with KnowledgeBase.build(student, entities, tmp_path / "kb", index=IndexKind.EXACT) as kb:
        encoder = Encoder.open(student)
        requested = [f"{name}s of old" for name in names[:20]]
        scores = encoder.encode(requested) @ encoder.encode(names).T
        for row, results in enumerate(kb.search(requested, top=1)):
            assert results[0].score == pytest.approx(scores[row].max(), abs=2e-3)
        assert kb.link([names[3]])[0][0].entity_id == "E3"
    with KnowledgeBase.open(tmp_path / "kb", bundle=student) as kb:
        assert kb.manifest.dim == 16


_CLEAN = """
import sys
from mirror_rt import Encoder, KnowledgeBase
from mirror_rt.types import Entity, Name
encoder = Encoder.open(sys.argv[1])
encoder.encode(["liver cancer", "heart disease"])
entities = [Entity(id=str(i), names=(Name(text=f"liver {i}"),)) for i in range(40)]
with KnowledgeBase.build(sys.argv[1], entities, sys.argv[2]) as kb:
    kb.link(["livers"])
with KnowledgeBase.open(sys.argv[2]) as kb:
    kb.link(["liver 3", "kidney"])
heavy = ("onnxruntime", "tokenizers", "torch", "transformers", "optimum", "onnx")
print([name for name in heavy if name in sys.modules])
"""


def test_a_static_bundle_needs_neither_onnxruntime_nor_tokenizers(
    student: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", _CLEAN, str(student), str(tmp_path / "kb")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"vocab": {"[CLS]": 0, "##art": 3, "heart": 2, "a": 1, "liver": 4}}, ["heart", "liver"]),
        ({"vocab": {"Ġheart": 0, "art": 1, "Ġliver": 2}}, ["heart", "liver"]),
        ({"vocab": [["▁heart", -1.5], ["art", -2], ["▁liver", -3]]}, ["heart", "liver"]),
        ({}, []),
    ],
)
def test_whole_words_are_distinguished_from_pieces(
    model: dict[str, object], words: list[str]
) -> None:
    assert _whole_words(json.dumps({"model": model})) == words
