import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mirror_rt import KnowledgeBase
from mirror_rt.bundle import Bundle, Manifest
from mirror_rt.errors import BundleError, ConfigError, InputError, KnowledgeBaseError, TargetError
from mirror_rt.hashing import sampled_sha256, sha256_file
from mirror_rt.knowledge.storage import integrity
from mirror_rt.knowledge.storage.manifest import FILES, KnowledgeBaseManifest
from mirror_rt.runtime import Encoder
from mirror_rt.types import (
    Embedder,
    Entity,
    IndexKind,
    MatchType,
    Name,
    NameKind,
    NilReason,
    Passage,
)
from tests.conftest import REPOSITORY
from tests.errors import about
from tests.kb import HEARTS, LetterEncoder, entity, fake_bundle, with_numbers

if TYPE_CHECKING:
    from mirror_rt.types import Float32


@pytest.fixture(scope="module")
def bundle(built_hearts: Path) -> Bundle:
    return Bundle.open(built_hearts / "bundle")


@pytest.fixture(scope="module")
def hearts(built_hearts: Path) -> Path:
    return built_hearts / "hearts"


@pytest.fixture
def kb(hearts: Path) -> KnowledgeBase:
    return KnowledgeBase.open(hearts, encoder=LetterEncoder())


def _build(bundle: Bundle, entities: list[Entity], out: Path) -> KnowledgeBase:
    return KnowledgeBase.build(bundle, entities, out, encoder=LetterEncoder())


def _nearest_by_brute_force(
    query: str, entities: list[Entity], encoder: Embedder
) -> list[tuple[str, str, float]]:
    (vector,) = encoder.encode([query])
    best = []
    for thing in entities:
        texts = list(dict.fromkeys(n.text for n in thing.names))
        scores = encoder.encode(texts).astype(np.float16).astype(np.float32) @ vector
        best.append((thing.id, texts[int(scores.argmax())], float(scores.max())))
    return sorted(best, key=lambda item: -item[2])


@pytest.mark.parametrize("query", ["carcinoma hepatic", "septal defects", "statures", "heart hole"])
@pytest.mark.parametrize("kind", [kind for kind in IndexKind if kind is not IndexKind.AUTO])
def test_candidates_are_the_entities_that_brute_force_finds(
    tmp_path: Path, bundle: Bundle, query: str, kind: IndexKind
) -> None:
    kb = KnowledgeBase.build(bundle, HEARTS, tmp_path / "kb", encoder=LetterEncoder(), index=kind)
    (found,) = kb.search([query], top=3)
    expected = _nearest_by_brute_force(query, HEARTS, LetterEncoder())[:3]
    assert [c.score for c in found] == pytest.approx([score for _, _, score in expected], abs=1e-3)
    assert {(c.entity_id, c.matched_name) for c in found} <= {
        (id_, text) for id_, text, _ in _nearest_by_brute_force(query, HEARTS, LetterEncoder())
    }


def test_a_saved_knowledge_base_gives_the_same_answers_when_opened(
    tmp_path: Path, bundle: Bundle
) -> None:
    built = _build(bundle, HEARTS, tmp_path / "kb")
    opened = KnowledgeBase.open(tmp_path / "kb", encoder=LetterEncoder())
    texts = ["liver tumour", "ASD", "short Stature", "", "hole in heart"]
    assert built.link(texts) == opened.link(texts)
    assert built.search(texts) == opened.search(texts)


def test_an_entity_with_two_near_aliases_is_one_candidate(kb: KnowledgeBase) -> None:
    (found,) = kb.link(["cancers of liver"], top=5)
    assert [c.entity_id for c in found].count("H:4") == 1
    assert len(found) == len({c.entity_id for c in found}) == 5
    assert (found[0].entity_id, found[0].entity_name) == ("H:4", "liver cancer")
    assert found[0].match_type is MatchType.WORD_ORDER


