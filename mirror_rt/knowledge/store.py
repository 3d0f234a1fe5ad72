"""Write and check the folder of a knowledge base. The layout is in docs/knowledge-base.md."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from mirror_rt.bundle import MANIFEST, Bundle, sha256_file, sha256_of_blocks, sum_of
from mirror_rt.errors import BundleError, KnowledgeBaseError
from mirror_rt.knowledge.catalogue import Catalogue, write_catalogue
from mirror_rt.knowledge.choosing import Choice
from mirror_rt.knowledge.combination import Combination
from mirror_rt.knowledge.fitting import fit, held_out_samples
from mirror_rt.knowledge.index import Index, build_index, may_grow
from mirror_rt.knowledge.lexical import NGRAM_FILES, NgramIndex, write_ngrams
from mirror_rt.knowledge.tuning import RECALL, tune
from mirror_rt.knowledge.wording import WORD_FILES, Wording, write_wording
from mirror_rt.staging import locked, staging_folder
from mirror_rt.types import Embedder, Entity
from mirror_rt.version import VERSION

if TYPE_CHECKING:
    from mirror_rt.types import Float16

__all__ = [
    "BUNDLE",
    "CATALOGUE",
    "COMBINATION",
    "FILES",
    "INDEX",
    "KB_MANIFEST",
    "NAMES",
    "PASSAGES",
    "VECTORS",
    "KnowledgeBaseManifest",
    "alone",
    "check_files",
    "learn",
    "open_bundle",
    "open_vectors",
    "read_unchanged",
    "still",
    "write_store",
]

ReadT = TypeVar("ReadT")
KB_FORMAT_VERSION = 3
KB_MANIFEST = "manifest.json"
CATALOGUE = "catalogue.sqlite"
VECTORS = "vectors.npy"
INDEX = "index.faiss"
COMBINATION = "combination.json"
BUNDLE = "bundle"
NAMES, PASSAGES = "names", "passages"
FILES = (CATALOGUE, VECTORS, INDEX, *NGRAM_FILES, *WORD_FILES)
_ENCODED_AT_ONCE = 16_384
_HELD_OUT = 2_000
_ABSENT = 0.15
_HASHED_AT_OPEN = 256 * 1024 * 1024
_HASHED_WHOLE = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class KnowledgeBaseManifest:
    """What a knowledge base says of itself.

    Attributes:
        bundle: Fingerprint of the bundle that made the vectors.
        dim: Width of a vector.
        counts: What was read, stored and left out (see ``catalogue.Counts``).
        index: The recipe of the index.
        files: Size in bytes, sha256 (hex) and that of sampled blocks (see
            ``bundle.sha256_of_blocks``) of each file outside ``bundle/``.
        holds: ``names`` of entities, or ``passages``.
        made_by: Version of mirror-rt that wrote it.
        format_version: Version of this layout.
    """

    bundle: str
    dim: int
    counts: Mapping[str, int]
    index: Mapping[str, Any]
    files: Mapping[str, Mapping[str, Any]]
    holds: str = NAMES
    made_by: str = ""
    format_version: int = KB_FORMAT_VERSION
    kind: str = field(default="knowledge base")

    def write(self, path: Path) -> None:
        """Write the manifest as JSON with a sum of itself, the same bytes for the same content."""
        content = json.loads(json.dumps(asdict(self)))
        content["self"] = sum_of(content)
        text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> KnowledgeBaseManifest:
        """Read the manifest of a knowledge-base folder.

        Raises:
            KnowledgeBaseError: The folder is missing, not a knowledge base, too new, or its
                manifest has changed since it was written.
        """
        path = folder / KB_MANIFEST
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise KnowledgeBaseError(
                f"{folder}: not a knowledge base (no {KB_MANIFEST}); make one with: mirror-rt index"
            ) from error
        except (OSError, ValueError) as error:
            raise KnowledgeBaseError(
                f"{path}: cannot be read ({error}); build the knowledge base again"
            ) from error
        if not isinstance(content, dict) or content.get("kind") != "knowledge base":
            raise KnowledgeBaseError(
                f"{folder}: {_told(content)}not a knowledge base; make one with: mirror-rt index"
            )
        version = content.get("format_version")
        if not isinstance(version, int) or version > KB_FORMAT_VERSION:
            raise KnowledgeBaseError(
                f"{folder}: knowledge-base format {version}, this version reads up to "
                f"{KB_FORMAT_VERSION}; run: pip install -U mirror-rt"
            )
        if version < KB_FORMAT_VERSION:
            raise KnowledgeBaseError(
                f"{folder}: knowledge-base format {version}, of an older version; "
                "build the knowledge base again"
            )
        if content.get("self", sum_of(content)) != sum_of(content):
            raise KnowledgeBaseError(
                f"{path}: changed since it was built; build the knowledge base again"
            )
        known = {f.name for f in fields(cls)}
        try:
            return cls(**{name: value for name, value in content.items() if name in known})
        except TypeError as error:
            raise KnowledgeBaseError(
                f"{path}: incomplete ({error}); build the knowledge base again"
            ) from error


def _told(content: object) -> str:
    """Say what else a folder with this manifest is, as the start of a sentence."""
    if isinstance(content, dict) and content.get("kind") == "vectors":
        return "is vectors, "
    if isinstance(content, dict) and "pooling" in content:
        return "is a bundle, "
    return ""


def write_store(
    bundle: Bundle,
    entities: Iterable[Entity],
    out: Path,
    *,
    encoder: Embedder,
    choice: Choice,
    recall: float = RECALL,
    force: bool = False,
    grown_from: Path | None = None,
    holds: str = NAMES,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a knowledge-base folder, whole or not at all.

    Args:
        bundle: The bundle behind ``encoder``; copied into the folder.
        entities: The entities, streamed; pieces with the same id are joined.
        out: The folder to make.
        encoder: What makes the vectors.
        choice: The kind of index, or what chooses it.
        recall: Share of the true ten nearest names that the index is tuned to find.
        force: Whether ``out`` may be replaced.
        grown_from: A knowledge base of the same bundle: its strings keep their rows, and its
            index is added to rather than built again if it is of the right kind and has learned
            from enough rows.
        holds: What the folder says that it holds. From passages nothing is learned.
        progress: Called with (strings embedded, strings).

    Raises:
        TargetError: ``out`` exists and ``force`` is not set.
        InputError: An entity cannot be stored; the message names it.
    """
    with staging_folder(out, force=force) as folder:
        first_texts: list[str] = []
        if grown_from is not None:
            with closing(Catalogue.open(grown_from / CATALOGUE)) as before:
                first_texts = before.texts()
        counts = write_catalogue(entities, folder / CATALOGUE, first_texts=first_texts)
        catalogue = Catalogue.open(folder / CATALOGUE)
        vectors_ND = _write_vectors(
            catalogue, folder / VECTORS, rows=counts.texts, encoder=encoder, progress=progress
        )
        index, recipe = _write_index(
            vectors_ND, folder / INDEX, choice=choice, recall=recall, grown_from=grown_from
        )
        write_ngrams(catalogue.normalised_blocks(), folder, rows=counts.texts, names=holds == NAMES)
        if holds == NAMES:
            learn(catalogue, index, folder, encoder)
        else:
            write_wording(catalogue.loose_keys(), iter(()), folder)
            Combination().write(folder / COMBINATION)
        catalogue.close()
        kept = sum((folder / name).stat().st_size for name in FILES)
        recipe["bytes_per_name"] = round(kept / counts.texts)
        _copy_bundle(bundle, folder / BUNDLE)
        KnowledgeBaseManifest(
            bundle=bundle.fingerprint,
            dim=encoder.dim,
            counts=asdict(counts),
            index=recipe,
            files={
                name: {
                    "bytes": (folder / name).stat().st_size,
                    "sha256": sha256_file(folder / name),
                    "sampled": sha256_of_blocks(folder / name),
                }
                for name in FILES
            },
            holds=holds,
            made_by=VERSION,
        ).write(folder / KB_MANIFEST)


