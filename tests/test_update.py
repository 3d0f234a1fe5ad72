"""Adding to, removing from and updating a knowledge base."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mirror_rt import KnowledgeBase
from mirror_rt.bundle import Bundle
from mirror_rt.errors import InputError, KnowledgeBaseError
from mirror_rt.knowledge import changes, store
from mirror_rt.knowledge.catalogue import Catalogue
from mirror_rt.knowledge.combination import Combination
from mirror_rt.knowledge.lexical import NgramIndex
from mirror_rt.types import Entity, IndexKind
from tests.kb import HEARTS, LetterEncoder, entity, fake_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return fake_bundle(tmp_path_factory.mktemp("bundle") / "bundle")


@pytest.fixture
def kbdir(bundle: Bundle, tmp_path: Path) -> Path:
    KnowledgeBase.build(bundle, HEARTS, tmp_path / "kb", encoder=LetterEncoder()).close()
    return tmp_path / "kb"


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
    change = changes.add(kbdir, more, encoder=encoder)
    assert encoder.asked == ["dwarfism", "fever", "pyrexia"]
    assert change == changes.Change(
        entities_added=1,
        entities_changed=1,
        entities_removed=0,
        entities_joined=0,
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
    change = changes.add(tmp_path / "kb", new, encoder=LetterEncoder())
    assert (change.entities_added, change.entities_joined, change.entities) == (1, 0, 2)
    change = changes.add(
        tmp_path / "kb",
        [entity("X", name, alternative_ids=("Y",)) for name in ("pyrexia", "hot")],
        encoder=LetterEncoder(),
    )
    assert (change.entities_changed, change.entities_joined, change.entities) == (1, 1, 1)
    with pytest.raises(InputError, match="no entity Y"):
        changes.remove(tmp_path / "kb", ["Y"])
    change = changes.remove(tmp_path / "kb", ["X"])
    assert (change.entities_removed, change.entities_joined, change.entities) == (1, -1, 1)
    assert [(e.id, e.name) for e in content(tmp_path / "kb")] == [("Y", "heart")]


def test_what_was_there_already_is_counted_and_is_no_change(kbdir: Path) -> None:
    hot = replace(entity("H:9", "fever"), description="Hot.")
    more = [replace(entity("H:3", "short stature", "dwarfism"), description="Small."), hot]
    encoder = LetterEncoder()
    assert changes.add(kbdir, more, encoder=encoder).entities_changed == 1
    again = changes.add(kbdir, more, encoder=encoder)
    assert (again.entities_added, again.entities_changed, again.names_embedded) == (0, 0, 0)
    assert (again.names_repeated, again.descriptions_left_out) == (3, 0)
    warm = [replace(hot, description="Warm.")]
    other = changes.add(kbdir, warm, encoder=encoder)
    assert (other.entities_changed, other.names_repeated, other.descriptions_left_out) == (0, 1, 1)
    assert content(kbdir)[-1] == hot
    replaced = changes.update(kbdir, warm, encoder=encoder)
    assert (replaced.entities_changed, replaced.names_repeated) == (1, 0)
    assert content(kbdir)[-1:] == warm
    assert changes.update(kbdir, warm, encoder=encoder).entities_changed == 0


def test_update_replaces_an_entity_whole(kbdir: Path) -> None:
    encoder = LetterEncoder()
    change = changes.update(kbdir, [entity("H:5", "autism")], encoder=encoder)
    assert (change.entities_changed, change.entities_added, change.entities) == (1, 0, 5)
    assert encoder.asked == ["autism"]
    assert content(kbdir)[4] == entity("H:5", "autism")
    assert "autism spectrum disorder" not in vectors(kbdir)


def test_remove_takes_the_entity_and_the_names_that_only_it_bore(kbdir: Path) -> None:
    change = changes.remove(kbdir, ["H:1", "H:1"])
    assert (change.entities_removed, change.entities, change.names_embedded) == (1, 4, 0)
    left = vectors(kbdir)
    assert "atrial septal defect" not in left
    assert {"ASD", "hole in the heart"} <= set(left), "other entities bear these too"
    assert [e.id for e in content(kbdir)] == ["H:2", "H:3", "H:4", "H:5"]


def test_what_cannot_be_done_changes_nothing(kbdir: Path, tmp_path: Path) -> None:
    before = content(kbdir)
    with pytest.raises(InputError, match=r"no entity H:8, H:50; nothing removed"):
        changes.remove(kbdir, ["H:1", "H:8", "H:50"])
    with pytest.raises(InputError, match="no entity would be left"):
        changes.remove(kbdir, [e.id for e in before])
    with pytest.raises(InputError, match="control character"):
        changes.add(kbdir, [entity("H:9", "a\0b")], encoder=LetterEncoder())
    with pytest.raises(KnowledgeBaseError, match="no such folder"):
        changes.add(tmp_path / "none", before)
    assert content(kbdir) == before
    change = changes.remove(kbdir, ["H:8", "H:1", "H:50", "H:8"], missing_ok=True)
    assert (change.entities, change.entities_removed, change.ids_missing) == (4, 1, 2)


def test_an_index_kind_that_was_asked_for_stays(bundle: Bundle, tmp_path: Path) -> None:
    KnowledgeBase.build(
        bundle, HEARTS, tmp_path / "kb", encoder=LetterEncoder(), index=IndexKind.HNSW
    ).close()
    changes.remove(tmp_path / "kb", ["H:1"])
    with KnowledgeBase.open(tmp_path / "kb") as kb:
        assert kb.manifest.index["kind"] == "hnsw"


ids = st.sampled_from(["H:1", "H:2", "H:3", "X:1", "X:2"])
words = st.sampled_from(["ASD", "fever", "heart", "small hand", "VSD"])
listed = st.lists(ids, max_size=2).map(tuple)
pieces = st.lists(
    st.builds(entity, ids, words, words, alternative_ids=listed), min_size=1, max_size=6
)
steps = st.lists(st.tuples(st.sampled_from(["add", "update", "remove"]), pieces), max_size=4)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
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
            # One that another has taken in is removed by no id: it is there again without it.
            gone = {e.id for e in given_pieces} & {e.id for e in content(folder / "changed")}
            changes.remove(folder / "changed", sorted(gone), missing_ok=True)
            model = {i: kept for i, kept in model.items() if i not in gone}
            continue
        if verb == "update":
            model.update({e.id: [] for e in given_pieces})
        for e in given_pieces:
            model.setdefault(e.id, []).append(e)
        getattr(changes, verb)(folder / "changed", given_pieces, encoder=encoder)
    flat = [e for kept in model.values() for e in kept]
    KnowledgeBase.build(bundle, flat, folder / "fresh", encoder=encoder).close()
    assert content(folder / "changed") == content(folder / "fresh")
    assert vectors(folder / "changed") == vectors(folder / "fresh")
    for name in ("vectors.npy", "index.faiss"):
        changed, fresh = folder / "changed" / name, folder / "fresh" / name
        assert changed.read_bytes() == fresh.read_bytes()


def test_a_second_change_at_the_same_time_is_told(kbdir: Path) -> None:
    def slowly() -> Iterator[Entity]:
        with pytest.raises(KnowledgeBaseError, match="being changed by another process"):
            changes.remove(kbdir, ["H:1"])
        yield entity("H:9", "fever")

    changes.add(kbdir, slowly(), encoder=LetterEncoder())
    assert [e.id for e in content(kbdir)][-1] == "H:9"


HOLDING = """
import sys
from pathlib import Path
from mirror_rt.knowledge import store

