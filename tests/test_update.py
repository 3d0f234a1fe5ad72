"""Adding to, removing from and updating a knowledge base."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from mirror_rt import KnowledgeBase
from mirror_rt.bundle import Bundle
from mirror_rt.errors import InputError, KnowledgeBaseError
from mirror_rt.knowledge.arrays import hash_text
from mirror_rt.knowledge.entities.reader import Catalogue
from mirror_rt.knowledge.ranking.reranker import Reranker
from mirror_rt.knowledge.retrieval.trigram_index import TrigramIndex
from mirror_rt.knowledge.storage import integrity
from mirror_rt.knowledge.storage.manifest import CATALOGUE, FILES, RERANKER
from mirror_rt.knowledge.storage.update import UpdateReport
from mirror_rt.knowledge.text.match_levels import token_bag_key
from mirror_rt.types import Embedder, Entity, IndexKind
from mirror_rt_cli.app import app
from tests.errors import about
from tests.kb import HEARTS, LetterEncoder, entity, fake_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return fake_bundle(tmp_path_factory.mktemp("bundle") / "bundle")


@pytest.fixture
def kbdir(bundle: Bundle, tmp_path: Path) -> Path:
    KnowledgeBase.build(bundle, HEARTS, tmp_path / "kb", encoder=LetterEncoder()).close()
    return tmp_path / "kb"


def add(kbdir: Path, entities: Iterable[Entity], *, encoder: Embedder) -> UpdateReport:
    with KnowledgeBase.open(kbdir, encoder=encoder) as kb:
        return kb.add(entities)


def update(kbdir: Path, entities: Iterable[Entity], *, encoder: Embedder) -> UpdateReport:
    with KnowledgeBase.open(kbdir, encoder=encoder) as kb:
        return kb.update(entities)


def remove(kbdir: Path, ids: Sequence[str], *, missing_ok: bool = False) -> UpdateReport:
    with KnowledgeBase.open(kbdir, encoder=LetterEncoder()) as kb:
        return kb.remove(ids, missing_ok=missing_ok)


def content(kbdir: Path) -> list[Entity]:
    with KnowledgeBase.open(kbdir) as kb:
        return list(kb.resources.catalogue.entities())


def vectors(kbdir: Path) -> dict[str, bytes]:
    """Return the stored bytes of each string's vector."""
    with KnowledgeBase.open(kbdir) as kb:
        rows_ND = kb.resources.retrievers.vectors.vectors_ND
        return {text: rows_ND[i].tobytes() for i, text in enumerate(kb.resources.catalogue.texts())}


def test_add_embeds_only_names_that_are_new_and_keeps_every_vector(kbdir: Path) -> None:
    before, encoder = vectors(kbdir), LetterEncoder()
    more = [
        entity("H:3", "short stature", "dwarfism", types=("size",)),
        entity("H:9", "fever", "hole in the heart"),
        entity("H:9", "fever", "pyrexia"),
    ]
    change = add(kbdir, more, encoder=encoder)
    assert encoder.requested == ["dwarfism", "fever", "pyrexia"]
    assert change == UpdateReport(
        entities_added=1,
        entities_changed=1,
        entities_removed=0,
        entities_merged=0,
        entities=6,
        names_embedded=3,
        names_reused=len(before),
        names_repeated=2,
    )
    after = vectors(kbdir)
    assert {text: after[text] for text in before} == before
    by_id = {e.id: e for e in content(kbdir)}
    assert by_id["H:3"].aliases == ("small body height", "dwarfism")
    assert set(by_id["H:3"].types) == {"growth", "size"}
    assert by_id["H:9"].aliases == ("hole in the heart", "pyrexia")
    with KnowledgeBase.open(kbdir, encoder=encoder) as kb:
        (found,) = kb.link(["Pyrexia"])
        assert [c.entity_id for c in found] == ["H:9"]


def test_an_entity_is_not_taken_in_by_one_that_was_read_in_fewer_pieces(
    bundle: Bundle, tmp_path: Path
) -> None:
    old = [entity("Y", name) for name in ("heart", "small hand", "VSD")]
    new = [entity("X", name, alternative_ids=("Y",)) for name in ("fever", "ASD")]
    KnowledgeBase.build(bundle, old, tmp_path / "kb", encoder=LetterEncoder()).close()
    change = add(tmp_path / "kb", new, encoder=LetterEncoder())
    assert (change.entities_added, change.entities_merged, change.entities) == (1, 0, 2)
    change = add(
        tmp_path / "kb",
        [entity("X", name, alternative_ids=("Y",)) for name in ("pyrexia", "hot")],
        encoder=LetterEncoder(),
    )
    assert (change.entities_changed, change.entities_merged, change.entities) == (1, 1, 1)
    with pytest.raises(InputError, check=about("kb")):
        remove(tmp_path / "kb", ["Y"])
    change = remove(tmp_path / "kb", ["X"])
    assert (change.entities_removed, change.entities_merged, change.entities) == (1, -1, 1)
    assert [(e.id, e.name) for e in content(tmp_path / "kb")] == [("Y", "heart")]