def test_a_name_is_found_without_the_model(hearts: Path) -> None:
    encoder = LetterEncoder()
    kb = KnowledgeBase.open(hearts, encoder=encoder)
    (exact,), (folded,) = kb.link(["hepatic carcinoma", "  Hepatic-CARCINOMA!"])
    assert (exact.entity_id, exact.match_type, exact.score) == ("H:4", MatchType.EXACT, 1.0)
    assert (folded.entity_id, folded.match_type, folded.matched_name) == (
        "H:4",
        MatchType.PUNCTUATION,
        "hepatic carcinoma",
    )
    assert encoder.requested == []


def test_all_entities_of_an_ambiguous_name_are_tied(kb: KnowledgeBase) -> None:
    (found,) = kb.link(["ASD"], top=1)
    assert [(c.entity_id, c.tied) for c in found] == [("H:1", True), ("H:5", True)]
    (found,) = kb.link(["asd"], top=1)
    assert [(c.match_type, c.tied) for c in found] == [(MatchType.CASE, True)] * 2


def test_the_same_letters_go_before_the_same_but_for_case(tmp_path: Path, bundle: Bundle) -> None:
    kb = _build(bundle, [entity("1", "aids"), entity("2", "AIDS")], tmp_path / "kb")
    (found,) = kb.link(["AIDS"])
    assert [(c.entity_id, c.match_type, c.tied) for c in found] == [
        ("2", MatchType.EXACT, False),
        ("1", MatchType.CASE, False),
    ]


def test_a_preferred_name_goes_before_an_alias(tmp_path: Path, bundle: Bundle) -> None:
    kb = _build(bundle, [entity("1", "one", "cold"), entity("2", "cold")], tmp_path / "kb")
    assert [c.entity_id for c in kb.link(["cold"])[0]] == ["2", "1"]


@pytest.mark.parametrize("mention", ["", "  ", "\t", "...", "–"])
def test_nothing_links_to_nothing_and_keeps_its_place(kb: KnowledgeBase, mention: str) -> None:
    assert [bool(found) for found in kb.link(["fever", mention, "ASD"])] == [True, False, True]


def test_every_mention_with_a_word_links_without_a_threshold(
    kb: KnowledgeBase,
) -> None:
    (found,), (requested,) = kb.link(["qqqq"]), kb.link(["qqqq"], min_probability=0.5)
    assert (found[0].probability or 0) < 0.5
    assert (list(requested), requested.nil_reason) == ([], NilReason.BELOW_THRESHOLD)


_NO_NAME = {"log_length": 0.0, "short_word": 0.0, "log_word_share": 0.0}


def test_a_name_of_many_is_as_sure_as_a_name_of_one(tmp_path: Path, bundle: Bundle) -> None:
    things = [entity(f"{n}-{i}", f"name of {n}") for n in range(1, 12) for i in range(n)]
    kb = _build(bundle, things, tmp_path / "kb")
    mentions = [f"name of {n}" for n in range(1, 12)]
    with_numbers(kb, name_weights={**_NO_NAME, "constant": 2.5}, fitted_on={"gold_links": 20})
    sure = 1 / (1 + math.exp(-2.5))
    assert [len(found) for found in kb.link(mentions, min_probability=sure)] == list(range(1, 12))
    assert not any(kb.link(mentions, min_probability=sure + 1e-6))


def test_a_threshold_loses_no_exact_match_and_keeps_a_likeness(kb: KnowledgeBase) -> None:
    mentions = ["short stature", "Short Stature", "short statures", "qqqq"]
    found = kb.link(mentions, min_probability=1.0)
    assert [bool(one) for one in found] == [True, True, False, False]
    assert found[2].nil_reason is NilReason.BELOW_THRESHOLD
    with_numbers(kb, fitted_on={"gold_links": 20})
    try:
        assert not any(kb.link(mentions, min_probability=1.0))
    finally:
        with_numbers(kb, fitted_on={})


def test_repeated_mentions_are_encoded_once(hearts: Path) -> None:
    encoder = LetterEncoder()
    found = KnowledgeBase.open(hearts, encoder=encoder).link(["fevers", "x", "fevers"])
    assert found[0] == found[2]
    assert encoder.requested == ["fevers", "x"]


