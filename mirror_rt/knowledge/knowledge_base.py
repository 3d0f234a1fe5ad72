"""The knowledge base that users hold: build it once, open it anywhere, link and search."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from mirror_rt.bundle import MANIFEST, Bundle, Manifest
from mirror_rt.errors import ConfigError, InputError, KnowledgeBaseError
from mirror_rt.knowledge import doors, linker, store
from mirror_rt.knowledge.catalogue import Catalogue
from mirror_rt.knowledge.combination import Combination
from mirror_rt.knowledge.doors import Pool
from mirror_rt.knowledge.index import EXACT_LIMIT, Index
from mirror_rt.knowledge.lexical import NgramIndex
from mirror_rt.knowledge.mentions import abbreviations, composite_parts
from mirror_rt.knowledge.normalise import normalise
from mirror_rt.knowledge.tuning import RECALL
from mirror_rt.knowledge.wording import Wording
from mirror_rt.staging import check_target
from mirror_rt.textfiles import lone_surrogate
from mirror_rt.types import Candidate, Embedder, Entity, IndexKind

if TYPE_CHECKING:
    from mirror_rt.types import Float32

__all__ = ["KnowledgeBase"]

_AT_ONCE = 1_024
_WIDEST = 8_192
"""Names looked at when few entities have the types asked for; then fewer than asked are given."""


class KnowledgeBase:
    """Entities, their names and the vectors of the names, in one folder opened read-only.

    Attributes:
        path: The folder.
        manifest: What the folder says of itself.
        catalogue: Entities and names.
        index: The vectors and what finds the nearest.
        ngrams: The door of letters.
        wording: Which words stand for each other.
        combination: How the doors' evidence is weighed.
    """

    def __init__(
        self,
        path: Path,
        manifest: store.KnowledgeBaseManifest,
        *,
        catalogue: Catalogue,
        index: Index,
        ngrams: NgramIndex,
        wording: Wording,
        combination: Combination,
        encoder: Embedder | None,
    ) -> None:
        self.path = path
        self.manifest = manifest
        self.catalogue = catalogue
        self.index = index
        self.ngrams = ngrams
        self.wording = wording
        self.combination = combination
        self._encoder = encoder

    @classmethod
    def build(
        cls,
        bundle: str | Path | Bundle,
        entities: str | Path | Iterable[Entity],
        out: str | Path,
        *,
        encoder: Embedder | None = None,
        index: IndexKind = IndexKind.AUTO,
        exact_limit: int = EXACT_LIMIT,
        recall: float = RECALL,
        force: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> KnowledgeBase:
        """Build a knowledge base and open it.

        Args:
            bundle: What embeds the names; the knowledge base keeps its own copy.
            entities: A file in any format of ``knowledge.formats``, or entities; pieces with
                the same id are one entity, so a repeated id with another name is an alias.
            out: The folder to make.
            encoder: The opened bundle, where there is one already.
            index: The kind of index.
            exact_limit: Up to so many distinct names, ``AUTO`` means ``EXACT``.
            recall: Share of the true ten nearest names that an HNSW index is tuned to find.
            force: Whether ``out`` may be replaced.
            progress: Called with (names embedded, names).

        Raises:
            ConfigError: ``recall`` is out of range.
            TargetError: ``out`` exists and ``force`` is not set.
            BundleError: The bundle cannot be used.
            InputError: The entities cannot be read or stored; the message names the place.
        """
        if not 0.0 < recall <= 1.0:
            raise ConfigError(f"recall must be above 0 and at most 1, got {recall}")
        out = Path(out)
        check_target(out, force=force, folder=True)
        opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        if encoder is None:
            encoder = _open_encoder(opened)
        store.write_store(
            opened,
            _read(entities),
            out,
            encoder=encoder,
            kind=index,
            exact_limit=exact_limit,
            recall=recall,
            force=force,
            progress=progress,
        )
        return cls.open(out, encoder=encoder, verify=False)

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        bundle: str | Path | Bundle | None = None,
        encoder: Embedder | None = None,
        verify: bool | None = None,
    ) -> KnowledgeBase:
        """Open a knowledge base; reads no vectors and starts no model.

        Args:
            path: The folder.
            bundle: A bundle that must be the one the knowledge base was built with.
            encoder: The opened bundle, where there is one already.
            verify: Whether to hash the files; see ``store.check_files``.

        Raises:
            KnowledgeBaseError: It is not whole, has changed, is of a newer format, or was
                built with another bundle.
        """

        def whole(manifest: store.KnowledgeBaseManifest) -> KnowledgeBase:
            return cls._open(Path(path), manifest, bundle=bundle, encoder=encoder, verify=verify)

        return store.read_unchanged(Path(path), whole)

    @classmethod
    def _open(
        cls,
        folder: Path,
        manifest: store.KnowledgeBaseManifest,
        *,
        bundle: str | Path | Bundle | None,
        encoder: Embedder | None,
        verify: bool | None,
    ) -> KnowledgeBase:
        store.check_files(folder, manifest, verify=verify)
        own = Bundle(
            path=folder / store.BUNDLE, manifest=Manifest.read(folder / store.BUNDLE / MANIFEST)
        )
        if own.fingerprint != manifest.bundle:
            raise KnowledgeBaseError(
                f"{folder}: its bundle is not the one it was built with; build it again"
            )
        if bundle is not None:
            given = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
            if given.fingerprint != manifest.bundle:
                raise KnowledgeBaseError(
                    f"{folder}: was not built with {given.path}; leave --bundle out, or build "
                    "the knowledge base again"
                )
        vectors_ND = store.open_vectors(folder)
        index = Index.open(folder / store.INDEX, vectors_ND)
        if "efSearch" in manifest.index:
            index.set_breadth(int(manifest.index["efSearch"]))
        return cls(
            folder,
            manifest,
            catalogue=Catalogue.open(folder / store.CATALOGUE),
            index=index,
            ngrams=NgramIndex.open(folder),
            wording=Wording.open(folder),
            combination=Combination.read(folder / store.COMBINATION),
            encoder=encoder,
        )

    @property
    def encoder(self) -> Embedder:
        """The encoder of its own bundle, opened when it is first needed."""
        if self._encoder is None:
            self._encoder = _open_encoder(Bundle.open(self.path / store.BUNDLE))
        return self._encoder

    def link(
        self,
        mentions: Sequence[str],
        *,
        top: int = 5,
        precision: float | None = None,
        min_probability: float = 0.0,
        types: Sequence[str] = (),
        document: str | None = None,
        composites: bool = False,
    ) -> list[list[Candidate]]:
        """Propose entities for each mention.

        A mention that is a name in the knowledge base, letter for letter or but for Unicode
        form, case, punctuation and spaces, gives the entities that bear it, all of them if it
        is ambiguous, and asks no model. For any other the names nearest by vector, by letters
        and by words are gathered and judged together.

        Args:
            mentions: The strings; empty ones, and ones of punctuation only, link to nothing.
            top: How many entities at most for a mention that is not a name.
            precision: Leave only mentions linked whose best candidate has the probability at
                which links were right that often, on the links the probabilities came from.
            min_probability: Leave only mentions linked whose best candidate has this
                probability; the holders of an ambiguous name count together.
            types: Propose only entities that have one of these types.
            document: The text that the mentions are from: a mention that it defines as an
                abbreviation is read as what it stands for.
            composites: Whether to split a mention that is no name at "and", "or" and commas;
                its candidates are then those of each part, one part after another.

        Returns:
            For each mention its candidates, best first; none for a mention that links to
            nothing (NIL).

        Raises:
            ConfigError: ``top`` is not positive, the precision cannot be promised, or no entity
                has one of the types.
            InputError: A mention holds a lone surrogate; the message gives its place.
        """
        least = min_probability
        if precision is not None:
            least = max(least, self.combination.threshold(precision))
        for type_ in types:
            if not self.catalogue.has_type(type_):
                raise ConfigError(f"no entity of {self.path} has the type {type_!r}")
        asked = _distinct(mentions, top)
        if document is not None or composites:
            again = partial(
                self.link,
                top=top,
                precision=precision,
                min_probability=min_probability,
                types=types,
            )
            return self._link_read(mentions, again, document=document, composites=composites)
        answers = {
            text: linker.by_name(text, self.catalogue, self.combination, types=types)
            for text in asked
        }
        unknown = [text for text, found in answers.items() if not found]
        unknown = [text for text in unknown if linker.has_content(text)]
        for start in range(0, len(unknown), _AT_ONCE):
            some = unknown[start : start + _AT_ONCE]
            vectors_QD = self.encoder.encode([text.strip() for text in some])
            pools = self.gather(some, vectors_QD, width=max(doors.WIDTH, 2 * top))
            for i, (text, pool) in enumerate(zip(some, pools, strict=True)):
                width, most = len(pool.rows_K), len(self.index.vectors_ND)
                if types:
                    most = min(most, _WIDEST)
                judged = partial(
                    linker.judge,
                    text,
                    catalogue=self.catalogue,
                    combination=self.combination,
                    top=top,
                    types=types,
                )
                found = judged(pool=pool)
                # An entity of many names may fill the pool alone: gather until there are enough.
                while len(found) < top and width < most:
                    width = min(4 * width, most)
                    found = judged(pool=self.gather([text], vectors_QD[i : i + 1], width=width)[0])
                answers[text] = found
        return [
            list(answers[text]) if linker.confidence(answers[text]) >= least else []
            for text in mentions
        ]

    def _link_read(
        self,
        mentions: Sequence[str],
        link: Callable[[Sequence[str]], list[list[Candidate]]],
        *,
        document: str | None,
        composites: bool,
    ) -> list[list[Candidate]]:
        defined = abbreviations(document) if document else {}
        readings: list[tuple[str, ...]] = []
        for mention in mentions:
            read = defined.get(mention.strip(), mention)
            named = self.catalogue.by_name(normalise(read))
            readings.append(composite_parts(read) if composites and not named else (read,))
        parts = list(dict.fromkeys(part for reading in readings for part in reading))
        answers = dict(zip(parts, link(parts), strict=True))
        return [
            [
                found if part == mention else replace(found, read_as=part)
                for part in reading
                for found in answers[part]
            ]
            for mention, reading in zip(mentions, readings, strict=True)
        ]

    def search(self, queries: Sequence[str], *, top: int = 10) -> list[list[Candidate]]:
        """Find the entities with the nearest names, always by vectors alone.

        Args:
            queries: The strings; empty ones find nothing.
            top: How many entities at most.

        Raises:
            ConfigError: ``top`` is not positive.
            InputError: A query holds a lone surrogate; the message gives its place.
        """
        distinct = _distinct(queries, top)
        answers: dict[str, list[Candidate]] = {text: [] for text in distinct}
        asked = [text for text in distinct if linker.has_content(text)]
        for start in range(0, len(asked), _AT_ONCE):
            some = asked[start : start + _AT_ONCE]
            vectors_QD = self.encoder.encode([text.strip() for text in some])
            found = linker.by_vectors(vectors_QD, self.catalogue, self.index, top=top)
            answers.update(zip(some, found, strict=True))
        return [list(answers[text]) for text in queries]

    def gather(
        self, mentions: Sequence[str], vectors_QD: Float32, *, width: int = doors.WIDTH
    ) -> list[Pool]:
        """Gather the names that might be meant, with the evidence for each.

        Args:
            mentions: Q texts.
            vectors_QD: (Q, D) float32 unit rows, their vectors.
            width: How many names to take from each door.
        """
        return doors.gather(
            [normalise(text) for text in mentions],
            vectors_QD,
            self.catalogue,
            self.index,
            self.ngrams,
            self.wording,
            width=width,
        )

    def close(self) -> None:
        """Give the files back."""
        self.catalogue.close()

    def __enter__(self) -> KnowledgeBase:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _read(entities: str | Path | Iterable[Entity]) -> Iterable[Entity]:
    if isinstance(entities, (str, Path)):
        from mirror_rt.knowledge.formats import read_entities

        return read_entities(entities)
    return entities


def _open_encoder(bundle: Bundle) -> Embedder:
    from mirror_rt.runtime.encoder import Encoder

    return Encoder.open(bundle)


def _distinct(texts: Sequence[str], top: int) -> list[str]:
    if top < 1:
        raise ConfigError(f"top must be at least 1, got {top}")
    if isinstance(texts, str):  # a string is a sequence of strings, a letter each
        raise ConfigError(f"give a list of strings, as in [{texts[:40]!r}], not one string")
    for i, text in enumerate(texts):
        if lone_surrogate(text) is not None:
            raise InputError(f"text {i + 1}: holds a lone surrogate; it is not valid text")
    return list(dict.fromkeys(texts))