def test_what_was_there_already_is_counted_and_is_no_change(kbdir: Path) -> None:
    hot = replace(entity("H:9", "fever"), description="Hot.")
    more = [replace(entity("H:3", "short stature", "dwarfism"), description="Small."), hot]
    encoder = LetterEncoder()
    assert add(kbdir, more, encoder=encoder).entities_changed == 1
    again = add(kbdir, more, encoder=encoder)
    assert (again.entities_added, again.entities_changed, again.names_embedded) == (0, 0, 0)
    assert (again.names_repeated, again.descriptions_left_out) == (3, 0)
    warm = [replace(hot, description="Warm.")]
    other = add(kbdir, warm, encoder=encoder)
    assert (other.entities_changed, other.names_repeated, other.descriptions_left_out) == (0, 1, 1)
    assert content(kbdir)[-1] == hot
    replaced = update(kbdir, warm, encoder=encoder)
    assert (replaced.entities_changed, replaced.names_repeated) == (1, 0)
    assert content(kbdir)[-1:] == warm
    assert update(kbdir, warm, encoder=encoder).entities_changed == 0


@pytest.mark.parametrize(
    "more",
    [
        {"types": ("growth", "size")},
        {"alternative_ids": ("H:30",)},
        {"cross_references": ("X:3",)},
        {"description": "Small."},
        {"fields": (("organ", "bone"), ("organ", "skin"))},
    ],
    ids=lambda more: next(iter(more)),
)
@pytest.mark.parametrize("verb", [add, update])
def test_all_that_an_entity_says_is_its_content(
    kbdir: Path, verb: Callable[..., UpdateReport], more: dict[str, Any]
) -> None:
    changed = replace(HEARTS[2], **more)
    encoder = LetterEncoder()
    for expected in (1, 0):
        report = verb(kbdir, [changed], encoder=encoder)
        assert (report.entities_changed, report.names_embedded) == (expected, 0)
        assert content(kbdir)[2] == changed


def test_an_object_is_the_knowledge_base_it_has_changed(kbdir: Path) -> None:
    with (
        KnowledgeBase.open(kbdir, encoder=LetterEncoder()) as kb,
        KnowledgeBase.open(kbdir, encoder=LetterEncoder()) as other,
    ):
        kb.add([entity("H:9", "fever")])
        assert [c.entity_id for c in kb.link(["fever"])[0]] == ["H:9"]
        assert kb.entity("H:9").name == "fever"
        kb.remove(["H:9"])
        with pytest.raises(InputError, check=about(value="'H:9'")):
            kb.entity("H:9")
        with pytest.raises(KnowledgeBaseError, check=about("kb")):
            other.remove(["H:1"])
        assert other.entity("H:1") == HEARTS[0], "it still has what it opened"
    assert content(kbdir) == HEARTS


def test_update_replaces_an_entity_whole(kbdir: Path) -> None:
    encoder = LetterEncoder()
    change = update(kbdir, [entity("H:5", "autism")], encoder=encoder)
    assert (change.entities_changed, change.entities_added, change.entities) == (1, 0, 5)
    assert encoder.requested == ["autism"]
    assert content(kbdir)[4] == entity("H:5", "autism")
    assert "autism spectrum disorder" not in vectors(kbdir)


def test_remove_takes_the_entity_and_the_names_that_only_it_bore(kbdir: Path) -> None:
    change = remove(kbdir, ["H:1", "H:1"])
    assert (change.entities_removed, change.entities, change.names_embedded) == (1, 4, 0)
    left = vectors(kbdir)
    assert "atrial septal defect" not in left
    assert {"ASD", "hole in the heart"} <= set(left), "other entities bear these too"
    assert [e.id for e in content(kbdir)] == ["H:2", "H:3", "H:4", "H:5"]