def test_enough_entities_are_found_behind_one_of_many_names(tmp_path: Path, bundle: Bundle) -> None:
    many = entity("many", "red nose", *[f"red nose {i}" for i in range(200)])
    kb = _build(bundle, [many, entity("a", "blue"), entity("b", "green")], tmp_path / "kb")
    assert {c.entity_id for c in kb.link(["red noses"], top=3)[0]} == {"many", "a", "b"}
    assert len(kb.link(["red noses"], top=99)[0]) == 3


def test_names_all_equal_are_one_vector_and_all_tied(tmp_path: Path, bundle: Bundle) -> None:
    kb = _build(bundle, [entity(str(i), "same") for i in range(7)], tmp_path / "kb")
    assert kb.resources.retrievers.vectors.vectors_ND.shape == (1, 48)
    assert [c.tied for c in kb.link(["same"])[0]] == [True] * 7
    assert [c.tied for c in kb.link(["sames"], top=3)[0]] == [True] * 7
    assert [c.tied for c in kb.search(["sames"], top=3)[0]] == [True] * 3


@pytest.mark.parametrize("names", [("Cold", "cold"), ("cold", "cold"), ("common-cold", "cold")])
def test_names_that_differ_in_case_alone_are_tied_however_they_are_found(
    tmp_path: Path, bundle: Bundle, names: tuple[str, str]
) -> None:
    kb = _build(bundle, [*map(entity, "AB", names), entity("C", "fever")], tmp_path / "kb")
    together = names[0].casefold() == names[1]
    for found in (
        kb.link(["colds"], top=1)[0][:2],
        kb.search(["COLD x"], top=2)[0],
        kb.search(["COLD x"], top=2, hybrid=True)[0],
    ):
        assert [c.tied for c in found] == ([True] * 2 if together else [False] * len(found))


def test_top_does_not_decide_whether_a_mention_links(kb: KnowledgeBase) -> None:
    few, many = (kb.link(["holes in the heart"], top=k, min_probability=0.5)[0] for k in (1, 5))
    assert [c.entity_id for c in few] == [c.entity_id for c in many[:2]] == ["H:1", "H:2"]
    assert few.candidates == many[:2]
    assert all(c.tied and (c.probability or 0) < 0.5 for c in few)


def test_a_knowledge_base_without_a_word_answers(tmp_path: Path, bundle: Bundle) -> None:
    kb = _build(bundle, [entity("1", "???")], tmp_path / "kb")
    assert [c.entity_id for c in kb.link(["fever"])[0]] == ["1"]


def test_one_name_alone_is_a_knowledge_base(tmp_path: Path, bundle: Bundle) -> None:
    kb = _build(bundle, [entity("1", "only")], tmp_path / "kb")
    assert [c.entity_id for c in kb.link(["anything"])[0]] == ["1"]


def test_a_long_name_and_other_scripts_are_names_like_any(tmp_path: Path, bundle: Bundle) -> None:
    names = ["long " * 2_000, "متلازمة داون", "ダウン症候群", "e\u0301pilepsie"]
    kb = _build(bundle, [entity(str(i), n) for i, n in enumerate(names)], tmp_path / "kb")
    requested = ["LONG " * 2_000, "متلازمة-داون", "ﾀﾞｳﾝ症候群", "ÉPILEPSIE"]
    assert [found[0].entity_id for found in kb.link(requested)] == ["0", "1", "2", "3"]


def test_a_vector_that_is_not_finite_is_reported(tmp_path: Path, bundle: Bundle) -> None:
    class Spoilt(LetterEncoder):
        def encode(self, texts: Sequence[str]) -> "Float32":
            found = super().encode(texts)
            found[[text == "liver cancer" for text in texts]] = np.nan
            return found

    with pytest.raises(KnowledgeBaseError, check=about(value="'liver cancer'")):
        KnowledgeBase.build(bundle, HEARTS, tmp_path / "kb", encoder=Spoilt())
    assert list(tmp_path.glob("*kb*")) == []


def test_auto_takes_codes_above_the_limit(tmp_path: Path, bundle: Bundle) -> None:
    kb = KnowledgeBase.build(
        bundle, HEARTS, tmp_path / "kb", encoder=LetterEncoder(), exact_limit=3
    )
    assert kb.manifest.index["kind"] == "pq"
    assert kb.link(["liver cancers"])[0][0].entity_id == "H:4"


