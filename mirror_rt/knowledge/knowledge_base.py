"""The knowledge base that users hold: build it once, open it anywhere, link and search."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, cast

from mirror_rt.bundle import MANIFEST, Bundle, Manifest
from mirror_rt.errors import ConfigError, InputError, KnowledgeBaseError
from mirror_rt.knowledge import answering, doors, store
from mirror_rt.knowledge.catalogue import Catalogue
from mirror_rt.knowledge.choosing import EXACT_LIMIT, Choice
from mirror_rt.knowledge.combination import Combination
from mirror_rt.knowledge.doors import Pool
from mirror_rt.knowledge.filters import Allowed, allow, conditions, nearest
from mirror_rt.knowledge.index import Index
from mirror_rt.knowledge.lexical import NgramIndex
from mirror_rt.knowledge.normalise import normalise
from mirror_rt.knowledge.tuning import RECALL
from mirror_rt.knowledge.wording import Wording
from mirror_rt.knowledge.workers import LEAST, Workers
from mirror_rt.staging import check_target
from mirror_rt.textfiles import lone_surrogate
from mirror_rt.types import Answer, Candidate, Embedder, Entity, IndexKind, Passage

if TYPE_CHECKING:
    from mirror_rt.knowledge.filters import Conditions, Filters
    from mirror_rt.types import Float32, Int64

__all__ = ["KnowledgeBase"]

_FILTERS_KEPT = 8


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
        workers: The processes that judge mentions beside this one, if any were asked for.
        profiles: Vectors of entities that a context was compared with, by id.
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
        self.profiles: dict[str, Float32] = {}
        self.workers: Workers | None = None
        self._encoder = encoder
        self._allowed: dict[Conditions, Allowed] = {}

    @classmethod
    def build(
        cls,
        bundle: str | Path | Bundle,
        entities: str | Path | Iterable[Entity] | Iterable[Passage],
        out: str | Path,
        *,
        passages: bool = False,
        split: int | None = None,
        encoder: Embedder | None = None,
        index: IndexKind = IndexKind.AUTO,
        exact_limit: int = EXACT_LIMIT,
        memory: int | None = None,
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
            passages: Whether ``entities`` are passages, or a file of them (see
                ``passages.read_passages``): the folder then is for ``search`` alone.
            split: Embed passages in pieces of so many words.
            encoder: The opened bundle, where there is one already.
            index: The kind of index.
            exact_limit: Up to so many distinct names, ``AUTO`` means ``EXACT``.
            memory: Bytes that an index chosen by ``AUTO`` may take when it is searched; by
                default half of what is available here.
            recall: Share of the true ten nearest names that the index is tuned to find.
            force: Whether ``out`` may be replaced.
            progress: Called with (names embedded, names).

        Raises:
            ConfigError: ``recall`` or ``split`` is out of range.
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
        with store.alone(out) if out.is_dir() else nullcontext():
            store.write_store(
                opened,
                _read_passages(entities, split) if passages else _read(entities),
                out,
                encoder=encoder,
                choice=Choice(kind=index, exact_limit=exact_limit, memory=memory),
                recall=recall,
                force=force,
                holds=store.PASSAGES if passages else store.NAMES,
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
        workers: int = 1,
    ) -> KnowledgeBase:
        """Open a knowledge base; reads no vectors and starts no model.

        Args:
            path: The folder.
            bundle: A bundle that must be the one the knowledge base was built with.
            encoder: The opened bundle, where there is one already.
            verify: Whether to hash the files whole; see ``store.check_files``.
            workers: Processes that judge the mentions of a ``link`` of many; they are started
                by the first such. A script that asks for several has its work under
                ``if __name__ == "__main__":``, as they read it anew.

        Raises:
            ConfigError: ``workers`` is not positive.
            KnowledgeBaseError: It is not whole, has changed, is of a newer format, or was
                built with another bundle.
        """

        def whole(manifest: store.KnowledgeBaseManifest) -> KnowledgeBase:
            return cls._open(Path(path), manifest, bundle=bundle, encoder=encoder, verify=verify)

        if workers < 1:
            raise ConfigError(f"workers must be at least 1, got {workers}")
        kb = store.read_unchanged(Path(path), whole)
        if workers > 1:
            kb.workers = Workers(kb.path, kb.manifest, workers)
        return kb

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
        index = Index.open(folder / store.INDEX, vectors_ND, manifest.index)
        return cls(
            folder,
            manifest,
            index=index,
            ngrams=NgramIndex.open(folder),
            wording=Wording.open(folder),
            combination=Combination.read(folder / store.COMBINATION),
            # The last, for it holds a file: nothing may go wrong between its opening and the end.
            catalogue=Catalogue.open(folder / store.CATALOGUE),
            encoder=encoder,
        )

    @property
    def encoder(self) -> Embedder:
        """The encoder of its own bundle, opened when it is first needed.

        Raises:
            KnowledgeBaseError: The folder was replaced by one of another bundle meanwhile.
        """
        if self._encoder is None:
            self._encoder = _open_encoder(store.open_bundle(self.path, self.manifest.bundle))
        return self._encoder

    def link(
        self,
        mentions: Sequence[str],
        *,
        top: int = 5,
        precision: float | None = None,
        min_probability: float = 0.0,
        types: Sequence[str] = (),
        filters: Filters | None = None,
        document: str | Sequence[str] | None = None,
        composites: bool = False,
        contexts: Sequence[str] | None = None,
    ) -> list[Answer]:
        """Propose entities for each mention.

        A mention that is a name in the knowledge base, letter for letter or but for Unicode
        form, case, punctuation and spaces, gives the entities that bear it, all of them if it
        is ambiguous, and asks no model. For any other the names nearest by vector, by letters
        and by words are gathered and judged together.

        Args:
            mentions: The strings; empty ones, and ones of punctuation only, link to nothing.
            top: How many entities at most for a mention that is not a name; all that are tied
                with the best one are given, so ``top`` does not decide whether it is linked.
            precision: Leave only mentions linked whose best candidate has the probability at
                which links were right that often, on the links the probabilities came from.
                Before a calibration there is no match by name among these, and none is left
                out for it.
            min_probability: Leave only mentions linked whose best candidate has this
                probability; candidates tied with it count together. At 0 every mention is
                linked that is not empty or punctuation, however improbable its candidates.
            types: Propose only entities that have one of these types: ``filters={"type": …}``.
            filters: Propose only entities that meet these conditions; see ``filters``.
            document: The text that the mentions are from, or one for each mention: a mention
                that its text defines as an abbreviation is read as what it stands for.
            composites: Whether to split a mention that is no name at "and", "or" and commas;
                its candidates are then those of each part, one part after another. If a part
                links to nothing, the answer has the reason beside the candidates of others.
            contexts: For each mention the text around it, such as its sentence, or an empty
                string. It decides the order of candidates whose probabilities are close (see
                ``context.by_context``); with ``top`` below 5, among the best five.

        Returns:
            For each mention its candidates, best first; none for a mention that links to
            nothing (NIL), with the reason.

        Raises:
            ConfigError: ``top`` is not positive, the precision cannot be promised, the
                probability is none, no entity meets the filters, or there is not a context or
                document for each mention.
            InputError: A mention is no string, or it or a context holds a lone surrogate; the
                message gives its place.
            KnowledgeBaseError: The folder holds passages, or workers cannot do their part (see
                ``workers.Workers.judged``).
        """
        answering.check_names(self)
        answering.check(mentions, top)
        if contexts is not None:
            answering.check_contexts(contexts, mentions)
        least = least_by_name = min_probability
        if not 0.0 <= least <= 1.0:
            raise ConfigError(f"min_probability must be between 0 and 1, got {least}")
        if precision is not None:
            least = max(least, self.combination.threshold(precision))
            least_by_name = least if self.combination.judges_names else least_by_name
        return answering.link(
            self,
            mentions,
            answering.read_mentions(self, mentions, document=document, composites=composites),
            contexts,
            top=top,
            least=least,
            least_by_name=least_by_name,
            allowed=self.allowed(types=types, filters=filters),
        )

    def search(
        self,
        queries: Sequence[str],
        *,
        top: int = 10,
        hybrid: bool | None = None,
        types: Sequence[str] = (),
        filters: Filters | None = None,
    ) -> list[Answer]:
        """Find the entities with the nearest names, or the passages nearest to the queries.

        Args:
            queries: The strings; empty ones find nothing.
            top: How many entities or passages at most.
            hybrid: Whether to go by vectors and letters together (see ``hybrid.by_both``)
                rather than by vectors alone; by default for passages only.
            types: Find only entities that have one of these types.
            filters: Find only entities that meet these conditions; see ``filters``.

        Raises:
            ConfigError: ``top`` is not positive, or no entity meets the filters.
            InputError: A query holds a lone surrogate; the message gives its place.
        """
        answering.check(queries, top)
        return answering.search(
            self,
            queries,
            top=top,
            hybrid=self.manifest.holds == store.PASSAGES if hybrid is None else hybrid,
            allowed=self.allowed(types=types, filters=filters),
        )

    def entity(self, id_: str) -> Entity:
        """Look an entity up by its id, or by an alternative one (merged, obsolete).

        Args:
            id_: The id; an entity whose own it is goes before those that list it.

        Raises:
            InputError: The id is no string or holds a lone surrogate, no entity has it, or
                several list it; the message names them.
            KnowledgeBaseError: The folder holds passages.
        """
        answering.check_names(self)
        if not isinstance(id_, str):
            raise InputError(f"an id is a string, not {id_!r}")
        if lone_surrogate(id_) is not None:
            raise InputError(f"the id {id_!r} holds a lone surrogate; it is not valid text")
        numbers = self.catalogue.resolve(id_)
        if not numbers:
            raise InputError(
                f"{self.path}: no entity has the id {id_!r}; look it up by name with link"
            )
        if len(numbers) > 1:
            ids = [own for own, _ in self.catalogue.headings(numbers).values()]
            more = f" and {len(ids) - 3:,} more" if len(ids) > 3 else ""
            raise InputError(
                f"{self.path}: {id_!r} is an alternative id of {', '.join(ids[:3])}{more}; "
                "give the id of one of them"
            )
        return self.catalogue.entity(numbers[0])

    def allowed(
        self, *, types: Sequence[str] = (), filters: Filters | None = None
    ) -> Allowed | None:
        """Look up who meets filters; None where there are none. The last few are remembered.

        Raises:
            ConfigError: No entity meets them, or one has a value that no entity has.
        """
        wanted = conditions(types, filters)
        if not wanted:
            return None
        found = self._allowed.get(wanted)
        if found is None:
            rows = len(self.index.vectors_ND)
            found = allow(wanted, self.catalogue, rows=rows, path=self.path)
            if len(self._allowed) >= _FILTERS_KEPT:
                self._allowed.clear()
            self._allowed[wanted] = found
        return found

    def gather(
        self,
        mentions: Sequence[str],
        vectors_QD: Float32,
        *,
        width: int = doors.WIDTH,
        near_QK: Int64 | None = None,
        allowed: Allowed | None = None,
    ) -> list[Pool]:
        """Gather the names that might be meant, with the evidence for each.

        Args:
            mentions: Q texts.
            vectors_QD: (Q, D) float32 unit rows, their vectors.
            width: How many names to take from each door.
            near_QK: (Q, K) int64 rows of the dense door, if it was asked already.
            allowed: Whose names to take; None for all.
        """
        return doors.gather(
            [normalise(text) for text in mentions],
            vectors_QD,
            self.catalogue,
            self.index,
            self.ngrams,
            self.wording,
            width=width,
            near_QK=near_QK,
            allowed=allowed,
        )

    def judged(
        self,
        mentions: Sequence[str],
        vectors_QD: Float32,
        *,
        top: int,
        allowed: Allowed | None = None,
    ) -> list[list[Candidate]]:
        """Gather and judge the names that might be meant, on the workers if there are any.

        Args:
            mentions: Q texts that are no names.
            vectors_QD: (Q, D) float32 unit rows, their vectors.
            top: How many entities at most for each; more where they are tied with the best.
            allowed: Who may be proposed; None for all.

        Returns:
            The candidates of each text, best first.

        Raises:
            KnowledgeBaseError: As ``workers.Workers.judged`` says.
        """
        # Searched here, all at once, with workers and without: it takes every core, and products
        # of many rows differ in their last bits from those of few.
        near_QK = nearest(self.index, vectors_QD, top=doors.WIDTH, allowed=allowed).rows_QK
        if self.workers is None or len(mentions) < LEAST:
            return answering.judged(self, mentions, vectors_QD, near_QK, top=top, allowed=allowed)
        return self.workers.judged(
            mentions,
            vectors_QD,
            near_QK,
            top=top,
            wanted=() if allowed is None else allowed.wanted,
            combination=self.combination,
        )

    def close(self) -> None:
        """Give the files back, and end the workers."""
        try:
            if self.workers is not None:
                self.workers.close()
        finally:
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


def _read(entities: str | Path | Iterable[Entity] | Iterable[Passage]) -> Iterable[Entity]:
    if isinstance(entities, (str, Path)):
        from mirror_rt.knowledge.formats import read_entities

        return read_entities(entities)
    return cast("Iterable[Entity]", entities)


def _read_passages(
    given: str | Path | Iterable[Entity] | Iterable[Passage], split: int | None
) -> Iterable[Entity]:
    from mirror_rt.knowledge.passages import as_entities, read_passages

    found = read_passages(given) if isinstance(given, (str, Path)) else given
    return as_entities(cast("Iterable[Passage]", found), split=split)


def _open_encoder(bundle: Bundle) -> Embedder:
    from mirror_rt.runtime.encoder import Encoder

    return Encoder.open(bundle)