def test_what_cannot_be_done_changes_nothing(kbdir: Path, tmp_path: Path) -> None:
    before = content(kbdir)
    with pytest.raises(InputError, check=about("kb")):
        remove(kbdir, ["H:1", "H:8", "H:50"])
    with pytest.raises(InputError, check=about("kb")):
        remove(kbdir, [e.id for e in before])
    with pytest.raises(InputError, check=about("H:9")):
        add(kbdir, [entity("H:9", "a\0b")], encoder=LetterEncoder())
    with pytest.raises(KnowledgeBaseError, check=about("none", hint="mirror-rt index")):
        add(tmp_path / "none", before, encoder=LetterEncoder())
    assert content(kbdir) == before
    change = remove(kbdir, ["H:8", "H:1", "H:50", "H:8"], missing_ok=True)
    assert (change.entities, change.entities_removed, change.ids_missing) == (4, 1, 2)


def test_a_given_kind_of_index_stays(bundle: Bundle, tmp_path: Path) -> None:
    KnowledgeBase.build(
        bundle, HEARTS, tmp_path / "kb", encoder=LetterEncoder(), index=IndexKind.HNSW
    ).close()
    remove(tmp_path / "kb", ["H:1"])
    with KnowledgeBase.open(tmp_path / "kb") as kb:
        assert kb.manifest.index["kind"] == "hnsw"


ids = st.sampled_from(["H:1", "H:2", "H:3", "X:1", "X:2"])
words = st.sampled_from(["ASD", "fever", "heart", "small hand", "VSD"])
listed = st.lists(ids, max_size=2).map(tuple)
pairs = st.tuples(st.sampled_from(["organ", "year"]), words)
further = st.lists(pairs, max_size=2, unique=True).map(tuple)
pieces = st.lists(
    st.builds(entity, ids, words, words, alternative_ids=listed, fields=further),
    min_size=1,
    max_size=6,
)
steps = st.lists(st.tuples(st.sampled_from(["add", "update", "remove"]), pieces), max_size=4)


@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow])
@given(steps)
def test_any_changes_end_in_the_state_of_a_build_from_scratch(
    bundle: Bundle,
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[str, list[Entity]]],
) -> None:
    folder, encoder = tmp_path_factory.mktemp("any"), LetterEncoder()
    KnowledgeBase.build(bundle, HEARTS, folder / "changed", encoder=encoder).close()
    model: dict[str, list[Entity]] = {e.id: [e] for e in HEARTS}
    for verb, given_pieces in steps:
        if verb == "remove":
            # An id that was merged removes nothing; without the other entity it exists again.
            gone = {e.id for e in given_pieces} & {e.id for e in content(folder / "changed")}
            remove(folder / "changed", sorted(gone), missing_ok=True)
            model = {i: kept for i, kept in model.items() if i not in gone}
            continue
        if verb == "update":
            model.update({e.id: [] for e in given_pieces})
        for e in given_pieces:
            model.setdefault(e.id, []).append(e)
        {"add": add, "update": update}[verb](folder / "changed", given_pieces, encoder=encoder)
    flat = [e for kept in model.values() for e in kept]
    KnowledgeBase.build(bundle, flat, folder / "fresh", encoder=encoder).close()
    assert content(folder / "changed") == content(folder / "fresh")
    assert vectors(folder / "changed") == vectors(folder / "fresh")
    for name in {*FILES, RERANKER} - {CATALOGUE}:
        changed, fresh = folder / "changed" / name, folder / "fresh" / name
        assert changed.read_bytes() == fresh.read_bytes()


def test_a_second_change_at_the_same_time_is_an_error(kbdir: Path) -> None:
    def slowly() -> Iterator[Entity]:
        with pytest.raises(KnowledgeBaseError, check=about("kb")):
            remove(kbdir, ["H:1"])
        yield entity("H:9", "fever")

    add(kbdir, slowly(), encoder=LetterEncoder())
    assert [e.id for e in content(kbdir)][-1] == "H:9"


