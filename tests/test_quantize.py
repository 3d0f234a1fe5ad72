"""Recipes: what is rounded, what is not, and how exactly."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from mirror_rt.exporting.graph import SentenceModel, write_graph
from mirror_rt.exporting.quantize import Method, Recipe, quantize
from mirror_rt.exporting.smoothing import channel_ranges, smooth
from mirror_rt.exporting.weight_only import constant_weights, pack_blocks, to_fp16
from mirror_rt.runtime.cpu import Target, detect_cpu, int8_cannot_saturate
from mirror_rt.types import Pooling, TokenBatch
from tests.test_graph import body_of, tokens


@pytest.fixture(scope="module", params=["cls", "mean"])
def graph(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    write_graph(SentenceModel(body_of("bert"), pooling=Pooling(request.param)), path)
    return path


FEED = {name: tensor.numpy() for name, tensor in tokens("bert", 5, 9, 2, 7).items()}


BATCH = TokenBatch(input_ids_BT=FEED["input_ids"], attention_mask_BT=FEED["attention_mask"])


def run(path: Path) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options).run(["sentence_embedding"], FEED)[0]


def operators(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


def smoothed(graph: Path, out: Path) -> Path:
    smooth(graph, out, channel_ranges(graph, [BATCH]))
    return out


def test_evening_out_the_channels_changes_no_vector(graph: Path, tmp_path: Path) -> None:
    even = smoothed(graph, tmp_path / "even.onnx")
    np.testing.assert_allclose(run(even), run(graph), atol=1e-5)
    assert operators(even).count("Mul") > operators(graph).count("Mul")


def test_ranges_leave_padding_out(graph: Path) -> None:
    def ranges(rows: slice, width: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        ids_BT, mask_BT = FEED["input_ids"][rows, :width], FEED["attention_mask"][rows, :width]
        return channel_ranges(graph, [TokenBatch(input_ids_BT=ids_BT, attention_mask_BT=mask_BT)])

    padded, bare = ranges(slice(2, 3), 9), ranges(slice(2, 3), 2)
    assert padded.keys() == bare.keys()
    for name in bare:
        np.testing.assert_allclose(padded[name], bare[name], rtol=1e-4, atol=1e-5)


def test_dynamic_rounds_every_weight_and_not_the_products_of_attention(
    graph: Path, tmp_path: Path
) -> None:
    quantize(graph, tmp_path / "q.onnx", Recipe(method=Method.DYNAMIC))
    weights = len(constant_weights(onnx.load(graph)))
    assert operators(tmp_path / "q.onnx").count("MatMulInteger") == weights
    assert operators(tmp_path / "q.onnx").count("MatMul") == 4  # two layers, two products each
    assert ((run(tmp_path / "q.onnx") * run(graph)).sum(axis=1) > 0.9).all()


def test_what_is_kept_in_float_is_left_alone(graph: Path, tmp_path: Path) -> None:
    names = list(constant_weights(onnx.load(graph)))
    for method, operator in (
        (Method.DYNAMIC, "MatMulInteger"),
        (Method.WEIGHT_ONLY, "MatMulNBits"),
        (Method.STATIC, "MatMulIntegerToFloat"),
    ):
        some = Recipe(method=method, nodes_to_exclude=tuple(names[:5]), block_size=16)
        quantize(graph, tmp_path / "some.onnx", some, batches=[BATCH])
        assert operators(tmp_path / "some.onnx").count(operator) == len(names) - 5
        none = Recipe(method=method, nodes_to_exclude=tuple(names), block_size=16)
        quantize(graph, tmp_path / "none.onnx", none, batches=[BATCH])
        np.testing.assert_array_equal(run(tmp_path / "none.onnx"), run(graph))


@pytest.mark.parametrize("method", [Method.DYNAMIC, Method.STATIC])
def test_embedding_tables_are_rounded_on_request(
    graph: Path, tmp_path: Path, method: Method
) -> None:
    plain, small = tmp_path / "plain.onnx", tmp_path / "small.onnx"
    quantize(graph, plain, Recipe(method=method), batches=[BATCH])
    quantize(graph, small, Recipe(method=method, embeddings=True), batches=[BATCH])

    def floats(path: Path) -> int:
        tensors = onnx.load(path).graph.initializer
        return sum(math.prod(t.dims) for t in tensors if t.data_type == onnx.TensorProto.FLOAT)

    assert floats(small) < floats(plain) - 120 * 31  # the table of 120 words, less its steps
    assert ((run(small) * run(plain)).sum(axis=1) > 0.99).all()


def test_static_rounds_every_weight_and_takes_the_bias_in(graph: Path, tmp_path: Path) -> None:
    quantize(graph, tmp_path / "q.onnx", Recipe(method=Method.STATIC), batches=[BATCH])
    weights = len(constant_weights(onnx.load(graph)))
    found = operators(tmp_path / "q.onnx")
    assert found.count("MatMulIntegerToFloat") == weights
    assert operators(graph).count("Add") - found.count("Add") == weights
    assert ((run(tmp_path / "q.onnx") * run(graph)).sum(axis=1) > 0.9).all()


@pytest.mark.parametrize("per_channel", [True, False])
def test_a_static_product_is_what_rounding_by_hand_gives(tmp_path: Path, per_channel: bool) -> None:
    rng = np.random.default_rng(4)
    weight_KN = rng.normal(size=(16, 5)).astype(np.float32)
    bias_N = rng.normal(size=5).astype(np.float32)
    nodes = [
        onnx.helper.make_node("Gather", ["table", "input_ids"], ["x"], "look"),
        onnx.helper.make_node("MatMul", ["x", "w"], ["y"], "mul"),
        onnx.helper.make_node("Add", ["y", "b"], ["sentence_embedding"], "bias"),
    ]
    table = rng.normal(size=(120, 16)).astype(np.float32)
    make = onnx.helper.make_tensor_value_info
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            nodes,
            "one",
            [make(name, onnx.TensorProto.INT64, ["B", "T"]) for name in FEED],
            [make("sentence_embedding", onnx.TensorProto.FLOAT, ["B", "T", 5])],
            [
                numpy_helper.from_array(values, name)
                for name, values in (("table", table), ("w", weight_KN), ("b", bias_N))
            ],
        ),
        opset_imports=[onnx.helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.save(model, tmp_path / "one.onnx")
    reduce = not int8_cannot_saturate(detect_cpu())  # 8 bits would overflow on this CPU
    recipe = Recipe(method=Method.STATIC, reduce_range=reduce, per_channel=per_channel)
    quantize(tmp_path / "one.onnx", tmp_path / "q.onnx", recipe, batches=[BATCH])
    states = table[FEED["input_ids"]]
    seen = states[FEED["attention_mask"] == 1]
    step = (seen.max() - seen.min()) / 255
    zero = round(float(-seen.min() / step))
    ints = np.clip(np.rint(states / step) + zero, 0, 255) - zero
    steps = np.abs(weight_KN).max(axis=0 if per_channel else None) / (63 if reduce else 127)
    constants = {t.name: t for t in onnx.load(tmp_path / "q.onnx").graph.initializer}
    assert list(constants["w_scales"].dims) == ([5] if per_channel else [])
    wanted = ints @ np.rint(weight_KN / steps) * step * steps + bias_N
    np.testing.assert_allclose(run(tmp_path / "q.onnx"), wanted, atol=1e-4)


def test_reduced_range_keeps_weights_within_seven_bits(graph: Path, tmp_path: Path) -> None:
    for reduced, most in ((False, 127), (True, 64)):
        quantize(graph, tmp_path / "q.onnx", Recipe(method=Method.DYNAMIC, reduce_range=reduced))
        tensors = onnx.load(tmp_path / "q.onnx").graph.initializer
        values = [numpy_helper.to_array(t) for t in tensors if t.name.endswith("_quantized")]
        largest = max(int(np.abs(v.astype(int)).max()) for v in values if v.dtype == np.int8)
        assert most / 2 < largest <= most


def test_half_weights_differ_by_their_rounding_alone(graph: Path, tmp_path: Path) -> None:
    to_fp16(graph, tmp_path / "half.onnx")
    before = {t.name: numpy_helper.to_array(t) for t in onnx.load(graph).graph.initializer}
    for tensor in onnx.load(tmp_path / "half.onnx").graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float16:
            wanted = before[tensor.name.removesuffix("_half")].astype(np.float16)
            np.testing.assert_array_equal(values, wanted)


@given(
    inputs=st.integers(1, 70),
    outputs=st.integers(1, 9),
    block_size=st.sampled_from([16, 32]),
    scale=st.sampled_from([1e-6, 1.0, 1e4]),
)
def test_packed_weights_unpack_to_within_half_a_step(
    inputs: int, outputs: int, block_size: int, scale: float
) -> None:
    rng = np.random.default_rng(inputs * 100 + outputs)
    weight_KN = (rng.normal(size=(inputs, outputs)) * scale).astype(np.float32)
    packed, scales_NG = pack_blocks(weight_KN, block_size=block_size)
    unpacked = (packed.astype(np.float32) - 128) * scales_NG[:, :, None]
    back_KN = unpacked.reshape(outputs, -1)[:, :inputs].T
    steps_KN = np.repeat(scales_NG, block_size, axis=1)[:, :inputs].T
    assert (np.abs(back_KN - weight_KN) <= steps_KN * 0.5001).all()
    assert (unpacked.reshape(outputs, -1)[:, inputs:] == 0).all()


def test_a_weight_of_zeros_is_packed_as_zeros() -> None:
    packed, scales_NG = pack_blocks(np.zeros((20, 3), dtype=np.float32), block_size=16)
    assert (packed == 128).all()
    assert np.isfinite(scales_NG).all()


@pytest.mark.parametrize(
    ("machine", "flags", "target"),
    [
        ("x86_64", "fpu sse2 avx2 fma", Target.AVX2),
        ("x86_64", "fpu avx2 avx512f avx512bw", Target.AVX512),
        ("x86_64", "fpu avx2 avx512f avx512_vnni", Target.AVX512_VNNI),
        ("AMD64", "fpu avx2 avx_vnni", Target.AVX512_VNNI),
        ("x86_64", None, Target.AVX2),
        ("aarch64", None, Target.ARM64),
        ("arm64", "fpu", Target.ARM64),
    ],
)
def test_the_cpu_is_known_by_its_flags(
    tmp_path: Path, machine: str, flags: str | None, target: Target
) -> None:
    if flags is not None:
        (tmp_path / "proc").mkdir()
        text = f"processor\t: 0\nmodel name\t: avx512_vnni in the name\nflags\t\t: {flags}\n"
        (tmp_path / "proc/cpuinfo").write_text(text)
    assert detect_cpu(root=tmp_path, machine=machine) is target


def test_only_cpus_that_add_in_32_bits_are_called_safe() -> None:
    assert {t for t in Target if int8_cannot_saturate(t)} == {Target.AVX512_VNNI, Target.ARM64}
