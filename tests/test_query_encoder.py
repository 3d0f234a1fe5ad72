"""Knowledge bases with a teacher for the names and its student for the mentions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mirror_rt import Encoder, KnowledgeBase
from mirror_rt.bundle import PROJECTION, Bundle, seal
from mirror_rt.distillation.static import distil_static
from mirror_rt.errors import BundleError, ConfigError, KnowledgeBaseError
from mirror_rt.knowledge.ranking.learning import fit
from mirror_rt.knowledge.storage.build import own_samples
from mirror_rt.runtime.projected import ProjectedTeacher
from mirror_rt.types import Entity, IndexKind, Name
from mirror_rt_cli.app import app
from tests.test_static import CONFIG, NAMES, spoilt

RUN = CliRunner()
ENTITIES = [Entity(id=f"E{i // 2}", names=(Name(text=name),)) for i, name in enumerate(NAMES[:400])]


@pytest.fixture(scope="module")
def student(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("students") / "student"
    return distil_static(tiny_bundle, NAMES, out, config=CONFIG).path


@pytest.fixture(scope="module")
def folder(tiny_bundle: Path, student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("asymmetric") / "kb"
    KnowledgeBase.build(
        tiny_bundle, ENTITIES, out, query_encoder=student, index=IndexKind.EXACT
    ).close()
    return out


def of_teacher(tiny_bundle: Path, student: Path, texts: list[str]) -> np.ndarray:
    rows = Encoder.open(tiny_bundle).encode(texts) @ np.load(student / PROJECTION)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_names_are_the_teachers_and_mentions_the_students(
    folder: Path, tiny_bundle: Path, student: Path
) -> None:
    with KnowledgeBase.open(folder) as kb:
        texts = kb.resources.catalogue.texts()
        names = of_teacher(tiny_bundle, student, texts)
        stored = np.asarray(kb.resources.retrievers.vectors.vectors_ND, dtype=np.float32)
        np.testing.assert_allclose(stored, names, atol=1e-3)
        requested = [f"{name}s of old" for name in NAMES[:20]]
        scores = Encoder.open(student).encode(requested) @ names.T
        for row, results in enumerate(kb.search(requested, top=1)):
            assert results[0].score == pytest.approx(scores[row].max(), abs=2e-3)
            assert results[0].entity_id in {
                ENTITIES[NAMES.index(texts[place])].id
                for place in np.flatnonzero(scores[row] > scores[row].max() - 2e-3)
            }
        # The student's vectors of the names differ enough for the test to see it.
        assert np.abs(Encoder.open(student).encode(texts) - names).max() > 0.01


def test_the_projection_turns_products_back_into_the_teachers(
    tiny_bundle: Path, student: Path
) -> None:
    teacher = Encoder.open(tiny_bundle)
    projected = ProjectedTeacher(teacher, Bundle.open(student))
    found, whole = projected.encode(NAMES[:50]), teacher.encode(NAMES[:50])
    assert found.shape == (50, 16)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert np.corrcoef((found @ found.T).ravel(), (whole @ whole.T).ravel())[0, 1] > 0.9


def test_weights_are_learned_with_the_students_vectors(folder: Path, student: Path) -> None:
    with KnowledgeBase.open(folder) as kb:
        found = kb.resources
        again = fit(
            own_samples(found.catalogue, found.retrievers, Encoder.open(student), embed=True)
        )
        assert found.reranker.weights == again.weights
        assert found.reranker.weights != fit(
            own_samples(found.catalogue, found.retrievers, Encoder.open(student))
        )
        kb.refit()
        assert kb.resources.reranker.weights == again.weights


def test_the_index_is_tuned_with_the_students_vectors(
    tiny_bundle: Path, student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requested: list[int] = []
    encode = Encoder.encode

    def counted(self: Encoder, texts: list[str], **options: object) -> np.ndarray:
        if self.bundle.path == student:
            requested.append(len(texts))
        return encode(self, texts, **options)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(Encoder, "encode", counted)
    KnowledgeBase.build(
        tiny_bundle, ENTITIES, tmp_path / "kb", query_encoder=student, index=IndexKind.HNSW
    ).close()
    assert requested[0] == len(ENTITIES)  # before anything is learned


def test_the_folder_says_both_and_opens_with_either(
    folder: Path, tiny_bundle: Path, tiny_bundle_int8: Path, student: Path
) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    teacher = Bundle.open(tiny_bundle)
    assert manifest["names_bundle"] == teacher.named
    assert manifest["bundle"] == Bundle.open(student).fingerprint
    for bundle in (student, tiny_bundle):
        KnowledgeBase.open(folder, bundle=bundle).close()
    with pytest.raises(KnowledgeBaseError):
        KnowledgeBase.open(folder, bundle=tiny_bundle_int8)
    output = json.loads(RUN.invoke(app, ["info", str(folder), "--json"]).stdout)
    assert output["names_bundle"]["fingerprint"] == teacher.fingerprint
    assert output["bundle"]["encoder"] == "static"
    assert "names by" in RUN.invoke(app, ["info", str(folder)]).stdout


def test_names_that_are_new_are_refused_and_the_rest_of_a_change_is_not(
    folder: Path, tmp_path: Path
) -> None:
    before = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    with KnowledgeBase.open(folder) as kb:
        with pytest.raises(KnowledgeBaseError):
            kb.add([Entity(id="N1", names=(Name(text="a name that is new"),))])
        assert {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()} == before
        names_bundle = kb.manifest.names_bundle
        report = kb.remove(["E3"])
        assert (report.entities_removed, report.names_embedded) == (1, 0)
        # A name that exists already has its vector.
        name = ENTITIES[20].names[0]
        assert kb.add([Entity(id="N2", names=(name,))]).names_embedded == 0
        assert kb.manifest.names_bundle == names_bundle
        assert {found.entity_id for found in kb.link([name.text])[0]} >= {"E10", "N2"}


def test_what_is_no_student_of_the_bundle_is_refused(
    student: Path, tiny_bundle: Path, tiny_bundle_int8: Path, tmp_path: Path
) -> None:
    def refused(
        query: Path, error: type[Exception], bundle: Path = tiny_bundle, *, passages: bool = False
    ) -> None:
        with pytest.raises(error):
            KnowledgeBase.build(
                bundle, ENTITIES, tmp_path / "kb", query_encoder=query, passages=passages
            )
        assert not (tmp_path / "kb").exists()

    refused(tiny_bundle, ConfigError)
    refused(student, ConfigError, tiny_bundle_int8)
    refused(student, ConfigError, passages=True)
    made = Path(shutil.copytree(student, tmp_path / "none"))
    (made / PROJECTION).unlink()
    seal(made, Bundle.open(student).manifest)
    refused(made, ConfigError)
    wrong = np.load(student / PROJECTION)
    narrow, double = wrong[:, 1:].copy(), wrong.astype(np.float64)
    for label, content in {"narrow": narrow, "nan": wrong * np.nan, "double": double}.items():
        refused(spoilt(student, tmp_path / label, PROJECTION, content), BundleError)


def test_the_command_builds_it_and_links(student: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    source = tmp_path / "kb.tsv"
    source.write_text("id\tname\n" + "".join(f"E{i}\t{n}\n" for i, n in enumerate(NAMES[:60])))
    kb = tmp_path / "kb"
    command = ["index", str(tiny_bundle), str(source), "--out", str(kb), "--query-encoder"]
    done = RUN.invoke(app, [*command, str(student)])
    assert done.exit_code == 0, done.stderr
    linked = RUN.invoke(app, ["link", str(kb), NAMES[5] + "s", "--bundle", str(student)])
    assert json.loads(linked.stdout)["candidates"][0]["entity_id"] == "E5"
    # The student in the folder can be used to build it again.
    done = RUN.invoke(app, [*command, str(kb / "bundle"), "--force"])
    assert done.exit_code == 0, done.stderr
    refused = RUN.invoke(app, [*command, str(tiny_bundle), "--force"])
    assert refused.exit_code == 1
    assert len(refused.stderr.splitlines()) == 1