HOLDING = """
import sys
from pathlib import Path
from mirror_rt.knowledge.storage import integrity

with integrity.exclusive_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_change_by_another_process_is_an_error(kbdir: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(kbdir)],
        cwd=Path(__file__).parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(KnowledgeBaseError, check=about("kb")):
            remove(kbdir, ["H:1"])
        other.communicate()
    assert other.returncode == 0
    assert remove(kbdir, ["H:1"]).entities_removed == 1


@pytest.mark.parametrize("lock", ["a folder", "no parent"])
def test_a_lock_that_cannot_be_opened_has_another_error_than_one_that_is_held(
    tmp_path: Path, lock: str
) -> None:
    folder = tmp_path / "kb"
    match lock:
        case "a folder":
            (tmp_path / ".kb.lock").mkdir()
        case _:
            folder = tmp_path / "gone" / "kb"
    with pytest.raises(KnowledgeBaseError, check=about("kb")):
        with integrity.exclusive_lock(folder):
            pass


def test_a_build_that_replaces_lets_nobody_in(bundle: Bundle, kbdir: Path) -> None:
    def slowly() -> Iterator[Entity]:
        with pytest.raises(KnowledgeBaseError, check=about("kb")):
            remove(kbdir, ["H:1"])
        with pytest.raises(KnowledgeBaseError, check=about("kb")):
            KnowledgeBase.build(
                bundle, [entity("X:1", "x")], kbdir, encoder=LetterEncoder(), force=True
            )
        yield entity("H:9", "fever")

    KnowledgeBase.build(bundle, slowly(), kbdir, encoder=LetterEncoder(), force=True).close()
    assert [e.id for e in content(kbdir)] == ["H:9"]


@pytest.mark.parametrize("name", ["trigrams", "reranker"])
def test_a_knowledge_base_that_cannot_be_opened_leaves_no_file_open(
    kbdir: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    opened: list[Catalogue] = []
    real = Catalogue.open

    def counted(path: Path) -> Catalogue:
        opened.append(real(path))
        return opened[-1]

    def broken(path: Path) -> None:
        raise KnowledgeBaseError("broken")

    monkeypatch.setattr(Catalogue, "open", counted)
    kind, method = (TrigramIndex, "open") if name == "trigrams" else (Reranker, "read")
    monkeypatch.setattr(kind, method, broken)
    with pytest.raises(KnowledgeBaseError, check=about(value="broken")):
        KnowledgeBase.open(kbdir)
    assert opened == []


KILLED = """
import os, signal, sys
from mirror_rt import KnowledgeBase
from mirror_rt.knowledge.storage import build
from mirror_rt.staging import writing
from tests.kb import LetterEncoder, entity

def deadly(real, *, before):
    def call(*args, **more):
        done = None if before else real(*args, **more)
        os.kill(os.getpid(), signal.SIGKILL)
        return done
    return call

match sys.argv[2]:
    case "embedding": LetterEncoder.encode = deadly(None, before=True)
    case "index": build.build_index = deadly(build.build_index, before=False)
    case "before the swap": writing.rename2 = deadly(None, before=True)
    case "after the swap": writing.rename2 = deadly(writing.rename2, before=False)
KnowledgeBase.open(sys.argv[1], encoder=LetterEncoder()).add([entity("H:9", "fever")])
"""


@pytest.mark.parametrize("when", ["embedding", "index", "before the swap", "after the swap"])
def test_a_kill_at_any_moment_leaves_the_old_state_or_the_new_and_no_lock(
    kbdir: Path, when: str
) -> None:
    before = content(kbdir)
    died = subprocess.run(
        [sys.executable, "-c", KILLED, str(kbdir), when],
        cwd=Path(__file__).parent.parent,
        timeout=120,
    )
    assert died.returncode == -signal.SIGKILL
    swapped = when == "after the swap" and sys.platform == "linux"
    assert content(kbdir) == ([*before, entity("H:9", "fever")] if swapped else before)
    assert add(kbdir, [entity("H:9", "fever")], encoder=LetterEncoder()).entities == 6


def test_a_reader_keeps_the_old_state_while_a_change_goes_on(kbdir: Path) -> None:
    with KnowledgeBase.open(kbdir, encoder=LetterEncoder()) as reader:
        (before,) = reader.search(["septal defect"], top=2)
        remove(kbdir, ["H:1"])
        (after,) = reader.search(["septal defect"], top=2)
        assert after == before
        assert reader.resources.catalogue.entity(0).id == "H:1"
    with KnowledgeBase.open(kbdir, encoder=LetterEncoder()) as reader:
        assert reader.resources.catalogue.entity(0).id == "H:2"


CHANGED_OFTEN = """
import sys
from mirror_rt import KnowledgeBase
from tests.kb import LetterEncoder, entity

kb = KnowledgeBase.open(sys.argv[1], encoder=LetterEncoder())
for _ in range(5):
    kb.add([entity("H:9", "fever")])
    kb.remove(["H:9"])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere folders change places in two steps")
