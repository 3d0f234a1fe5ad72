"""Export from a checkpoint folder to a bundle folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import transformers
from onnx import numpy_helper

from mirror_rt.bundle import Bundle
from mirror_rt.errors import AccuracyGateError, ConfigError, ModelError, TargetError
from mirror_rt.exporting import choose_recipe, pipeline
from mirror_rt.exporting.pipeline import export
from mirror_rt.exporting.quantize import Method, Recipe
from mirror_rt.hashing import sha256_file
from mirror_rt.runtime import Encoder, session
from mirror_rt.runtime.cpu import Target, detect_cpu, int8_cannot_saturate
from mirror_rt.training.checkpoint import TorchEncoder
from mirror_rt.training.model import FAMILIES
from mirror_rt.types import Pooling, Precision
from tests.errors import about
from tests.tiny import NAMES, add_pooling, scaled, tiny_checkpoint

OVERFLOWS = not int8_cannot_saturate(detect_cpu())
"""Whether 8-bit weights would overflow on this CPU, so that only 7 bits can be tested."""


STATIC = Recipe(method=Method.STATIC, smooth=True, embeddings=True, reduce_range=OVERFLOWS)


@pytest.fixture(scope="module")
def loud_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with large weights: its vectors differ, and rounding changes them."""
    folder = tiny_checkpoint(tmp_path_factory.mktemp("models") / "loud-bert")
    return add_pooling(scaled(folder, 12), "mean")


def test_the_docs_name_the_families_that_can_be_exported() -> None:
    text = (Path(__file__).parents[1] / "docs/bundle-format.md").read_text()
    output = text.partition("## What can be exported")[2]
    assert [family for family in FAMILIES if f"`{family}`" not in output] == []


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # DeBERTa, ModernBERT
@pytest.mark.parametrize(
    ("architecture", "pooling"),
    [
        *((family, "mean") for family in FAMILIES),
        *((family, "cls") for family in ("bert", "roberta", "distilbert", "electra")),
    ],
)
def test_a_bundle_gives_the_vectors_of_its_checkpoint(
    tmp_path: Path, architecture: str, pooling: str
) -> None:
    folder = add_pooling(tiny_checkpoint(tmp_path / "model", architecture=architecture), pooling)
    bundle = export(folder, tmp_path / "bundle", precision=Precision.FP32)
    assert bundle.manifest.pooling is Pooling(pooling)
    assert bundle.manifest.max_length == 64
    vectors_ND = Encoder.open(bundle).encode(NAMES)
    np.testing.assert_allclose(vectors_ND, TorchEncoder.open(folder).encode(NAMES), atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(vectors_ND, axis=1), 1, atol=1e-6)
    assert bundle.manifest.accuracy_gate["max_abs_difference"] <= 1e-4


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_states_that_belong_to_no_text_have_ranges_too(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "model", architecture="deberta-v2")
    config = transformers.AutoConfig.from_pretrained(folder)
    config.update({"relative_attention": True, "pos_att_type": ["p2c", "c2p"]})
    config.update({"share_att_key": False, "position_buckets": 8, "max_relative_positions": -1})
    torch.manual_seed(7)
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    add_pooling(folder, "mean")
    bundle = export(folder, tmp_path / "bundle", recipe=STATIC, sample=NAMES, min_top1=0.0)
    found = Encoder.open(bundle).encode(NAMES)
    assert (found * TorchEncoder.open(folder).encode(NAMES)).sum(1).min() > 0.98


def test_the_manifest_has_the_sha256_of_every_file(tiny_bundle_int8: Path) -> None:
    files = Bundle.open(tiny_bundle_int8).manifest.files
    on_disk = {p.relative_to(tiny_bundle_int8).as_posix() for p in tiny_bundle_int8.rglob("*.*")}
    assert set(files) == on_disk - {"manifest.json"}
    assert all(sha256_file(tiny_bundle_int8 / name) == sha for name, sha in files.items())


def test_the_same_export_gives_the_same_bytes(tiny_bert: Path, tmp_path: Path) -> None:
    one, two = (export(tiny_bert, tmp_path / name, sample=NAMES) for name in ("one", "two"))
    assert one.fingerprint == two.fingerprint


def test_pooling_and_length_of_the_checkpoint_can_be_overruled(
    loud_bert: Path, tmp_path: Path
) -> None:
    bundle = export(
        loud_bert, tmp_path / "b", precision=Precision.FP32, pooling=Pooling.CLS, max_length=4
    )
    assert (bundle.manifest.pooling, bundle.manifest.max_length) == (Pooling.CLS, 4)
    wanted = TorchEncoder.open(loud_bert, pooling=Pooling.CLS, max_length=4).encode(NAMES)
    np.testing.assert_allclose(Encoder.open(bundle).encode(NAMES), wanted, atol=1e-4)
    assert json.loads((bundle.path / "tokenizer_config.json").read_text())["model_max_length"] == 4


