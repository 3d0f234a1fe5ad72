import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from mirror_rt.errors import ConfigError, InputError, KnowledgeBaseError
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.types import Entity, MatchType, Name, NilReason, Relation
from tests.errors import about
from tests.kb import entity

spacy = pytest.importorskip("spacy", reason="the extra spacy is not installed")

from spacy.tokens import Doc, DocBin  # noqa: E402

from mirror_rt.spacy_linker import FACTORY, MirrorLinker, Settings  # noqa: E402

REPOSITORY = Path(__file__).resolve().parent.parent
THINGS = [
    Entity(id="C:1", names=(Name(text="cold"),), description="nose rash cough fever"),
    Entity(id="C:2", names=(Name(text="cold"),), description="red blue small left upper"),
    entity("C:3", "liver cancer", "hepatic carcinoma", types=("disease",)),
    entity("C:4", "short stature"),
]


@pytest.fixture(scope="module")
def kb(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("kb") / "colds"
    KnowledgeBase.build(tiny_bundle, THINGS, out).close()
    return out


BOTH = "liver cancer and short stature"
PATTERNS = ("cold", "Liver Cancer", "SS", "liver tumor", "xyzzy", "!!", BOTH)


def _pipeline(kb: Path, *, sentences: bool = False, **config: object) -> "spacy.Language":
    nlp = spacy.blank("en")
    if sentences:
        nlp.add_pipe("sentencizer")
    ruler = nlp.add_pipe("entity_ruler")
    ruler.add_patterns([{"label": "THING", "pattern": text} for text in PATTERNS])
    nlp.add_pipe(FACTORY, config={"kb": str(kb), **config})
    return nlp


def _linked(doc: Doc) -> list[tuple[str, str]]:
    return [(ent.text, ent.kb_id_) for ent in doc.ents]


def test_entities_get_an_id_and_candidates(kb: Path) -> None:
    doc = _pipeline(kb, top=2)("She has Liver Cancer and a liver tumor, not !!, today.")
    assert _linked(doc)[0] == ("Liver Cancer", "C:3")
    assert [ent.text for ent in doc.ents] == ["Liver Cancer", "liver tumor", "!!"]
    assert {t.ent_kb_id_ for t in doc.ents[0]} == {"C:3"}
    with KnowledgeBase.open(kb) as same:
        expected = same.link([ent.text for ent in doc.ents], top=2)
    assert [ent._.candidates for ent in doc.ents] == expected
    assert doc.ents[0]._.candidates[0].match_type is MatchType.CASE
    assert doc.ents[1].kb_id_ == expected[1][0].entity_id
    assert (doc.ents[2].kb_id_, doc.ents[2]._.candidates.nil_reason) == ("", NilReason.PUNCTUATION)
    assert not doc[0:1]._.candidates


def test_a_threshold_and_filters_leave_entities_unlinked(kb: Path) -> None:
    doc = _pipeline(kb, min_probability=0.9)("Liver Cancer, xyzzy")
    assert _linked(doc) == [("Liver Cancer", "C:3"), ("xyzzy", "")]
    assert doc.ents[1]._.candidates.nil_reason is NilReason.BELOW_THRESHOLD
    doc = _pipeline(kb, filters={"type": ["disease"]})("cold")
    assert [c.entity_id for c in doc.ents[0]._.candidates] == ["C:3"]


def test_each_document_has_its_own_abbreviations(kb: Path) -> None:
    texts = ["The short stature (SS) of SS.", "A cold. Then SS."]
    first, second = _pipeline(kb, min_probability=0.9).pipe(texts)
    assert _linked(first) == [("SS", "C:4"), ("SS", "C:4")]
    assert first.ents[1]._.candidates[0].expanded_form == "short stature"
    assert dict(_linked(second))["SS"] == ""
    (plain,) = _pipeline(kb, min_probability=0.9, abbreviations=False).pipe(texts[:1])
    assert {id_ for _, id_ in _linked(plain)} == {""}


def test_the_sentence_decides_between_entities_with_the_same_name(kb: Path) -> None:
    texts = ["fever rash cough nose cold. Long face.", "red blue small left upper cold. Fever."]
    sentences = ["fever rash cough nose cold.", "red blue small left upper cold."]
    with KnowledgeBase.open(kb) as same:
        expected = same.link(["cold", "cold"], contexts=sentences)
    docs = list(_pipeline(kb, sentences=True).pipe(texts))
    assert [doc.ents[0]._.candidates for doc in docs] == expected
    assert all(c.context_score is not None for c in expected[0])
    for nlp in (_pipeline(kb), _pipeline(kb, sentences=True, context=False)):
        assert [c.context_score for c in nlp(texts[0]).ents[0]._.candidates] == [None, None]


def test_the_parts_of_a_composite_have_an_id_each(kb: Path) -> None:
    (whole,) = _pipeline(kb)(f"She has {BOTH}.").ents
    assert "|" not in whole.kb_id_
    (split,) = _pipeline(kb, split_composites=True)(f"She has {BOTH}.").ents
    assert (split.text, split.kb_id_) == (BOTH, "C:3|C:4")
    with KnowledgeBase.open(kb) as same:
        assert [split._.candidates] == same.link([BOTH], split_composites=True)


def test_documents_of_a_batch_are_linked_in_one_call(
    kb: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nlp = _pipeline(kb)
    one_by_one = [_linked(nlp(text)) for text in ("cold", "no", "Liver Cancer, cold", "SS")]
    calls: list[Sequence[str]] = []
    really = KnowledgeBase.link

    def link(self: KnowledgeBase, mentions: Sequence[str], **how: object) -> object:
        calls.append(mentions)
        return really(self, mentions, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(KnowledgeBase, "link", link)
    docs = nlp.pipe(["cold", "no", "Liver Cancer, cold", "SS"], batch_size=3)
    assert [_linked(doc) for doc in docs] == one_by_one
    assert calls == [["cold", "Liver Cancer", "cold"], ["SS"]]


def test_documents_can_be_serialized(kb: Path) -> None:
    nlp = _pipeline(kb)
    doc = nlp("cold and !!")
    kept = DocBin(docs=[doc], store_user_data=True).to_bytes()
    (again,) = DocBin().from_bytes(kept).get_docs(nlp.vocab)
    for other in (again, Doc(nlp.vocab).from_bytes(doc.to_bytes())):
        assert _linked(other) == _linked(doc)
        found, expected = ([e._.candidates for e in one.ents] for one in (other, doc))
        assert found == expected
        assert [one.to_dict() for one in found] == [one.to_dict() for one in expected]
        assert found[0][0].relation is Relation.EXACT
        assert other.ents[1]._.candidates.nil_reason is NilReason.PUNCTUATION


def test_a_pipeline_is_saved_without_its_knowledge_base(kb: Path, tmp_path: Path) -> None:
    nlp = _pipeline(kb, top=1, min_probability=0.25)
    nlp.to_disk(tmp_path / "nlp")
    assert not list((tmp_path / "nlp").rglob("*.pkl"))
    assert [p.name for p in (tmp_path / "nlp" / FACTORY).iterdir()] == ["settings.json"]
    again = spacy.load(tmp_path / "nlp")
    assert again.get_pipe(FACTORY).settings == nlp.get_pipe(FACTORY).settings
    assert _linked(again("cold, Liver Cancer")) == _linked(nlp("cold, Liver Cancer"))
    moved = tmp_path / "moved"
    kb.rename(moved)
    try:
        with pytest.raises(KnowledgeBaseError, check=about("colds", hint="mirror-rt index")):
            spacy.load(tmp_path / "nlp")
        config = {"components": {FACTORY: {"kb": str(moved)}}}
        again = spacy.load(tmp_path / "nlp", config=config)
        assert again.get_pipe(FACTORY).settings.kb == str(moved)
        assert dict(_linked(again("Liver Cancer"))) == {"Liver Cancer": "C:3"}
    finally:
        moved.rename(kb)


def test_settings_fill_a_component_without_a_knowledge_base(kb: Path, tmp_path: Path) -> None:
    full, empty = MirrorLinker(Settings(kb=str(kb), top=3)), MirrorLinker(Settings())
    full.to_disk(tmp_path / "it")
    assert empty.from_disk(tmp_path / "it").settings == full.settings
    assert MirrorLinker(Settings()).from_bytes(full.to_bytes()).settings == full.settings
    other = MirrorLinker(Settings(kb=str(kb), top=4))
    assert other.from_bytes(full.to_bytes()).settings.top == 4
    with pytest.raises(InputError, check=about("nowhere")):
        MirrorLinker(Settings()).from_disk(tmp_path / "nowhere")
    with pytest.raises(InputError, check=about("mirror_rt_linker")):
        MirrorLinker(Settings()).from_bytes(b'{"kbb": 1}')


def test_another_process_opens_its_own(kb: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = MirrorLinker(Settings(kb=str(kb)))
    before = mine.kb
    assert mine.kb is before
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert mine.kb is not before
    monkeypatch.undo()
    assert pickle.loads(pickle.dumps(mine)).settings == mine.settings


def test_faults_of_the_configuration_are_reported_at_once(kb: Path, tmp_path: Path) -> None:
    for config, error, named, value in (
        ({"kb": str(tmp_path)}, KnowledgeBaseError, str(tmp_path), ""),
        ({"target_precision": 2.0}, ConfigError, "target_precision", "2.0"),
        ({"min_probability": 50.0}, ConfigError, "min_probability", "50.0"),
        ({"wrong_at_most": 2.0}, ConfigError, "wrong_at_most", "2.0"),
        ({"top": 0}, ConfigError, "top", "0"),
        ({"filters": {"type": ["none"]}}, ConfigError, str(kb), "'none'"),
    ):
        with pytest.raises(error, check=about(named, value=value)):
            spacy.blank("en").add_pipe(FACTORY, config={"kb": str(kb), **config})
    nlp = spacy.blank("en")
    nlp.add_pipe("entity_ruler").add_patterns([{"label": "X", "pattern": "cold"}])
    nlp.add_pipe(FACTORY)
    assert nlp("nothing to link").ents == ()
    with pytest.raises(ConfigError, check=about("mirror_rt_linker")):
        nlp("a cold")


def test_spacy_finds_the_component_by_its_entry_point(kb: Path, tmp_path: Path) -> None:
    tomllib = pytest.importorskip("tomllib", reason="in the library from Python 3.11 on")
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    points = project["entry-points"]["spacy_factories"]
    folder = tmp_path / "told-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: told\nVersion: 1\n")
    lines = [f"{name} = {place}" for name, place in points.items()]
    (folder / "entry_points.txt").write_text("\n".join(["[spacy_factories]", *lines, ""]))
    code = (
        "import sys, spacy\n"
        "assert 'mirror_rt' not in sys.modules\n"
        "nlp = spacy.blank('en')\n"
        "assert 'faiss' not in sys.modules\n"
        f"pipe = nlp.add_pipe({FACTORY!r}, config={{'kb': sys.argv[1], 'top': 2}})\n"
        "print(pipe.settings.top)"
    )
    paths = os.pathsep.join([str(tmp_path), str(REPOSITORY)])
    done = subprocess.run(
        [sys.executable, "-c", code, str(kb)],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.strip() == "2", done.stderr