def test_an_existing_folder_is_refused_and_kept(tmp_path: Path, bundle: Bundle) -> None:
    _build(bundle, HEARTS, tmp_path / "kb")
    before = (tmp_path / "kb/manifest.json").read_bytes()
    with pytest.raises(TargetError, check=about("kb", hint="--force")):
        _build(bundle, HEARTS[:1], tmp_path / "kb")
    assert (tmp_path / "kb/manifest.json").read_bytes() == before
    KnowledgeBase.build(bundle, HEARTS[:1], tmp_path / "kb", encoder=LetterEncoder(), force=True)
    assert KnowledgeBase.open(tmp_path / "kb").manifest.counts["entities"] == 1


def test_a_fault_in_the_entities_leaves_nothing_behind(tmp_path: Path, bundle: Bundle) -> None:
    with pytest.raises(InputError, check=about("H:9")):
        _build(bundle, [*HEARTS, entity("H:9", "")], tmp_path / "kb")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    ["catalogue.sqlite", "vectors.npy", "index.faiss", "reranker.json", "bundle/manifest.json"],
)
def test_a_changed_byte_or_a_missing_file_is_refused(
    tmp_path: Path, hearts: Path, name: str
) -> None:
    copy = tmp_path / "kb"
    shutil.copytree(hearts, copy)
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 0xFF
    (copy / name).write_bytes(content)
    with pytest.raises((KnowledgeBaseError, BundleError), check=about(hint="again")):
        KnowledgeBase.open(copy)
    (copy / name).unlink()
    with pytest.raises((KnowledgeBaseError, BundleError), check=about(value=Path(name).name)):
        KnowledgeBase.open(copy)


class _OtherEncoder(LetterEncoder):
    def encode(self, texts: Sequence[str]) -> "Float32":
        return -super().encode(texts)


@pytest.mark.parametrize("big", [False, True])
def test_files_of_another_bundle_or_catalogue_are_refused_whatever_their_size(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, big: bool
) -> None:
    if big:
        monkeypatch.setattr(integrity, "_HASHED_AT_OPEN", 0)
        monkeypatch.setattr(integrity, "_HASHED_WHOLE", 0)
    things = [entity(f"E:{i}", f"thing {i}", f"object {i}") for i in range(500)]
    turned = [entity(f"E:{i}", f"thing {i}"[::-1], f"object {i}"[::-1]) for i in range(500)]
    KnowledgeBase.build(bundle, things, tmp_path / "kb", encoder=LetterEncoder()).close()
    other = fake_bundle(tmp_path / "bundle", content="another model")
    KnowledgeBase.build(other, things, tmp_path / "a", encoder=_OtherEncoder()).close()
    KnowledgeBase.build(bundle, turned, tmp_path / "b", encoder=LetterEncoder()).close()
    tried = 0
    for name in FILES:
        own = (tmp_path / "kb" / name).read_bytes()
        for foreign in (tmp_path / "a" / name, tmp_path / "b" / name):
            if foreign.read_bytes() == own:
                continue
            tried += len(foreign.read_bytes()) == len(own)
            (tmp_path / "kb" / name).write_bytes(foreign.read_bytes())
            with pytest.raises(KnowledgeBaseError, check=about(name, hint="again")):
                KnowledgeBase.open(tmp_path / "kb")
        (tmp_path / "kb" / name).write_bytes(own)
    assert tried >= 4, "the catalogue, the vectors and the index among them"
    KnowledgeBase.open(tmp_path / "kb").close()


def test_blocks_are_looked_at_from_the_first_byte_to_the_last(tmp_path: Path) -> None:
    size = 1 << 20
    (tmp_path / "f").write_bytes(bytes(size))
    before = sampled_sha256(tmp_path / "f")
    run = size // 15  # as long as a block and the gap to the next one
    for place, length in ((0, 1), (size - 1, 1), *((k * run + 99, run) for k in range(14))):
        content = bytearray(size)
        content[place : place + length] = b"1" * length
        (tmp_path / "f").write_bytes(content)
        assert sampled_sha256(tmp_path / "f") != before, place
    for few in (b"", b"1", bytes(5_000)):
        (tmp_path / "f").write_bytes(few)
        assert sampled_sha256(tmp_path / "f")


