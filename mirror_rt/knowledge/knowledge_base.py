"""``KnowledgeBase``: build it once, open it anywhere, link and search."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

from mirror_rt._count import counted
from mirror_rt.bundle import Bundle
from mirror_rt.errors import ConfigError, InputError, KnowledgeBaseError
from mirror_rt.hashing import checksum
from mirror_rt.knowledge.decisions import (
    calibrate_on,
    decisions_in,
    feedback_report,
    finish,
    own_calibration,
    store_decisions,
)
from mirror_rt.knowledge.encoders import (
    LazyEncoder,
    MissingEncoder,
    encoders_of,
    open_encoder,
    open_student,
)
from mirror_rt.knowledge.entities.lookup import find_entity
from mirror_rt.knowledge.entities.statistics import KbStatistics, compute_statistics
from mirror_rt.knowledge.formats.given import Entities, entities_of, passages_of
from mirror_rt.knowledge.linking.calibration import CalibrationReport, calibrate
from mirror_rt.knowledge.linking.changes import EarlierLinks, LinkChanges
from mirror_rt.knowledge.linking.explain import Explanation, explain
from mirror_rt.knowledge.linking.feedback import FeedbackReport
from mirror_rt.knowledge.linking.job import LinkReport, link_file, link_table
from mirror_rt.knowledge.linking.linker import link
from mirror_rt.knowledge.linking.resources import LinkOptions, LinkResources
from mirror_rt.knowledge.linking.search import search
from mirror_rt.knowledge.linking.workers import Workers
from mirror_rt.knowledge.opening import open_resources, open_same
from mirror_rt.knowledge.ranking.learning import RefitReport, fit
from mirror_rt.knowledge.ranking.reranker import Reranker
from mirror_rt.knowledge.retrieval.autotune import RECALL
from mirror_rt.knowledge.retrieval.index_selection import EXACT_LIMIT, IndexChoice
from mirror_rt.knowledge.storage import integrity
from mirror_rt.knowledge.storage.build import own_samples, write_knowledge_base
from mirror_rt.knowledge.storage.embedded import embedded_names
from mirror_rt.knowledge.storage.feedback import FeedbackLog
from mirror_rt.knowledge.storage.manifest import (
    BUNDLE,
    NAMES,
    PASSAGES,
    RERANKER,
    KnowledgeBaseManifest,
)
from mirror_rt.knowledge.storage.update import UpdateReport, UpdateSource, merge, remove, rename
from mirror_rt.staging import check_target, staging_file
from mirror_rt.tables import ArrowTable, TableOptions
from mirror_rt.types import (
    Embedder,
    Entity,
    IndexKind,
    LinkResult,
    Passage,
    SearchResult,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from mirror_rt.knowledge.linking.linker import ProposeBatch
    from mirror_rt.knowledge.retrieval.filters import Filters
    from mirror_rt.types import Float32

__all__ = ["KnowledgeBase"]

Progress: TypeAlias = "Callable[[int, int], None]"


class KnowledgeBase:
    """Entities, their names and the vectors of the names, in one folder.

    ``link``, ``search``, ``explain`` and ``entity`` may be called from several threads at once.
    ``add``, ``update``, ``remove``, ``calibrate``, ``refit`` and ``close`` may not be called while
    another thread uses the object. Several processes may open one folder; they share its
    memory-mapped files. If another process changes the folder, an open object keeps the state
    that it opened.

    Attributes:
        path: The folder.
        manifest: The manifest of the folder.
    """

    def __init__(
        self,
        path: Path,
        manifest: KnowledgeBaseManifest,
        resources: LinkResources,
        *,
        encoder: Embedder | None,
        workers: int = 1,
    ) -> None:
        self.path = path
        self.manifest = manifest
        self._resources: LinkResources | None = resources
        self._encoder = encoder
        self._worker_count = workers
        self._workers: Workers | None = None
        if workers > 1:
            opening = partial(open_same, path.absolute(), manifest)
            self._workers = Workers(path, opening, workers)

    def __repr__(self) -> str:
        counts, index = self.manifest.counts, self.manifest.index
        what = "passage" if self.manifest.content_type == PASSAGES else "entity"
        closed = ", closed" if self._resources is None else ""
        return (
            f"<KnowledgeBase {str(self.path)!r}: {counted(counts['entities'], what)}, "
            f"{counted(counts['texts'], 'distinct name')}, {index['kind']} index{closed}>"
        )

    @classmethod
    def build(
        cls,
        bundle: str | Path | Bundle,
        entities: str | Path | ArrowTable | Entities | Iterable[Passage],
        out: str | Path,
        *,
        passages: bool = False,
        split: int | None = None,
        encoder: Embedder | None = None,
        query_encoder: str | Path | Bundle | None = None,
        vectors: str | Path | None = None,
        index: IndexKind = IndexKind.AUTO,
        exact_limit: int = EXACT_LIMIT,
        recall: float = RECALL,
        force: bool = False,
        progress: Progress | None = None,
    ) -> KnowledgeBase:
        """Build a knowledge base and open it.

        Args:
            bundle: The bundle that embeds the names. The knowledge base keeps its own copy.
            entities: A file in any format of ``knowledge.formats``; a table of pandas, Polars
                or Arrow; entities; or dicts with the keys of JSON lines (``id``, ``name``,
                ``aliases`` …). Records with the same id are one entity, so a repeated id with
                another name adds an alias.
            out: The folder to make.
            passages: Whether ``entities`` are passages, or a file of passages (see
                ``formats.passages.read_passages``). The folder is then for ``search`` alone.
            split: Embed passages in pieces of this many words.
            encoder: The encoder of the bundle, if it is already open.
            query_encoder: A static student of ``bundle`` to embed the mentions. Weights and
                probabilities are learned with it, and the folder contains it instead of
                ``bundle``. Names are embedded by ``bundle``, so no name can be added later.
            vectors: A folder of vectors and texts that ``embed`` made with this bundle. Only
                names that are missing there are embedded.
            index: The kind of index.
            exact_limit: Up to this many distinct names, ``AUTO`` means ``EXACT``.
            recall: The target recall of the index, of the true ten nearest names.
            force: Whether ``out`` may be replaced. Its feedback is kept.
            progress: Called with (names embedded, names).

        Raises:
            ConfigError: ``recall`` or ``split`` is out of range, ``vectors`` come from another
                bundle, or ``query_encoder`` is not a student of ``bundle``.
            TargetError: ``out`` exists and ``force`` is not set.
            BundleError: The bundle cannot be used.
            InputError: The entities cannot be read or stored; the message names the place.
        """
        if not 0.0 < recall <= 1.0:
            raise ConfigError(f"recall: must be above 0 and at most 1, got {recall}")
        out = Path(out)
        check_target(out, force=force, folder=True)
        opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        student = None if query_encoder is None else open_student(query_encoder, opened)
        if student is not None and passages:
            raise ConfigError("passages: a student embeds names; leave query_encoder out")
        if encoder is None:
            encoder = open_encoder(opened)
        with (
            integrity.exclusive_lock(out) if out.is_dir() else nullcontext(),
            nullcontext(encoder)
            if vectors is None
            else embedded_names(Path(vectors), opened, encoder) as embedder,
        ):
            log = FeedbackLog.read(out) if force and not passages else FeedbackLog()
            mention_encoder, names_encoder = encoders_of(embedder, student)
            write_knowledge_base(
                student or opened,
                passages_of(entities, split) if passages else log.applied(entities_of(entities)),
                out,
                encoder=mention_encoder,
                names_encoder=names_encoder,
                names_bundle={} if student is None else opened.named,
                choice=IndexChoice(kind=index, exact_limit=exact_limit),
                recall=recall,
                force=force,
                content_type=PASSAGES if passages else NAMES,
                finish=partial(finish, log, encoder=mention_encoder),
                progress=progress,
            )
        return cls.open(out, encoder=encoder if student is None else mention_encoder, verify=False)

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
        """Open a knowledge base. This reads no vectors and loads no model.

        Args:
            path: The folder.
            bundle: A bundle that the knowledge base must have been built with.
            encoder: The encoder of the bundle, if it is already open.
            verify: Whether to hash all bytes of the files; see
                ``storage.integrity.check_files``.
            workers: Processes that score the candidates of many mentions. They start on first
                use. A script with several workers must guard its work by
                ``if __name__ == "__main__":``, as each worker imports the script.

        Raises:
            ConfigError: ``workers`` is not positive.
            KnowledgeBaseError: The folder is incomplete, has changed, has another format, or was
                built with another bundle.
        """
        if workers < 1:
            raise ConfigError(f"workers: must be at least 1, got {workers}")
        manifest, resources = open_resources(Path(path), bundle=bundle, verify=verify)
        return cls(Path(path), manifest, resources, encoder=encoder, workers=workers)

    @property
    def resources(self) -> LinkResources:
        """The resources of linking: the catalogue, the retrievers, the reranker.

        Raises:
            KnowledgeBaseError: The knowledge base is closed.
        """
        if self._resources is None:
            raise KnowledgeBaseError(f"{self.path}: is closed; open it again")
        return self._resources

    @property
    def encoder(self) -> Embedder:
        """The encoder of the bundle in the folder, opened on first use.

        Raises:
            KnowledgeBaseError: The folder was replaced by a knowledge base of another bundle.
        """
        if self._encoder is None:
            self._encoder = open_encoder(integrity.open_bundle(self.path, self.manifest.bundle))
        return self._encoder

    @property
    def opened_encoder(self) -> Embedder | None:
        """The encoder, if it is open already."""
        return self._encoder

    @property
    def checksums(self) -> list[str]:
        """The sha256 of the manifest and of the reranker; all answers depend on these two."""
        # The manifest has the checksums of all files except the reranker.
        return [checksum(asdict(self.manifest)), checksum(asdict(self.resources.reranker))]

    def opener(self) -> Callable[[int], KnowledgeBase]:
        """Return a picklable function that opens this folder with a number of threads."""
        return partial(_open_with_threads, str(self.path.absolute()))

    def _encode(self, texts: Sequence[str]) -> Float32:
        from mirror_rt.runtime.encoder import Encoder

        encoder = self.encoder
        if len(texts) == 1 and isinstance(encoder, Encoder):
            return encoder.encode(texts[0])[None]  # the path for one string is a tenth faster
        return encoder.encode(texts)

    def link(
        self,
        mentions: Sequence[str],
        *,
        top: int = 5,
        target_precision: float | None = None,
        wrong_at_most: float | None = None,
        review_below: float | None = None,
        min_probability: float = 0.0,
        filters: Filters | None = None,
        document: str | Sequence[str] | None = None,
        contexts: Sequence[str] | None = None,
        split_composites: bool = False,
    ) -> list[LinkResult]:
        """Propose entities for each mention.

        A mention that is a name in the knowledge base is an exact match. Unicode form, case,
        punctuation and spaces do not matter. It returns all entities with that name, without the
        model. For any other mention, candidate names are retrieved by vectors, by trigrams, by
        edit distance and by equal words, and reranked together.

        Args:
            mentions: The strings. Empty ones, and ones of punctuation only, link to nothing. Only
                the first ``expansion.MOST_CHARACTERS`` characters of a mention are compared.
            top: The maximum number of entities for a mention without exact match. Entities that
                are tied with the best one are always returned, so ``top`` does not decide
                whether a mention is linked.
            target_precision: The wanted share of right links, such as .95. The mention is for
                review if the confidence in it (see ``types.LinkResult``) is below the one that
                reached this precision on the links that the threshold was learned from, or if
                another entity is tied with the best. Until ``calibrate`` these are held-out
                names, without exact matches: so the threshold applies to exact matches only if
                it was learned from gold links.
            wrong_at_most: The tolerated share of wrong links, such as .05. The mention is for
                review if the confidence in it is below the one that guarantees
                this share with 95 % confidence. The guarantee holds for mentions like those that
                ``calibrate`` set aside with ``reserve``.
            review_below: A mention is also for review below this confidence, or if another
                entity is tied with its best. The default is .5, or 0 if another threshold is
                given.
            min_probability: A mention links to nothing below this confidence. It applies to
                exact matches only if thresholds were learned from gold links, as by
                ``calibrate``. At 0, every mention with letters or digits has candidates.
            filters: Propose only entities that meet these conditions; see
                ``retrieval.filters``.
            document: The text that the mentions come from, or one text for each mention. An
                abbreviation that is defined there is linked by its long form.
            contexts: The text around each mention, such as its sentence, or an empty string. It
                decides the order of candidates with close probabilities, among the best
                ``max(top, 5)``.
            split_composites: Whether to split a mention that is not a name at "and", "or" and
                commas. The result has the candidates of each part, part after part. If a part
                links to nothing, the result has the reason as well.

        Returns:
            The candidates of each mention, best first. A mention that links to nothing (NIL) has
            no candidates, but a reason.

        Raises:
            ConfigError: ``top`` is not positive, the precision was not reached, a probability is
                out of range, no entity meets the filters, or the number of contexts or documents
                differs from the number of mentions.
            InputError: A mention is not a string, or a mention or context contains a lone
                surrogate; the message gives its position.
            KnowledgeBaseError: The folder holds passages, is closed, or the workers failed (see
                ``workers.Workers.propose``).
        """
        return link(
            self._names(),
            mentions,
            self._encode,
            LinkOptions(
                top=top,
                target_precision=target_precision,
                wrong_at_most=wrong_at_most,
                review_below=review_below,
                min_probability=min_probability,
                filters=filters,
                split_composites=split_composites,
            ),
            document=document,
            contexts=contexts,
            propose_batch=self._propose_batch,
        )

    def explain(
        self,
        mentions: Sequence[str],
        *,
        top: int = 5,
        target_precision: float | None = None,
        wrong_at_most: float | None = None,
        review_below: float | None = None,
        min_probability: float = 0.0,
        filters: Filters | None = None,
        document: str | Sequence[str] | None = None,
        contexts: Sequence[str] | None = None,
        split_composites: bool = False,
    ) -> list[Explanation]:
        """Link mentions as ``link`` does, and explain the results.

        Every mention is embedded, even an exact match. The parts of a composite are explained
        one after another, each with its own ranks, even if a part links to nothing. Arguments
        and errors are those of ``link``.
        """
        return explain(
            self._names(),
            mentions,
            self._encode,
            LinkOptions(
                top=top,
                target_precision=target_precision,
                wrong_at_most=wrong_at_most,
                review_below=review_below,
                min_probability=min_probability,
                filters=filters,
                split_composites=split_composites,
            ),
            document=document,
            contexts=contexts,
        )

    def search(
        self,
        queries: Sequence[str],
        *,
        top: int = 10,
        hybrid: bool | None = None,
        filters: Filters | None = None,
    ) -> list[SearchResult]:
        """Find the entities with the nearest names, or the passages nearest to the queries.

        Args:
            queries: The strings; an empty one finds nothing.
            top: The maximum number of entities or passages.
            hybrid: Whether to rank by vectors and trigrams together (``0.8 × dense + 0.2 ×
                lexical``) rather than by vectors alone. The default is True for passages and
                False for entities.
            filters: Find only entities that meet these conditions; see ``retrieval.filters``.

        Raises:
            ConfigError: ``top`` is not positive, or no entity meets the filters.
            InputError: A query contains a lone surrogate; the message gives its position.
            KnowledgeBaseError: The knowledge base is closed.
        """
        passages = self.manifest.content_type == PASSAGES
        return search(
            self.resources,
            queries,
            self._encode,
            top=top,
            hybrid=passages if hybrid is None else hybrid,
            passages=passages,
            filters=filters,
        )

    def entity(self, id_: str) -> Entity:
        """Look up an entity by its id, or by an alternative id (merged, obsolete).

        Args:
            id_: The id. An entity's own id takes precedence over alternative ids.

        Raises:
            InputError: The id is not a string or contains a lone surrogate, no entity has it, or
                several entities list it; the message names them.
            KnowledgeBaseError: The folder holds passages, or is closed.
        """
        return find_entity(self._names().catalogue, id_, path=self.path)

    def link_file(
        self,
        source: str | Path | Sequence[str],
        out: str | Path,
        **options: Any,  # noqa: ANN401
    ) -> LinkReport:
        """Link the mentions of a file into a file, as a job that can be resumed.

        ``out`` appears only when it is complete. After a kill, the same call continues the job.
        The bytes of the result do not depend on that, nor on who links: this process, the
        workers, or a Ray cluster.

        Args:
            source: A file of mentions, ``-``, or the mentions.
            out: A file name with the ending .csv, .tsv, .xlsx, .jsonl, .parquet, .sssom.tsv or,
                for a PubTator file, .pubtator.
            **options: The options of ``linking.job.link_file``: those of ``link``, the columns
                of the file, ``force``, ``engine`` and ``progress``.

        Raises:
            ConfigError: An option does not fit, or ``out`` has an unknown ending.
            InputError: The input is empty or broken; links so far are kept.
            TargetError: ``out`` exists and ``force`` is not set, or another process is writing
                it.
            KnowledgeBaseError: As ``link``.
            OSError: The disk is full.
        """
        self._names()
        return link_file(self, source, out, **options)

    def link_table(
        self,
        table: ArrowTable,
        *,
        column: str | None = None,
        context_column: str | None = None,
        document_column: str | None = None,
        long: bool = False,
        **options: Any,  # noqa: ANN401
    ) -> pa.Table:
        """Link a column of a table of pandas, Polars or Arrow.

        Args:
            table: An object with the Arrow PyCapsule interface (``__arrow_c_stream__``).
            column: The column of the mentions; by default one with a known heading.
            context_column: The column with the text around each mention.
            document_column: The column with the text of each mention's document.
            long: Whether every candidate gets a row, with the number of its mention and its rank.
            **options: The options of ``link``. ``context`` and ``document`` are one text for all
                rows.

        Returns:
            The columns of the table, in order, followed by ``entity_id``, ``entity_name``,
            ``matched_name``, ``match_type`` and ``relation`` (string), ``score`` and
            ``probability`` (float64), ``tied`` (bool), ``expanded_form`` (string; with
            ``split_composites`` or a document), ``context_score`` (float64; with a context),
            ``status`` and ``nil_reason`` (string), and ``candidates`` (a list of structs of
            these fields). With ``long``, ``row`` and ``rank`` (int64) precede them, and there is
            no ``candidates``. A new column gets the prefix ``link_`` if its name exists already.
            Use ``.to_pandas()`` or ``polars.from_arrow`` to convert the result.

        Raises:
            ConfigError: As ``link``, or ``table`` is none of these.
            InputError: The column does not exist, it holds neither text nor numbers, or the
                table cannot be read as Arrow.
            KnowledgeBaseError: As ``link``.
        """
        self._names()
        return link_table(
            self, table, column=column, context_column=context_column,
            document_column=document_column, long=long, **options,
        )  # fmt: skip

    def link_changes(
        self,
        before: str | Path | ArrowTable,
        after: pa.Table,
        *,
        column: str | None = None,
    ) -> LinkChanges:
        """Compare with an earlier result: return the mentions whose link differs.

        ``link_file(…, against=before)`` does the same for a file.

        Args:
            before: The earlier result: a file that was written, or a table in memory.
            after: The result of ``link_table`` now.
            column: The column of the mentions, as for ``link_table``.

        Raises:
            InputError: A result cannot be read or lacks a column, or the two have no mention in
                common.
            ConfigError: ``before`` is plain text.
            KnowledgeBaseError: As ``link``.
        """
        return EarlierLinks(before, self._names().catalogue, column=column).compared_with(after)

    def stats(self) -> KbStatistics:
        """Count the content of the knowledge base.

        Raises:
            KnowledgeBaseError: The folder holds passages, or is closed.
        """
        return compute_statistics(self._names().catalogue.entities())

    def calibrate(
        self,
        gold: Sequence[tuple[str, frozenset[str]]],
        *,
        reserve: float = 0.0,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> CalibrationReport:
        """Fit the probabilities to gold links and store them in the folder.

        The old probabilities stay if the fitted ones are not better on held-out mentions.

        Args:
            gold: Mentions with their right ids; no ids means NIL.
            reserve: The share of the distinct mentions to set aside, not used in the fit.
                ``link(wrong_at_most=…)`` needs them for its guarantee.
            dry_run: Whether to only report, without changing the folder.
            progress: Called with (mentions linked, mentions).

        Raises:
            InputError: There are fewer than 20 mentions to learn from, or one is not valid text.
            KnowledgeBaseError: The folder holds passages, is closed, another process is changing
                it, or has changed it since it was opened.
        """
        reranker, report = calibrate(
            self._names(), gold, self._encode, reserve=reserve, progress=progress
        )
        if not dry_run:
            self._write_reranker(reranker)
        return report

    def refit(self, *, dry_run: bool = False) -> RefitReport:
        """Learn the reranker's weights again from the current names, as a build does.

        ``add``, ``update`` and ``remove`` keep the weights. ``refit`` removes a calibration, as it
        belongs to the old weights; the decisions of ``feedback`` are calibrated on again.

        Args:
            dry_run: Whether to only report, without changing the folder.

        Raises:
            KnowledgeBaseError: The folder holds passages, is closed, another process is changing
                it, or has changed it since it was opened.
        """
        found = self._names()
        samples = own_samples(
            found.catalogue,
            found.retrievers,
            self._lazy,
            embed=bool(self.manifest.names_bundle),
        )
        reranker = fit(samples)
        report = RefitReport.of(found.reranker, reranker, samples)
        if not dry_run:
            self._write_reranker(reranker)
            log = FeedbackLog.read(self.path)
            with integrity.assert_unchanged(self.path, self.manifest):
                calibrate_on(self.resources, log, self.path, encoder=self._lazy)
            self._take_reranker()
        return report

    def _write_reranker(self, reranker: Reranker) -> None:
        with (
            integrity.assert_unchanged(self.path, self.manifest),
            staging_file(self.path / RERANKER, force=True) as path,
        ):
            reranker.write(path)
        self._resources = replace(self.resources, reranker=reranker)

    def feedback(
        self,
        source: str | Path | ArrowTable,
        *,
        aliases: bool = True,
        column: str | None = None,
        table: TableOptions | None = None,
        progress: Progress | None = None,
    ) -> FeedbackReport:
        """Read the decisions of a reviewer: accepted, rejected or corrected links.

        An accepted or corrected mention becomes a name of its entity (kind ``accepted``, source
        ``feedback``). A mention without a right entity is NIL from now on, with the ``nil_reason``
        ``DECIDED``; a name that is added later links it again.

        All decided mentions become gold links in the folder. The probabilities are calibrated on
        them, now and after every change of the knowledge base. Afterwards, the object is the
        changed knowledge base.

        Args:
            source: The reviewed table that ``link_file`` wrote as ``review``, or one with the
                columns ``mention``, ``entity_id``, ``decision`` and ``correct_id``. It is a file
                or a table in memory.
            aliases: Whether mentions become names, or stay NIL.
            column: The column of mentions, if it is not ``mention``.
            table: The options for reading the file.
            progress: Called with (names done, names).

        Raises:
            ConfigError: The column of mentions is not clear.
            InputError: The file cannot be read, an id is unknown, a word is not a decision, or
                rows were changed or contradict each other. Nothing changes in this case.
            KnowledgeBaseError: The folder holds passages, is closed, another process is changing
                it, or has changed it since it was opened.
        """
        resources = self._names()
        before = FeedbackLog.read(self.path)
        after, read = decisions_in(
            source, before, resources, aliases=aliases, column=column, table=table
        )
        return self._decided(before, after, progress, read=read)

    def undo_feedback(self, *, progress: Progress | None = None) -> FeedbackReport:
        """Undo the last call of ``feedback``: remove its names and gold links.

        Raises:
            InputError: There is no feedback.
            KnowledgeBaseError: As ``feedback``.
        """
        self._names()
        before = FeedbackLog.read(self.path)
        if not before.batches:
            raise InputError(f"{self.path}: has no feedback to undo")
        return self._decided(before, before.undone(), progress, read=FeedbackReport())

    def _decided(
        self,
        before: FeedbackLog,
        after: FeedbackLog,
        progress: Progress | None,
        *,
        read: FeedbackReport,
    ) -> FeedbackReport:
        """Change the folder from one log of decisions to another."""
        calibrations: list[CalibrationReport] = []
        own_links = own_calibration(self.resources.reranker)
        changed = after.changes(before)
        if changed:
            self._updated(lambda kb: rename(kb, leaving=changed), progress, after, calibrations)
        elif after is not before:
            with integrity.assert_unchanged(self.path, self.manifest):
                store_decisions(
                    self.resources, after, self.path,
                    encoder=self._lazy, calibrations=calibrations,
                )  # fmt: skip
            self._take_reranker()
            self._resources = replace(self.resources, nil=after.nil())
        return feedback_report(self.resources, after, calibrations, read=read, own_links=own_links)

    def _take_reranker(self) -> None:
        """Read the reranker from the folder again."""
        reranker = Reranker.read(self.path / RERANKER)
        self._resources = replace(self.resources, reranker=reranker)

    def add(self, entities: Entities, *, progress: Progress | None = None) -> UpdateReport:
        """Add entities; and add names, types and references to existing entities.

        Afterwards, the object is the changed knowledge base. The weights and the calibration
        stay, so other entities are found as before. ``refit`` learns the weights again.

        Args:
            entities: The entities, such as from a reader of ``knowledge.formats``.
            progress: Called with (names done, names).

        Raises:
            KnowledgeBaseError: The folder holds passages, is closed, another process is changing
                it, or has changed it since it was opened.
            InputError: An entity cannot be read or stored. Nothing changes in this case.
        """
        return self._updated(lambda kb: merge(kb, entities_of(entities), replacing=False), progress)

    def update(self, entities: Entities, *, progress: Progress | None = None) -> UpdateReport:
        """Replace entities by those with the same ids, including all names; add new ones.

        Arguments and errors are those of ``add``.
        """
        return self._updated(lambda kb: merge(kb, entities_of(entities), replacing=True), progress)

    def remove(
        self, ids: Sequence[str], *, missing_ok: bool = False, progress: Progress | None = None
    ) -> UpdateReport:
        """Remove entities by their ids; no name is embedded again.

        Args:
            ids: Ids of entities. Alternative ids are not accepted.
            missing_ok: Whether to ignore unknown ids.
            progress: Called with (names done, names).

        Raises:
            KnowledgeBaseError: As ``add``.
            InputError: An id is unknown, or no entity would be left.
        """
        return self._updated(lambda kb: remove(kb, ids, missing_ok=missing_ok), progress)

    def _updated(
        self,
        change: Callable[[UpdateSource], UpdateReport],
        progress: Progress | None,
        feedback: FeedbackLog | None = None,
        calibrations: list[CalibrationReport] | None = None,
    ) -> UpdateReport:
        resources = self.resources
        log = FeedbackLog.read(self.path) if feedback is None else feedback
        with integrity.assert_unchanged(self.path, self.manifest):
            report = change(
                UpdateSource(
                    path=self.path,
                    manifest=self.manifest,
                    catalogue=resources.catalogue,
                    vectors_ND=resources.retrievers.vectors.vectors_ND,
                    encoder=self._encoder_of_names,
                    query_encoder=self._lazy if self.manifest.names_bundle else None,
                    progress=progress,
                    feedback=log,
                    finish=partial(finish, log, encoder=self._lazy, calibrations=calibrations),
                )
            )
            changed = KnowledgeBase.open(
                self.path, encoder=self._encoder, verify=False, workers=self._worker_count
            )
        self.close()
        self.manifest, self._resources = changed.manifest, changed.resources
        self._workers = changed._workers
        return report

    @property
    def _lazy(self) -> LazyEncoder:
        """The encoder, opened on first use."""
        return LazyEncoder(self.manifest.dim, lambda: self.encoder)

    @property
    def _encoder_of_names(self) -> Embedder:
        teacher = self.manifest.names_bundle
        if not teacher:
            return self._lazy
        return MissingEncoder(self.manifest.dim, self.path, teacher["name"])

    @property
    def _propose_batch(self) -> ProposeBatch | None:
        return None if self._workers is None else self._workers.propose

    def _names(self) -> LinkResources:
        """Return the resources of a knowledge base of names (KnowledgeBaseError: of passages)."""
        resources = self.resources
        if self.manifest.content_type == PASSAGES:
            raise KnowledgeBaseError(f"{self.path}: holds passages, not names; use search")
        return resources

    def close(self) -> None:
        """Close the files and end the workers. Closing twice does nothing."""
        resources, self._resources = self._resources, None
        if resources is None:
            return
        try:
            if self._workers is not None:
                self._workers.close()
        finally:
            resources.close()

    def __enter__(self) -> KnowledgeBase:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _open_with_threads(path: str, threads: int) -> KnowledgeBase:
    from mirror_rt.runtime.encoder import Encoder

    encoder = Encoder.open(Path(path) / BUNDLE, threads=threads)
    return KnowledgeBase.open(path, encoder=encoder, verify=False)