def test_who_opens_during_changes_sees_one_state_or_the_other(kbdir: Path) -> None:
    old = content(kbdir)
    new = [*old, entity("H:9", "fever")]
    with subprocess.Popen(
        [sys.executable, "-c", CHANGED_OFTEN, str(kbdir)], cwd=Path(__file__).parent.parent
    ) as other:
        while other.poll() is None:
            assert content(kbdir) in (old, new)
    assert other.returncode == 0
    assert content(kbdir) == old


@pytest.fixture(params=[IndexKind.HNSW, IndexKind.PQ, IndexKind.IVF_PQ], ids=lambda k: k.value)
def learned(bundle: Bundle, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A knowledge base of 120 names with a trained index; rows are appended to it."""
    entities = [entity(f"N:{i}", f"number {i}", f"{i} in digits {i * i}") for i in range(60)]
    out = tmp_path / "learned"
    encoder = LetterEncoder()
    KnowledgeBase.build(bundle, entities, out, encoder=encoder, index=request.param).close()
    return out


def test_a_learned_index_is_added_to_and_keeps_its_rows(learned: Path) -> None:
    before = np.load(learned / "vectors.npy")
    add(learned, [entity("X:1", "something else")], encoder=LetterEncoder())
    remove(learned, ["N:3", "N:5"])
    after = np.load(learned / "vectors.npy")
    assert after[:-1].tobytes() == before.tobytes()
    with KnowledgeBase.open(learned, encoder=LetterEncoder()) as kb:
        counts = kb.manifest.counts
        assert (counts["entities"], counts["texts"], counts["unused_texts"]) == (59, 121, 4)
        texts = kb.resources.catalogue.texts()
        for row in range(121):
            (hits,) = kb.resources.retrievers.vectors.search(
                after[row : row + 1].astype(np.float32), top=1
            ).rows_QK
            assert texts[hits[0]] == texts[row]
        for found in (*kb.search(["number 3", "3 in digits 9", "something else"], top=59),):
            ids = [c.entity_id for c in found]
            assert len(set(ids)) == len(ids) == 59, "those removed are not among them"
            assert {"N:3", "N:5"}.isdisjoint(ids)
        (gone, there) = kb.link(["number 5", "Something else"])
        assert "N:5" not in {c.entity_id for c in gone}
        assert there[0].entity_id == "X:1"


def test_a_learned_index_with_many_unused_rows_is_built_again(learned: Path) -> None:
    remove(learned, [f"N:{i}" for i in range(5)])
    with KnowledgeBase.open(learned) as kb:
        assert (kb.manifest.counts["texts"], kb.manifest.counts["unused_texts"]) == (120, 10)
    update(learned, [entity("N:7", "seven"), entity("N:8", "8")], encoder=LetterEncoder())
    with KnowledgeBase.open(learned) as kb:
        assert (kb.manifest.counts["texts"], kb.manifest.counts["unused_texts"]) == (108, 0)


def test_words_of_removed_names_are_words_of_no_name(learned: Path) -> None:
    remove(learned, ["N:3"])
    with KnowledgeBase.open(learned) as kb:
        assert kb.manifest.counts["unused_texts"] == 2
        names, trigrams = kb.resources.names, kb.resources.retrievers.trigrams
        words = names.analyze(["3", "4", "digits"]).tokens
        assert (words < len(names.vocabulary)).tolist() == [False, True, True]
        keys = [hash_text(token_bag_key(text)) for text in ("number 3", "number 4")]
        offsets, _ = names.rows_with_key(np.array(keys))
        assert np.diff(offsets).tolist() == [0, 1]
        ((similar, spelled),) = trigrams.search(
            trigrams.analyze(["number 3"]), top=120, names=names
        )
        for rows in (similar, spelled):
            assert len(rows) > 50
            assert (names.entities_of(rows)[0] > 0).all()


def test_a_name_that_comes_back_gets_its_row_back(learned: Path) -> None:
    encoder = LetterEncoder()
    remove(learned, ["N:3"])
    back = add(learned, [entity("N:3", "number 3")], encoder=encoder)
    # It only embeds misspelled names, to learn from.
    assert back.names_embedded == 0
    assert not {"number 3", "3 in digits 9"} & set(encoder.requested)
    with KnowledgeBase.open(learned, encoder=encoder) as kb:
        assert kb.manifest.counts["unused_texts"] == 1
        assert kb.link(["number 3"])[0][0].entity_id == "N:3"


def _learned(folder: Path, bundle: Bundle, *, encoder: Embedder) -> KnowledgeBase:
    """A knowledge base of enough synonyms to learn weights from."""
    sites = ("liver", "kidney", "heart", "lung", "skin", "eye", "bone", "nose")
    others = ("hepatic", "renal", "cardiac", "pulmonary", "dermal", "ocular", "osseous", "nasal")
    kinds = ("cyst", "abscess", "failure", "stenosis", "atrophy", "injury", "fibrosis", "stone")
    return KnowledgeBase.build(
        bundle,
        [
            entity(f"{site} {kind}", f"{kind} of the {site}", f"{other} {kind}")
            for site, other in zip(sites, others, strict=True)
            for kind in kinds
        ],
        folder,
        encoder=encoder,
    )


def test_what_is_added_or_removed_changes_no_weight_and_no_other_answer(
    bundle: Bundle, tmp_path: Path
) -> None:
    encoder = LetterEncoder()
    requested = [
        "hepatic abscess of",
        "stones of kidneys",
        "ocular atrophies",
        "nasall failure",
        "x",
    ]
    with _learned(tmp_path / "kb", bundle, encoder=encoder) as kb:
        kb.calibrate([(name, frozenset({kb.link([name])[0][0].entity_id})) for name in (
            f"{a} {b} there" for a in ("liver", "heart", "skin", "eye", "bone")
            for b in ("cyst", "stone", "injury", "fibrosis", "abscess")
        )])  # fmt: skip
        before = Reranker.read(kb.path / RERANKER)
        assert before.weights != Reranker().weights
        assert before.fitted_on["gold_links"] == 25
        found = kb.link(requested)
        kb.add([entity("Q:1", "quokka bite", "bite of a quokka"), entity("Q:2", "zebra kick")])
        assert kb.resources.reranker == before
        for old, new in zip(found, kb.link(requested), strict=True):
            assert [c.entity_id for c in new][:3] == [c.entity_id for c in old][:3]
            assert [c.probability for c in new][:1] == pytest.approx(
                [c.probability for c in old][:1], abs=0.02
            )
        kb.remove(["Q:1", "Q:2"])
        assert kb.resources.reranker == before
        assert kb.link(requested) == found
    with KnowledgeBase.open(tmp_path / "kb", encoder=encoder) as kb:
        assert kb.resources.reranker == before


def test_a_refit_is_what_a_build_learns_and_says_what_changed(
    bundle: Bundle, tmp_path: Path
) -> None:
    encoder = LetterEncoder()
    with _learned(tmp_path / "kb", bundle, encoder=encoder) as kb:
        learned = Reranker.read(kb.path / RERANKER)
        assert kb.refit(dry_run=True).changes == {}
        raised = {**learned.weights, "dense_cosine": learned.weights["dense_cosine"] + 1}
        old = replace(learned, weights=raised)
        old.write(kb.path / RERANKER)
    with KnowledgeBase.open(tmp_path / "kb", encoder=encoder) as kb:
        for dry_run in (True, False):
            result = kb.refit(dry_run=dry_run)
            ((name, numbers),) = result.changes.items()
            assert name == "dense_cosine"
            assert numbers == pytest.approx((raised[name], learned.weights[name]), abs=1e-3)
            assert result.samples == learned.fitted_on["samples"]
            assert 0 < result.right_after <= 1
            assert (Reranker.read(kb.path / RERANKER) == learned) is not dry_run
            assert kb.resources.reranker.weights == (old if dry_run else learned).weights
    with KnowledgeBase.open(tmp_path / "kb", encoder=encoder) as kb:
        assert kb.resources.reranker == learned


def test_the_command_says_what_a_refit_changes(tiny_bundle: Path, tmp_path: Path) -> None:
    with KnowledgeBase.build(tiny_bundle, HEARTS, tmp_path / "kb") as kb:
        before = kb.resources.reranker
        nil = before.nil_score + 2
        fitted_on = {"gold_links": 33}
        replace(before, nil_score=nil, fitted_on=fitted_on).write(tmp_path / "kb" / RERANKER)
    for options in (["--dry-run"], []):
        result = CliRunner().invoke(app, ["kb", "refit", str(tmp_path / "kb"), *options])
        assert result.exit_code == 0, result.output
        assert result.stdout.split() == ["nil_score", f"{nil:.3f}", f"{before.nil_score:.3f}"]
        assert "33 gold links" in result.stderr
        with KnowledgeBase.open(tmp_path / "kb") as kb:
            assert (kb.resources.reranker == before) is (not options)