def test_a_target_that_exists_is_kept_unless_forced(tiny_bert: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    out.mkdir()
    (out / "mine").write_text("precious")
    with pytest.raises(TargetError, check=about("bundle", hint="--force")):
        export(tiny_bert, out)
    with pytest.raises(TargetError, check=about("bundle")):
        export(tiny_bert, out, force=True)
    assert [p.name for p in out.iterdir()] == ["mine"]
    (out / "mine").unlink()
    export(tiny_bert, out, force=True)
    (out / "mine").write_text("precious")
    with pytest.raises(TargetError):
        export(tiny_bert, out, force=True)
    assert (out / "mine").read_text() == "precious"
    (out / "mine").unlink()
    export(tiny_bert, out, force=True)
    Bundle.open(out)


def test_an_export_that_fails_leaves_nothing(loud_bert: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    with pytest.raises(AccuracyGateError, check=about("loud-bert", hint="--min-top1")):
        export(
            loud_bert,
            out,
            sample=_many_names(),
            min_top1=1.0,
            recipe=Recipe(method=Method.DYNAMIC, per_channel=False, reduce_range=True),
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("module", ["Dense", "LayerNorm", "CNN"])
def test_a_module_that_would_be_lost_is_refused(
    tiny_bert: Path, tmp_path: Path, module: str
) -> None:
    folder = add_pooling(Path(shutil.copytree(tiny_bert, tmp_path / "model")), "mean")
    modules = json.loads((folder / "modules.json").read_text())
    modules.insert(2, {"idx": 9, "name": "9", "path": "9", "type": f"x.models.{module}"})
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelError, check=about(value=module)):
        export(folder, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_pooling_that_is_not_known_is_refused(tiny_bert: Path, tmp_path: Path) -> None:
    folder = add_pooling(Path(shutil.copytree(tiny_bert, tmp_path / "model")), "max")
    with pytest.raises(ModelError, check=about("config.json")):
        export(folder, tmp_path / "bundle")


@pytest.mark.parametrize(
    ("file", "content", "value"),
    [
        (
            "config_sentence_transformers.json",
            {"prompts": {"query": "ask: "}, "default_prompt_name": "query"},
            "'ask: '",
        ),
        (
            "sentence_bert_config.json",
            {"max_seq_length": 64, "do_lower_case": True},
            "do_lower_case",
        ),
    ],
)
def test_what_would_change_texts_in_sentence_transformers_is_refused(
    tiny_bert: Path, tmp_path: Path, file: str, content: dict[str, object], value: str
) -> None:
    folder = add_pooling(Path(shutil.copytree(tiny_bert, tmp_path / "model")), "mean")
    cased = json.loads((folder / "tokenizer.json").read_text())
    cased["normalizer"]["lowercase"] = False
    (folder / "tokenizer.json").write_text(json.dumps(cased))
    (folder / file).write_text(json.dumps(content))
    with pytest.raises(ModelError, check=about(file, value=value)):
        export(folder, tmp_path / "bundle", precision=Precision.FP32)


def test_lower_casing_what_the_tokenizer_lower_cases_is_no_change(
    tiny_bert: Path, tmp_path: Path
) -> None:
    folder = add_pooling(Path(shutil.copytree(tiny_bert, tmp_path / "model")), "mean")
    limits = {"max_seq_length": 64, "do_lower_case": True}
    (folder / "sentence_bert_config.json").write_text(json.dumps(limits))
    config = {"prompts": {"query": "ask: ", "document": ""}, "default_prompt_name": None}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(config))
    export(folder, tmp_path / "bundle", precision=Precision.FP32)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError):
        export(tmp_path / "empty", tmp_path / "bundle")


@pytest.mark.parametrize("sample", [[], ["one"], ["one", "one", " ", ""]])
def test_a_sample_needs_two_different_strings(
    tiny_bert: Path, tmp_path: Path, sample: list[str]
) -> None:
    with pytest.raises(ConfigError, check=about("sample")):
        export(tiny_bert, tmp_path / "bundle", sample=sample)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_gate_that_is_no_share_is_refused(tiny_bert: Path, tmp_path: Path, share: float) -> None:
    with pytest.raises(ConfigError, check=about("min_top1")):
        export(tiny_bert, tmp_path / "bundle", min_top1=share)


def test_the_fastest_cannot_be_chosen_for_a_foreign_cpu(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "detect_cpu", lambda: Target.AVX2)
    with pytest.raises(ConfigError, check=about("target", hint="--precision")):
        export(tiny_bert, tmp_path / "bundle", precision=None, target=Target.ARM64)


def test_full_range_weights_are_for_cpus_that_cannot_saturate(
    tiny_bert: Path, tmp_path: Path
) -> None:
    reduced, graphs = {}, {}
    for target in Target:
        bundle = export(tiny_bert, tmp_path / target.value, target=target, sample=NAMES)
        assert bundle.manifest.accuracy_gate["target"] == target.value
        reduced[target] = bundle.manifest.quantization["reduce_range"]
        graphs[target] = bundle.manifest.files["model.onnx"]
    assert reduced == {
        Target.AVX2: True,
        Target.AVX512: True,
        Target.AVX512_VNNI: False,
        Target.ARM64: False,
    }
    assert graphs[Target.AVX2] == graphs[Target.AVX512] != graphs[Target.ARM64]
    assert graphs[Target.ARM64] == graphs[Target.AVX512_VNNI]


@pytest.mark.parametrize(("smooth", "constant"), [(False, "_scale"), (True, "_factor")])
def test_ranges_are_those_of_the_sample(
    loud_bert: Path, tmp_path: Path, smooth: bool, constant: str
) -> None:
    recipe = Recipe(method=Method.STATIC, smooth=smooth, reduce_range=OVERFLOWS)
    one, two = (
        _constants(export(loud_bert, tmp_path / out, sample=names, min_top1=0, recipe=recipe))
        for out, names in (("one", NAMES[:13]), ("two", NAMES[13:]))
    )
    seen = [name for name in one if name.endswith(constant)]
    assert any((one[name] != two[name]).any() for name in seen)


def test_a_graph_that_would_overflow_here_is_measured_with_seven_bits(
    loud_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (choose_recipe, pipeline):
        monkeypatch.setattr(module, "detect_cpu", lambda: Target.AVX2)
    built = [
        export(loud_bert, tmp_path / target.value, target=target, sample=_many_names())
        for target in (Target.AVX512_VNNI, Target.AVX2)
    ]
    assert [b.manifest.quantization["reduce_range"] for b in built] == [False, True]
    assert [b.manifest.accuracy_gate["measured_with"] for b in built] == ["7-bit weights", "itself"]
    assert [b.manifest.accuracy_gate["top1_agreement"] for b in built] == [
        built[1].manifest.accuracy_gate["top1_agreement"]
    ] * 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["avx2", "avx512_vnni"]


def test_where_the_first_recipe_fails_the_gate_a_more_exact_one_is_taken(
    loud_bert: Path, tmp_path: Path
) -> None:
    options = {"pooling": Pooling.CLS, "sample": _many_names()}
    first = export(loud_bert, tmp_path / "first", **options).manifest
    assert first.quantization["nodes_to_exclude"] == []
    requested = first.accuracy_gate["top1_agreement"] + 0.001
    better = export(loud_bert, tmp_path / "better", min_top1=requested, **options).manifest
    assert better.accuracy_gate["top1_agreement"] >= requested
    assert better.quantization["nodes_to_exclude"] or better.quantization["method"] == "weight-only"


def test_auto_keeps_a_bundle_that_passes_and_tells_what_it_raced(
    loud_bert: Path, tmp_path: Path
) -> None:
    bundle = export(loud_bert, tmp_path / "bundle", precision=None, sample=NAMES, min_top1=0.9)
    gate = bundle.manifest.accuracy_gate
    assert gate["top1_agreement"] >= 0.9
    assert "none" in gate["strings_per_second"]
    assert bundle.manifest.quantization["method"] in gate["strings_per_second"]


def test_fp16_weights_halve_the_file_and_keep_the_vectors(loud_bert: Path, tmp_path: Path) -> None:
    full = export(loud_bert, tmp_path / "full", precision=Precision.FP32)
    half = export(loud_bert, tmp_path / "half", precision=Precision.FP16_WEIGHTS)
    np.testing.assert_allclose(
        Encoder.open(half).encode(NAMES), Encoder.open(full).encode(NAMES), atol=5e-3
    )
    sizes = [sum(v.nbytes for v in _constants(bundle).values()) for bundle in (half, full)]
    assert sizes[0] < 0.6 * sizes[1]


def test_half_weights_are_held_to_the_gate(tmp_path: Path) -> None:
    # In float16 all words become equal; in float32, layer normalization compensates.
    folder = scaled(tiny_checkpoint(tmp_path / "model"), 1e-7, part="_embeddings")
    export(folder, tmp_path / "full", precision=Precision.FP32, sample=NAMES, min_top1=1.0)
    with pytest.raises(AccuracyGateError, check=about("model", hint="--precision")):
        export(folder, tmp_path / "half", precision=Precision.FP16_WEIGHTS, sample=NAMES)


@pytest.mark.parametrize(
    ("recipe", "pooling"),
    [
        (Recipe(method=Method.NONE), "mean"),
        (STATIC, "mean"),
        (STATIC, "cls"),
        (replace(STATIC, nodes_to_exclude=("/body/encoder/layer.0/output/dense/MatMul",)), "mean"),
        (Recipe(method=Method.WEIGHT_ONLY, block_size=128), "mean"),
        (Recipe(method=Method.WEIGHT_ONLY, block_size=32), "mean"),
        (Recipe(method=Method.WEIGHT_ONLY, block_size=16), "mean"),
    ],
    ids=["fp32", "static", "static-cls", "static-in-part", "128", "32", "16"],
)
def test_a_vector_does_not_depend_on_its_batch(
    loud_bert: Path, tmp_path: Path, recipe: Recipe, pooling: str
) -> None:
    assert recipe.batch_invariant
    bundle = export(loud_bert, tmp_path / "bundle", recipe=recipe, pooling=Pooling(pooling))
    nodes = onnx.load(bundle.model_path).graph.node
    assert {node.name for node in nodes if node.op_type == "MatMul"} >= set(recipe.nodes_to_exclude)
    encoder = Encoder.open(bundle)
    together_ND = encoder.encode(NAMES)
    for order in (list(reversed(NAMES)), NAMES[::2], [*NAMES, "pain " * 60]):
        rows = [i for i, name in enumerate(order) if name in NAMES]
        wanted_ND = together_ND[[NAMES.index(order[i]) for i in rows]]
        np.testing.assert_allclose(encoder.encode(order)[rows], wanted_ND, atol=1e-6)
    alone_ND = np.stack([encoder.encode([name])[0] for name in NAMES])
    np.testing.assert_allclose(alone_ND, together_ND, atol=1e-6)


def test_a_recipe_that_says_that_a_vector_depends_on_its_batch_is_right(
    loud_bert: Path, tmp_path: Path
) -> None:
    recipe = Recipe(method=Method.DYNAMIC, reduce_range=OVERFLOWS)
    bundle = export(loud_bert, tmp_path / "bundle", recipe=recipe)
    assert bundle.manifest.quantization["batch_invariant"] is False
    encoder = Encoder.open(bundle)
    alone_ND = np.stack([encoder.encode([name])[0] for name in NAMES])
    assert np.abs(encoder.encode(NAMES) - alone_ND).max() > 1e-4


def _constants(bundle: Bundle) -> dict[str, np.ndarray]:
    tensors = onnx.load(bundle.model_path).graph.initializer
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in tensors}


def _many_names() -> list[str]:
    def pairs() -> Iterator[str]:
        for one in NAMES:
            for two in NAMES[:10]:
                yield f"{one} {two}"

    return list(pairs())


@pytest.mark.parametrize("reduced", [False, True])
@pytest.mark.parametrize("cpu", list(Target))
def test_where_full_weights_would_overflow_they_are_multiplied_without_a_sign(
    loud_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpu: Target, reduced: bool
) -> None:
    target = Target.AVX2 if reduced else Target.AVX512_VNNI
    bundle = export(loud_bert, tmp_path / "bundle", target=target)
    assert bundle.manifest.quantization["reduce_range"] == reduced
    plain_ND = Encoder.open(bundle).encode(NAMES)
    opened = []

    class Watched(onnxruntime.InferenceSession):
        def __init__(self, model: str, options: onnxruntime.SessionOptions, **more: object) -> None:
            opened.append(options)
            super().__init__(model, options, **more)

    monkeypatch.setattr(session.onnxruntime, "InferenceSession", Watched)
    monkeypatch.setattr(session, "detect_cpu", lambda: cpu)
    vectors_ND = Encoder.open(bundle).encode(NAMES)
    (options,) = opened
    if reduced or cpu in {Target.AVX512_VNNI, Target.ARM64}:
        with pytest.raises(RuntimeError, match="x64quantprecision"):
            options.get_session_config_entry("session.x64quantprecision")
    else:
        assert options.get_session_config_entry("session.x64quantprecision") == "1"
    if not OVERFLOWS:
        np.testing.assert_array_equal(vectors_ND, plain_ND)
