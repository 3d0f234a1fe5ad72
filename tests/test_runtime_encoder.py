"""Texts to vectors: the right ones, in the right rows."""

from __future__ import annotations

import gc
import random
import shutil
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from onnxruntime import RunOptions

from mirror_rt import Encoder
from mirror_rt.errors import BundleError, ConfigError, InputError
from mirror_rt.runtime import transformer
from mirror_rt.runtime.session import Session
from mirror_rt.types import TokenBatch
from tests.errors import about
from tests.tiny import NAMES

if TYPE_CHECKING:
    from mirror_rt.types import Float32


def test_vectors_are_those_of_torch_computed_one_text_at_a_time(
    tiny_bundle: Path, tiny_bert: Path
) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    model = AutoModel.from_pretrained(tiny_bert).eval()
    texts = [*NAMES, "", "fever " * 30]
    with torch.no_grad():
        means = [
            model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0).numpy()
            for text in texts
        ]
    expected_ND = np.stack([mean / np.linalg.norm(mean) for mean in means])
    vectors_ND = Encoder.open(tiny_bundle).encode(texts)
    assert vectors_ND.dtype == np.float32
    np.testing.assert_allclose(vectors_ND, expected_ND, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_as_many_batches_run_at_once_as_there_are_threads(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    encoder = Encoder.open(tiny_bundle, threads=threads)
    assert encoder._model.session._session.get_session_options().intra_op_num_threads == 1
    expected_ND = encoder.encode(NAMES[:8])
    run, together, seen = Session.run, threading.Barrier(threads, timeout=60), []

    def waiting(self: Session, batch: TokenBatch) -> object:
        seen.append(threading.get_ident())
        together.wait()  # with fewer parallel runs, it would wait for ever
        return run(self, batch)

    monkeypatch.setattr(transformer, "TOKENS", 1)  # each text is a batch
    monkeypatch.setattr(Session, "run", waiting)
    np.testing.assert_allclose(encoder.encode(NAMES[:8]), expected_ND, atol=1e-6)
    assert (len(seen), len(set(seen))) == (8, threads)


@pytest.mark.parametrize("threads", [1, 3])
def test_rows_follow_the_texts_whatever_their_order_and_repeats(
    tiny_bundle: Path, threads: int
) -> None:
    encoder = Encoder.open(tiny_bundle, threads=threads)
    alone = {text: encoder.encode([text])[0] for text in [*NAMES, ""]}
    texts = [text for text in alone for _ in range(40)]
    random.Random(3).shuffle(texts)
    vectors_ND = encoder.encode(texts)
    np.testing.assert_allclose(vectors_ND, np.stack([alone[t] for t in texts]), atol=1e-6)


def test_a_different_text_is_computed_once(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mirror_rt.runtime.session import Session

    rows = 0
    run = Session.run

    def counted(session: Session, batch: TokenBatch) -> Float32:
        nonlocal rows
        rows += len(batch.input_ids_BT)
        return run(session, batch)

    monkeypatch.setattr(Session, "run", counted)
    assert Encoder.open(tiny_bundle).encode(["fever", "cough", "fever"] * 1000).shape == (3000, 32)
    assert rows == 2


def test_empty_blank_and_odd_strings_have_a_row_of_length_one(tiny_bundle: Path) -> None:
    texts = ["", " \t\n", "\0", "a\0b", "\u200b", "🫀", "é" * 500, "x" * 1_000_000, "fever"]
    vectors_ND = Encoder.open(tiny_bundle).encode(texts)
    np.testing.assert_allclose(np.linalg.norm(vectors_ND, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(vectors_ND[0], vectors_ND[1])
    np.testing.assert_allclose(vectors_ND[8], Encoder.open(tiny_bundle).encode("fever"), atol=1e-6)


def test_no_texts_give_no_rows(tiny_bundle: Path) -> None:
    assert Encoder.open(tiny_bundle).encode([]).shape == (0, 32)


def test_a_single_string_is_not_taken_for_its_letters(tiny_bundle: Path) -> None:
    assert Encoder.open(tiny_bundle).encode("fever").shape == (32,)


@pytest.mark.parametrize(
    ("item", "value"),
    [("\ud800", "U+D800"), (None, "NoneType"), (("a", "b"), "tuple"), (["a"], "list")],
)
def test_what_is_not_text_is_named_by_its_place(tiny_bundle: Path, item: str, value: str) -> None:
    with pytest.raises(InputError, check=about("texts[3]", value=value)):
        Encoder.open(tiny_bundle).encode(["fever", "fever", "cough", item])


def test_progress_counts_every_text_and_only_tokens_that_ran(tiny_bundle: Path) -> None:
    seen: list[tuple[int, int]] = []
    Encoder.open(tiny_bundle, threads=2).encode(
        ["fever", "cough", "fever"] * 5 + [f"pain {i}" for i in range(300)],
        progress=lambda texts, tokens: seen.append((texts, tokens)),
    )
    assert sum(texts for texts, _ in seen) == 315
    assert sum(tokens for _, tokens in seen) == 3 + 3 + sum(3 + len(str(i)) for i in range(300))


def test_an_int8_bundle_stays_near_float32(tiny_bundle: Path, tiny_bundle_int8: Path) -> None:
    full, small = (Encoder.open(b).encode(NAMES) for b in (tiny_bundle, tiny_bundle_int8))
    assert (full * small).sum(axis=1).min() > 0.97


def test_a_flipped_byte_is_found_on_opening(tiny_bundle: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    content = bytearray((folder / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "model.onnx").write_bytes(content)
    with pytest.raises(BundleError, check=about("model.onnx")):
        Encoder.open(folder)


def test_a_graph_that_is_none_is_an_error_of_the_bundle(tiny_bundle: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    (folder / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(BundleError, check=about("model.onnx")):
        Encoder.open(folder, verify=False)


def test_no_threads_are_refused(tiny_bundle: Path) -> None:
    with pytest.raises(ConfigError, check=about("threads", value="0")):
        Encoder.open(tiny_bundle, threads=0)


def test_embedding_imports_nothing_of_the_training_stack(tiny_bundle: Path) -> None:
    code = (
        "import sys, mirror_rt\n"
        f"mirror_rt.Encoder.open({str(tiny_bundle)!r}).encode(['fever'])\n"
        "heavy = {'torch', 'transformers', 'optimum', 'onnx', 'faiss', 'accelerate', 'pyarrow'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("text", ["fever", "", "x" * 100_000, "fever " * 300])
def test_the_path_of_a_single_string_gives_the_same_vector(tiny_bundle: Path, text: str) -> None:
    encoder = Encoder.open(tiny_bundle)
    np.testing.assert_allclose(encoder.encode(text), encoder.encode([text])[0], atol=1e-6)


def test_recent_single_strings_are_not_computed_again_and_cannot_be_damaged(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder.open(tiny_bundle)
    first_D = encoder.encode("fever")
    kept_D = first_D.copy()
    first_D[:] = 0
    monkeypatch.setattr(Session, "run", None)  # a second run would fail
    np.testing.assert_array_equal(encoder.encode("fever"), kept_D)


def test_a_single_string_that_is_not_text_is_refused(tiny_bundle: Path) -> None:
    with pytest.raises(InputError, check=about("texts[0]")):
        Encoder.open(tiny_bundle).encode("\udfff")


ARENA = """
import sys, numpy
from mirror_rt import Encoder
from mirror_rt.runtime import session
from mirror_rt.types import TokenBatch

session.LONG = int(sys.argv[2])
encoder = Encoder.open(sys.argv[1], threads=1)
ids_BT = numpy.full((1500, 64), 5)
batch = TokenBatch(input_ids_BT=ids_BT, attention_mask_BT=numpy.ones_like(ids_BT))
encoder._model.session.run(batch)
status = open("/proc/self/status").read()
print(int(status.partition("VmRSS:")[2].split()[0]) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_run_over_long_texts_gives_its_memory_back(tiny_bundle: Path) -> None:
    kept, given_back = (
        int(subprocess.run(
            [sys.executable, "-c", ARENA, str(tiny_bundle), longest],
            capture_output=True, text=True, check=True,
        ).stdout)
        for longest in ("65", "64")
    )  # fmt: skip
    assert kept - given_back > 100


@pytest.mark.parametrize(("tokens", "given_back"), [(127, False), (128, True), (512, True)])
def test_texts_are_long_from_128_tokens_on(tokens: int, given_back: bool) -> None:
    settings = []

    class Graph:
        """Records its inputs."""

        def get_inputs(self) -> list[SimpleNamespace]:
            return [SimpleNamespace(name="input_ids"), SimpleNamespace(name="attention_mask")]

        def run(self, outputs: list[str], feed: object, options: RunOptions | None) -> list[str]:
            settings.append(options)
            return outputs

    ids_BT = np.full((2, tokens), 5)
    batch = TokenBatch(input_ids_BT=ids_BT, attention_mask_BT=np.ones_like(ids_BT))
    Session(Graph(), output="vectors").run(batch)
    (options,) = settings
    if given_back:
        wanted = options.get_run_config_entry("memory.enable_memory_arena_shrinkage")
        assert wanted == "cpu:0"
    else:
        assert options is None


def test_an_encoder_dropped_gives_its_session_back_at_once(tiny_bundle: Path) -> None:
    encoder = Encoder.open(tiny_bundle)
    encoder.encode("fever")
    gone = weakref.ref(encoder._model.session)
    gc.disable()
    try:
        del encoder
        assert gone() is None
    finally:
        gc.enable()