with store.alone(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_change_by_another_process_is_told(kbdir: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(kbdir)],
        cwd=Path(__file__).parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(KnowledgeBaseError, match="being changed by another process"):
            changes.remove(kbdir, ["H:1"])
        other.communicate()
    assert other.returncode == 0
    assert changes.remove(kbdir, ["H:1"]).entities_removed == 1


@pytest.mark.parametrize("lock", ["a folder", "no parent"])
def test_a_lock_that_cannot_be_opened_is_told_from_one_that_is_held(
    tmp_path: Path, lock: str
) -> None:
    folder = tmp_path / "kb"
    match lock:
        case "a folder":
            (tmp_path / ".kb.lock").mkdir()
        case _:
            folder = tmp_path / "gone" / "kb"
    with pytest.raises(KnowledgeBaseError, match=r"its lock .*\.kb\.lock cannot be opened \(.*\)"):
        with store.alone(folder):
            pass


def test_a_build_that_replaces_lets_nobody_in(bundle: Bundle, kbdir: Path) -> None:
    def slowly() -> Iterator[Entity]:
        with pytest.raises(KnowledgeBaseError, match="being changed by another process"):
            changes.remove(kbdir, ["H:1"])
        with pytest.raises(KnowledgeBaseError, match="being changed by another process"):
            KnowledgeBase.build(
                bundle, [entity("X:1", "x")], kbdir, encoder=LetterEncoder(), force=True
            )
        yield entity("H:9", "fever")

    KnowledgeBase.build(bundle, slowly(), kbdir, encoder=LetterEncoder(), force=True).close()
    assert [e.id for e in content(kbdir)] == ["H:9"]


@pytest.mark.parametrize("name", ["ngrams", "combination"])
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
    kind, method = (NgramIndex, "open") if name == "ngrams" else (Combination, "read")
    monkeypatch.setattr(kind, method, broken)
    with pytest.raises(KnowledgeBaseError, match="broken"):
        KnowledgeBase.open(kbdir)
    assert opened == []


KILLED = """
import os, signal, sys
from pathlib import Path
from mirror_rt import staging
from mirror_rt.knowledge import changes, store
from tests.kb import LetterEncoder, entity

def deadly(real, *, before):
    def call(*args, **more):
        done = None if before else real(*args, **more)
        os.kill(os.getpid(), signal.SIGKILL)
        return done
    return call

match sys.argv[2]:
    case "embedding": LetterEncoder.encode = deadly(None, before=True)
    case "index": store.build_index = deadly(store.build_index, before=False)
    case "before the swap": staging._rename2 = deadly(None, before=True)
    case "after the swap": staging._rename2 = deadly(staging._rename2, before=False)
changes.add(Path(sys.argv[1]), [entity("H:9", "fever")], encoder=LetterEncoder())
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
    assert changes.add(kbdir, [entity("H:9", "fever")], encoder=LetterEncoder()).entities == 6


def test_a_reader_keeps_the_old_state_while_a_change_goes_on(kbdir: Path) -> None:
    with KnowledgeBase.open(kbdir, encoder=LetterEncoder()) as reader:
        (before,) = reader.search(["septal defect"], top=2)
        changes.remove(kbdir, ["H:1"])
        (after,) = reader.search(["septal defect"], top=2)
        assert after == before
        assert reader.resources.catalogue.entity(0).id == "H:1"
    with KnowledgeBase.open(kbdir, encoder=LetterEncoder()) as reader:
        assert reader.resources.catalogue.entity(0).id == "H:2"


CHANGED_OFTEN = """
import sys
from pathlib import Path
from mirror_rt.knowledge import changes, store
from tests.kb import LetterEncoder, entity

for _ in range(5):
    changes.add(Path(sys.argv[1]), [entity("H:9", "fever")], encoder=LetterEncoder())
    changes.remove(Path(sys.argv[1]), ["H:9"])
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


@pytest.fixture
def graph(bundle: Bundle, tmp_path: Path) -> Path:
    """A knowledge base of 120 names with a graph for an index, which is costly to build."""
    entities = [entity(f"N:{i}", f"number {i}", f"{i} in digits {i * i}") for i in range(60)]
    KnowledgeBase.build(
        bundle, entities, tmp_path / "graph", encoder=LetterEncoder(), index=IndexKind.HNSW
    ).close()
    return tmp_path / "graph"


def test_a_graph_is_added_to_and_keeps_its_rows(graph: Path) -> None:
    before = np.load(graph / "vectors.npy")
    changes.add(graph, [entity("X:1", "something else")], encoder=LetterEncoder())
    changes.remove(graph, ["N:3", "N:5"], encoder=LetterEncoder())
    after = np.load(graph / "vectors.npy")
    assert after[:-1].tobytes() == before.tobytes()
    with KnowledgeBase.open(graph, encoder=LetterEncoder()) as kb:
        counts = kb.manifest.counts
        assert (counts["entities"], counts["texts"], counts["unused_texts"]) == (59, 121, 4)
        texts = kb.resources.catalogue.texts()
        for row in range(121):
            (hits,) = kb.resources.retrievers.vectors.search(after[row : row + 1].astype(np.float32), top=1).rows_QK
            assert texts[hits[0]] == texts[row]
        for found in (*kb.search(["number 3", "3 in digits 9", "something else"], top=59),):
            ids = [c.entity_id for c in found]
            assert len(set(ids)) == len(ids) == 59, "those removed are not among them"
            assert {"N:3", "N:5"}.isdisjoint(ids)
        (gone, there) = kb.link(["number 5", "Something else"])
        assert "N:5" not in {c.entity_id for c in gone}
        assert there[0].entity_id == "X:1"


def test_a_graph_with_many_unused_rows_is_built_again(graph: Path) -> None:
    changes.remove(graph, [f"N:{i}" for i in range(5)], encoder=LetterEncoder())
    with KnowledgeBase.open(graph) as kb:
        assert (kb.manifest.counts["texts"], kb.manifest.counts["unused_texts"]) == (120, 10)
    changes.update(graph, [entity("N:7", "seven"), entity("N:8", "8")], encoder=LetterEncoder())
    with KnowledgeBase.open(graph) as kb:
        assert (kb.manifest.counts["texts"], kb.manifest.counts["unused_texts"]) == (108, 0)


def test_words_of_removed_names_are_words_of_no_name(graph: Path) -> None:
    changes.remove(graph, ["N:3"], encoder=LetterEncoder())
    with KnowledgeBase.open(graph) as kb:
        assert kb.manifest.counts["unused_texts"] == 2
        assert kb.wording.strange(["3", "4", "digit"]) == {"3"}
        assert [len(kb.resources.catalogue.by_loose(key)) for key in ("3 number", "4 number")] == [0, 1]
        texts = kb.resources.catalogue.text_rows(kb.resources.retrievers.trigrams.nearest("number 3", top=120).tolist())
        assert len(texts) > 50
        assert all(text.holders for text in texts.values())


def test_a_name_that_comes_back_gets_its_row_back(graph: Path) -> None:
    encoder = LetterEncoder()
    changes.remove(graph, ["N:3"], encoder=LetterEncoder())
    back = changes.add(graph, [entity("N:3", "number 3")], encoder=encoder)
    # What it does embed are misspelt names, to learn from.
    assert back.names_embedded == 0
    assert not {"number 3", "3 in digits 9"} & set(encoder.asked)
    with KnowledgeBase.open(graph, encoder=encoder) as kb:
        assert kb.manifest.counts["unused_texts"] == 1
        assert kb.link(["number 3"])[0][0].entity_id == "N:3"