@pytest.mark.parametrize("small", [False, True])
def test_a_byte_between_the_blocks_of_a_large_file_is_missed_until_all_is_hashed(
    tmp_path: Path, hearts: Path, monkeypatch: pytest.MonkeyPatch, small: bool
) -> None:
    monkeypatch.setattr(integrity, "_HASHED_AT_OPEN", 0)
    copy = tmp_path / "kb"
    shutil.copytree(hearts, copy)
    manifest = KnowledgeBaseManifest.read(copy)
    file = copy / "spare.bin"
    file.write_bytes(bytes(1 << 20))
    output = {"bytes": 1 << 20, "sha256": sha256_file(file), "sampled_sha256": sampled_sha256(file)}
    replace(manifest, files={**manifest.files, file.name: output}).write(copy / "manifest.json")
    content = bytearray(1 << 20)
    content[30_000] = 1
    file.write_bytes(content)
    if not small:
        monkeypatch.setattr(integrity, "_HASHED_WHOLE", 1 << 19)
        KnowledgeBase.open(copy).close()
    with pytest.raises(KnowledgeBaseError, check=about("spare.bin")):
        KnowledgeBase.open(copy, verify=None if small else True)


def test_a_manifest_without_a_whole_sum_is_not_taken_for_verified(
    tmp_path: Path, hearts: Path
) -> None:
    copy = tmp_path / "kb"
    shutil.copytree(hearts, copy)
    manifest = KnowledgeBaseManifest.read(copy)
    files = {n: {k: f[k] for k in ("bytes", "sampled_sha256")} for n, f in manifest.files.items()}
    replace(manifest, files=files).write(copy / "manifest.json")
    with pytest.raises(KnowledgeBaseError, check=about("catalogue.sqlite")):
        KnowledgeBase.open(copy, verify=True)


@pytest.mark.parametrize(
    ("holder", "name"), [(integrity, "sha256_file"), (Manifest, "read")], ids=["hashed", "bundle"]
)
def test_a_folder_that_is_replaced_while_its_files_are_read_is_read_again(
    tmp_path: Path, hearts: Path, monkeypatch: pytest.MonkeyPatch, holder: object, name: str
) -> None:
    really = getattr(holder, name)
    copy, away = tmp_path / "kb", tmp_path / "away"
    shutil.copytree(hearts, copy)

    def gone_for_a_moment(path: Path) -> object:
        if away.exists():
            return really(path)
        copy.rename(away)
        try:
            return really(path)
        finally:
            shutil.copytree(away, copy)

    monkeypatch.setattr(holder, name, gone_for_a_moment)
    KnowledgeBase.open(copy).close()
    assert away.exists()


def test_a_knowledge_base_without_sums_of_blocks_opens(
    tmp_path: Path, hearts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(integrity, "_HASHED_AT_OPEN", 0)
    copy = tmp_path / "kb"
    shutil.copytree(hearts, copy)
    manifest = KnowledgeBaseManifest.read(copy)
    files = {n: {k: f[k] for k in ("bytes", "sha256")} for n, f in manifest.files.items()}
    replace(manifest, files=files).write(copy / "manifest.json")
    KnowledgeBase.open(copy).close()


def test_a_changed_model_is_refused_when_it_is_needed(tmp_path: Path, hearts: Path) -> None:
    copy = tmp_path / "kb"
    shutil.copytree(hearts, copy)
    (copy / "bundle/model.onnx").write_text("another")
    with pytest.raises(BundleError, check=about("model.onnx")):
        KnowledgeBase.open(copy).link(["unknown"])


def test_another_bundle_is_refused_and_its_own_is_taken(
    tmp_path: Path, hearts: Path, bundle: Bundle
) -> None:
    other = fake_bundle(tmp_path / "other", content="another model")
    with pytest.raises(KnowledgeBaseError, check=about("hearts", hint="--bundle")):
        KnowledgeBase.open(hearts, bundle=other)
    KnowledgeBase.open(hearts, bundle=bundle.path)


def test_a_folder_replaced_by_one_of_another_bundle_is_refused_when_the_model_is_needed(
    tmp_path: Path, bundle: Bundle
) -> None:
    other = fake_bundle(tmp_path / "other", content="another model")
    _build(bundle, HEARTS, tmp_path / "kb").close()
    with KnowledgeBase.open(tmp_path / "kb") as kb:
        encoder = LetterEncoder()
        KnowledgeBase.build(other, HEARTS, tmp_path / "kb", encoder=encoder, force=True).close()
        with pytest.raises(KnowledgeBaseError, check=about("kb")):
            kb.link(["unknown"])


def test_a_newer_format_an_older_one_and_a_folder_of_something_else_are_refused(
    tmp_path: Path, hearts: Path, bundle: Bundle
) -> None:
    copy = tmp_path / "kb"
    shutil.copytree(hearts, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"format_version": 99}))
    with pytest.raises(KnowledgeBaseError, check=about("kb", hint="pip install")):
        KnowledgeBase.open(copy)
    (copy / "manifest.json").write_text(json.dumps(manifest | {"format_version": 1}))
    with pytest.raises(KnowledgeBaseError, check=about("kb", hint="mirror-rt index")):
        KnowledgeBase.open(copy)
    for folder in (bundle.path, tmp_path, tmp_path / "none"):
        with pytest.raises(KnowledgeBaseError, check=about(hint="mirror-rt index")):
            KnowledgeBase.open(folder)