def _write_index(
    vectors_ND: Float16,
    path: Path,
    *,
    choice: Choice,
    recall: float,
    grown_from: Path | None,
) -> tuple[Index, dict[str, Any]]:
    kind, asked = choice.settle(*vectors_ND.shape)
    old: Mapping[str, Any] = {}
    if grown_from is not None:
        old = KnowledgeBaseManifest.read(grown_from).index
    grows = may_grow(old, kind, rows=len(vectors_ND))
    built = build_index(
        vectors_ND,
        path,
        kind=kind,
        grown_from=grown_from / INDEX if grown_from is not None and grows else None,
    )
    recipe = {**(old if grows else {}), **built, **asked, "recall": recall}
    index = Index.open(path, vectors_ND, recipe)
    recipe |= tune(index, recall=recall)
    return index.reaching(recipe), recipe


def learn(catalogue: Catalogue, index: Index, folder: Path, encoder: Embedder) -> None:
    """Learn which words stand for each other, then how to weigh the doors, from the names alone.

    The names that the weights are learned from are kept out of the tables of words: the
    tables would know them by heart, and be trusted too much.
    """
    rng = np.random.default_rng(0)
    pairs = catalogue.held_out_pairs(_HELD_OUT, rng)
    held_out = {row for row, _ in pairs}
    write_wording(catalogue.loose_keys(), catalogue.alias_pairs(held_out), folder)
    samples = held_out_samples(
        pairs,
        catalogue,
        index,
        NgramIndex.open(folder),
        Wording.open(folder),
        encoder,
        absent=_ABSENT,
        rng=rng,
    )
    fit(samples).write(folder / COMBINATION)