def test_nonsense_questions_are_refused(kb: KnowledgeBase) -> None:
    with pytest.raises(ConfigError, check=about("top")):
        kb.link(["x"], top=0)
    with pytest.raises(InputError, check=about("text 2")):
        kb.link(["x", "\udcff"])
    with pytest.raises(InputError, check=about("text 2")):
        kb.search(["x", float("nan")])  # type: ignore[list-item]
    for nonsense in (95.0, -0.1, float("nan")):
        with pytest.raises(ConfigError, check=about("min_probability")):
            kb.link(["x"], min_probability=nonsense)


def test_the_files_are_the_same_bytes_each_time(tmp_path: Path, bundle: Bundle) -> None:
    for name in ("one", "two"):
        _build(bundle, HEARTS, tmp_path / name)
    files = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*.*"))
    for file in files:
        one, two = ((tmp_path / name / file).read_bytes() for name in ("one", "two"))
        if str(file) == "manifest.json":  # contains the times of searches
            vary = rb'"(search_ms_p\d+|manifest_sha256)": .*'
            one, two = (re.sub(vary, b"", text) for text in (one, two))
        assert one == two


def test_types_restrict_names_and_neighbors(kb: KnowledgeBase) -> None:
    for mention in ("liver cancer", "short", "defect of the septum"):
        assert [c.entity_id for c in kb.link([mention], filters={"type": "growth"})[0]] == ["H:3"]
    assert kb.link(["short stature"], filters={"type": "growth"}) == kb.link(["short stature"])
    with pytest.raises(ConfigError, check=about(value="'nothing'")):
        kb.link(["x"], filters={"type": "nothing"})


def test_a_homonym_of_one_type_is_not_tied(tmp_path: Path, bundle: Bundle) -> None:
    things = [entity("1", "cold", types=("disease",)), entity("2", "cold", types=("weather",))]
    kb = _build(bundle, things, tmp_path / "kb")
    (found,) = kb.link(["cold"], filters={"type": "weather"})
    assert [(c.entity_id, c.tied) for c in found] == [("2", False)]
    (found,) = kb.link(["colds"], filters={"type": "weather"})
    assert [(c.entity_id, c.tied) for c in found] == [("2", False)]


def test_a_build_opens_one_encoder_and_links_with_it(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Encoder] = []
    really = Encoder.open

    def open_counted(bundle: Bundle) -> Encoder:
        opened.append(really(bundle))
        return opened[-1]

    monkeypatch.setattr(Encoder, "open", open_counted)
    with KnowledgeBase.build(tiny_bundle, HEARTS, tmp_path / "kb") as kb:
        (lone,), (beside, _) = kb.search(["fever"]), kb.search(["fever", "cough"])
        assert [c.entity_id for c in lone] == [c.entity_id for c in beside]
        assert [c.score for c in lone] == pytest.approx([c.score for c in beside], abs=1e-5)
        assert opened == [kb.encoder]
        listed: list[object] = []
        monkeypatch.setattr(Encoder, "encode_counted", listed.append)
        kb.link(["a lone unknown mention"])
        assert listed == [], "a single string has a path of its own"