def _copy_bundle(bundle: Bundle, folder: Path) -> None:
    for name in (MANIFEST, *bundle.manifest.files):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle.path / name, target)


def _write_vectors(
    catalogue: Catalogue,
    path: Path,
    *,
    rows: int,
    encoder: Embedder,
    progress: Callable[[int, int], None] | None,
) -> Float16:
    vectors_ND: Float16 = np.lib.format.open_memmap(
        path, mode="w+", dtype=np.float16, shape=(rows, encoder.dim)
    )
    for start in range(0, rows, _ENCODED_AT_ONCE):
        texts = catalogue.texts(start=start, stop=start + _ENCODED_AT_ONCE)
        found_BD = encoder.encode(texts)
        if not np.isfinite(found_BD).all():
            spoilt = texts[int(np.argmin(np.isfinite(found_BD).all(axis=1)))]
            raise KnowledgeBaseError(
                f"the bundle gives {spoilt[:60]!r} a vector that is not finite; export it again"
            )
        vectors_ND[start : start + len(texts)] = found_BD
        if progress:
            progress(start + len(texts), rows)
    vectors_ND.flush()  # type: ignore[attr-defined]
    return vectors_ND


def check_files(
    folder: Path, manifest: KnowledgeBaseManifest, *, verify: bool | None = None
) -> None:
    """Compare the files of a knowledge base with its manifest.

    Args:
        folder: The knowledge base.
        manifest: Its manifest.
        verify: Whether to hash every file whole rather than, of those above 16 MiB, blocks;
            None: while they are together under 256 MiB (a fraction of a second).

    Raises:
        KnowledgeBaseError: A file is missing, cannot be read or has changed.
    """
    if verify is None:
        verify = sum(int(f["bytes"]) for f in manifest.files.values()) <= _HASHED_AT_OPEN
    for name, expected in manifest.files.items():
        file = folder / name
        try:
            same = file.stat().st_size == expected["bytes"]
            if same and (verify or expected["bytes"] <= _HASHED_WHOLE):
                same = sha256_file(file) == expected.get("sha256")
            elif same and "sampled" in expected:  # a manifest of an earlier version has none
                same = sha256_of_blocks(file) == expected["sampled"]
        except FileNotFoundError as error:
            raise KnowledgeBaseError(
                f"{folder}: {name} is missing; build the knowledge base again"
            ) from error
        except OSError as error:
            raise KnowledgeBaseError(
                f"{file}: cannot be read ({error.strerror}); build the knowledge base again"
            ) from error
        if not same:
            raise KnowledgeBaseError(
                f"{file}: changed since it was built; build the knowledge base again"
            )


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep every other process from changing or replacing a knowledge base meanwhile.

    Raises:
        KnowledgeBaseError: Another one is at it, or the lock cannot be opened.
    """
    # The lock goes with the process that holds it. The file stands beside the folder, as the
    # folder itself is replaced.
    path = folder.absolute().parent / f".{folder.name}.lock"
    with ExitStack() as stack:
        try:
            held = stack.enter_context(locked(path, create=True))
        except OSError as error:
            raise KnowledgeBaseError(
                f"{folder}: its lock {path} cannot be opened ({error}); make it a file you may "
                "write"
            ) from error
        if not held:
            raise KnowledgeBaseError(
                f"{folder}: is being changed by another process; try again when it is done"
            )
        yield


@contextmanager
def still(folder: Path, manifest: KnowledgeBaseManifest) -> Iterator[None]:
    """Be ``alone`` with a knowledge base that is the one that was opened.

    Raises:
        KnowledgeBaseError: Another process is changing it, or has changed it.
    """
    with alone(folder):
        if KnowledgeBaseManifest.read(folder) != manifest:
            raise KnowledgeBaseError(f"{folder}: changed since it was opened; open it again")
        yield


def read_unchanged(
    folder: Path, reading: Callable[[KnowledgeBaseManifest], ReadT], *, attempts: int = 50
) -> ReadT:
    """Read a folder that another process may replace meanwhile: all of one state.

    Args:
        folder: The knowledge base.
        reading: Opens what it needs, given the manifest.
        attempts: How often to begin again if the folder is another one afterwards.

    Raises:
        BundleError, KnowledgeBaseError: As ``reading``, or the folder is replaced all the time.
    """
    for _ in range(attempts):
        before = _state(folder)
        try:
            found = reading(KnowledgeBaseManifest.read(folder))
        except (BundleError, KnowledgeBaseError):
            if _state(folder) == before:
                raise
            continue
        if _state(folder) == before:
            return found
    raise KnowledgeBaseError(f"{folder}: is being replaced all the time; try again later")


def _state(folder: Path) -> tuple[int, ...]:
    """Return what tells a folder from another under its name, even one with the same content."""
    try:
        found = (folder / KB_MANIFEST).stat()
    except OSError:
        return ()
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns)


def open_bundle(folder: Path, fingerprint: str) -> Bundle:
    """Open the bundle in a knowledge base, which must be the one its vectors were made with.

    Raises:
        BundleError: It is not whole.
        KnowledgeBaseError: The folder was replaced by one of another bundle.
    """
    bundle = Bundle.open(folder / BUNDLE)
    if bundle.fingerprint != fingerprint:
        raise KnowledgeBaseError(
            f"{folder}: was replaced by a knowledge base of another bundle; open it again"
        )
    return bundle


def open_vectors(folder: Path) -> Float16:
    """Map the (N, D) float16 vectors of a knowledge base into memory without reading them.

    Raises:
        KnowledgeBaseError: The file is not a float16 matrix.
    """
    try:
        vectors_ND = np.load(folder / VECTORS, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise KnowledgeBaseError(
            f"{folder / VECTORS}: cannot be read ({error}); build the knowledge base again"
        ) from error
    if vectors_ND.dtype != np.float16 or vectors_ND.ndim != 2:
        raise KnowledgeBaseError(
            f"{folder / VECTORS}: not a float16 matrix; build the knowledge base again"
        )
    return np.asarray(vectors_ND)