def test_another_kind_of_folder_is_named_as_what_it_is(tmp_path: Path, tiny_bundle: Path) -> None:
    with pytest.raises(KnowledgeBaseError, check=about(hint="mirror-rt index")):
        KnowledgeBase.open(tiny_bundle)
    (tmp_path / "manifest.json").write_text('{"kind": "vectors"}')
    with pytest.raises(KnowledgeBaseError, check=about(hint="mirror-rt index")):
        KnowledgeBase.open(tmp_path)


def test_an_entity_is_looked_up_by_any_of_its_ids(tmp_path: Path, bundle: Bundle) -> None:
    whole = Entity(
        id="A",
        names=(Name(text="cold", kind=NameKind.PREFERRED), Name(text="Schnupfen", language="de")),
        types=("disease",),
        alternative_ids=("B", "BOTH", "OLD"),
        cross_references=("X:1",),
        description="A runny nose.",
    )
    things = [whole, entity("B", "flu", alternative_ids=("BOTH",)), *HEARTS]
    kb = _build(bundle, things, tmp_path / "kb")
    assert kb.entity("A") == kb.entity("OLD") == whole
    assert kb.entity("B").name == "flu", "its own id goes first"
    with pytest.raises(InputError, check=about("kb", value="'C'")):
        kb.entity("C")
    with pytest.raises(InputError, check=about("kb", value="'BOTH'")):
        kb.entity("BOTH")
    for nonsense in ("\ud800", 2**70, ["A"], None):
        with pytest.raises(InputError, check=about(f"id {nonsense!r}")):
            kb.entity(nonsense)  # type: ignore[arg-type]


def test_passages_are_no_entities(tmp_path: Path, bundle: Bundle) -> None:
    texts = [Passage(id="1", text="a runny nose")]
    KnowledgeBase.build(bundle, texts, tmp_path / "kb", encoder=LetterEncoder(), passages=True)
    with pytest.raises(KnowledgeBaseError, check=about("kb")):
        KnowledgeBase.open(tmp_path / "kb").entity("1")


def test_one_string_is_not_taken_for_a_list_of_letters(kb: KnowledgeBase) -> None:
    for ask in (kb.link, kb.search):
        with pytest.raises(ConfigError, check=about(value="'heart'")):
            ask("heart")


READER = """
import json, sys
from mirror_rt import KnowledgeBase
from tests.kb import LetterEncoder

with KnowledgeBase.open(sys.argv[1], encoder=LetterEncoder()) as kb:
    print("open", flush=True)
    found = kb.link(json.loads(sys.stdin.readline()))
    print(json.dumps([[(c.entity_id, c.probability) for c in mine] for mine in found]))
"""


def test_several_processes_link_from_one_folder_that_nobody_may_write(
    tmp_path: Path, hearts: Path, kb: KnowledgeBase
) -> None:
    copy = tmp_path / "kb"
    shutil.copytree(hearts, copy)
    files = sorted(copy.rglob("*"))
    for path in (*files, copy):
        path.chmod(0o555 if path.is_dir() else 0o444)
    mentions = ["ASD", "liver tumour", "septal defects", "short body"]
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", READER, str(copy)],
            cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(3)
    ]  # fmt: skip
    try:
        opened = [reader.stdout.readline() for reader in readers if reader.stdout]
        for reader in readers:  # all have it open, and all are called before any has to answer
            assert reader.stdin is not None
            reader.stdin.write(json.dumps(mentions) + "\n")
            reader.stdin.flush()
        answers = [reader.communicate()[0] for reader in readers]
    finally:
        for path in (copy, *files):
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert opened == ["open\n"] * 3
    expected = [[[c.entity_id, c.probability] for c in mine] for mine in kb.link(mentions)]
    assert [json.loads(answer) for answer in answers] == [expected] * 3
    assert sorted(copy.rglob("*")) == files
