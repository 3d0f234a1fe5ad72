"""A spaCy pipeline component that links the entities of documents: ``mirror_rt_linker``.

::

    nlp = spacy.blank("en")
    nlp.add_pipe("entity_ruler").add_patterns([{"label": "D", "pattern": "liver cancer"}])
    nlp.add_pipe("mirror_rt_linker", config={"kb": "kb"})
    for ent in nlp("She had liver cancer.").ents:
        print(ent.kb_id_, ent._.candidates)
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from mirror_rt._extras import require

require("spacy", extra="spacy")

from spacy.language import Language  # noqa: E402
from spacy.tokens import Doc, Span  # noqa: E402
from spacy.util import minibatch  # noqa: E402

from mirror_rt.errors import ConfigError, InputError  # noqa: E402
from mirror_rt.types import (  # noqa: E402
    Candidate,
    LinkResult,
    LinkStatus,
    MatchType,
    NilReason,
    Relation,
)

if TYPE_CHECKING:
    from mirror_rt.knowledge import KnowledgeBase

__all__ = ["FACTORY", "MirrorLinker", "make_linker"]

FACTORY = "mirror_rt_linker"
_SETTINGS = "settings.json"
_KEY = "mirror_rt_linker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The configuration of the component.

    Attributes:
        kb: The folder of the knowledge base.
        top: Candidates per entity.
        min_probability: Entities below this probability are not linked and have no candidates.
        target_precision: Entities below the threshold of this precision are not linked.
        wrong_at_most: Entities below the threshold that guarantees at most this share of wrong
            links are not linked.
        review_below: Entities below this probability, or tied, are not linked, but keep their
            candidates; by default .5 if none of these three is given.
        abbreviations: Whether to link an abbreviation by its long form, if the document defines it.
        split_composites: Whether to split a composite into its parts.
        context: Whether the sentence decides between close candidates, if sentences are known.
        filters: Propose only entities that meet these; see ``knowledge.retrieval.filters``.
    """

    kb: str | None = None
    top: int = 5
    min_probability: float = 0.0
    target_precision: float | None = None
    wrong_at_most: float | None = None
    review_below: float | None = None
    abbreviations: bool = True
    split_composites: bool = False
    context: bool = True
    filters: dict[str, list[str]] | None = None


class MirrorLinker:
    """Sets ``ent.kb_id_`` (empty for NIL) and ``ent._.candidates``.

    For a composite, ``ent.kb_id_`` has the ids of its parts joined by ``|``. ``ent._.candidates``
    is a ``LinkResult``: candidates, best first, or the reason why there are none. It is stored in
    ``doc.user_data`` as strings, numbers and dicts, so documents can be serialized.

    Attributes:
        settings: The configuration.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._kb: KnowledgeBase | None = None
        self._process = os.getpid()
        if settings.kb is not None:
            self._results([])  # fail now, not at a document

    @property
    def kb(self) -> KnowledgeBase:
        """The knowledge base; each process opens its own."""
        if self.settings.kb is None:
            raise ConfigError(
                f"{FACTORY}: no knowledge base; give its folder with "
                f"nlp.add_pipe({FACTORY!r}, config={{'kb': …}})"
            )
        if self._kb is None or self._process != os.getpid():
            from mirror_rt.knowledge import KnowledgeBase  # late: a slow import

            self._kb, self._process = KnowledgeBase.open(self.settings.kb), os.getpid()
        return self._kb

    def __call__(self, doc: Doc) -> Doc:
        """Link the entities of a document."""
        self._link([doc])
        return doc

    def pipe(self, stream: Iterable[Doc], *, batch_size: int = 128) -> Iterator[Doc]:
        """Link the entities of documents, ``batch_size`` documents at a time."""
        for docs in minibatch(stream, size=batch_size):
            self._link(docs)
            yield from docs

    def _link(self, docs: Sequence[Doc]) -> None:
        ents = [ent for doc in docs for ent in doc.ents]
        if not ents:
            return
        for ent, result in zip(ents, self._results(ents), strict=True):
            ent.doc.user_data[_key(ent)] = {
                "mention": result.mention,
                "nil_reason": None if result.nil_reason is None else result.nil_reason.value,
                "needs_review": result.needs_review,
                "candidates": [_stored(candidate) for candidate in result],
            }
            best: dict[str, str] = {}
            for candidate in result if result.status is LinkStatus.LINKED else ():
                best.setdefault(candidate.expanded_form, candidate.entity_id)
            for token in ent:
                token.ent_kb_id_ = "|".join(best.values())

    def _results(self, ents: Sequence[Span]) -> list[LinkResult]:
        settings = self.settings
        return self.kb.link(
            [ent.text for ent in ents],
            top=settings.top,
            min_probability=settings.min_probability,
            target_precision=settings.target_precision,
            wrong_at_most=settings.wrong_at_most,
            review_below=settings.review_below,
            filters=settings.filters,
            document=[ent.doc.text for ent in ents] if settings.abbreviations else None,
            split_composites=settings.split_composites,
            contexts=[_sentence(ent) for ent in ents] if settings.context else None,
        )

    def to_bytes(self, *, exclude: Sequence[str] = ()) -> bytes:
        """Return the settings as JSON, without the knowledge base."""
        return json.dumps(asdict(self.settings), ensure_ascii=False).encode()

    def from_bytes(self, data: bytes, *, exclude: Sequence[str] = ()) -> MirrorLinker:
        """Load saved settings, unless this component has a knowledge base already.

        If the knowledge base has moved, load the pipeline with
        ``spacy.load(path, config={"components": {"mirror_rt_linker": {"kb": …}}})``.

        Raises:
            InputError: The data are not settings.
        """
        if self.settings.kb is None:
            try:
                saved = Settings(**json.loads(data))
            except (ValueError, TypeError) as error:
                raise InputError(f"{FACTORY}: not settings of it ({error})") from error
            self.__init__(saved)  # type: ignore[misc]
        return self

    def to_disk(self, path: str | Path, *, exclude: Sequence[str] = ()) -> None:
        """Write the settings into a folder."""
        Path(path).mkdir(parents=True, exist_ok=True)
        (Path(path) / _SETTINGS).write_bytes(self.to_bytes())

    def from_disk(self, path: str | Path, *, exclude: Sequence[str] = ()) -> MirrorLinker:
        """Read settings; see ``from_bytes``.

        Raises:
            InputError: There are no settings, or they cannot be read.
        """
        try:
            data = (Path(path) / _SETTINGS).read_bytes()
        except OSError as error:
            raise InputError(f"{path}: no settings of {FACTORY} ({error.strerror})") from error
        return self.from_bytes(data)

    def __reduce__(self) -> tuple[Any, ...]:
        return MirrorLinker, (self.settings,)  # only the settings are sent to another process


def _sentence(ent: Span) -> str:
    return ent.sent.text if ent.doc.has_annotation("SENT_START") else ""


def _key(ent: Span) -> tuple[str, int, int]:
    return (_KEY, ent.start_char, ent.end_char)


def _stored(candidate: Candidate) -> dict[str, Any]:
    relation = candidate.relation
    return asdict(candidate) | {
        "match_type": candidate.match_type.value,
        "relation": None if relation is None else relation.value,
    }


def _restored(stored: dict[str, Any]) -> Candidate:
    relation = stored.get("relation")
    enums = {
        "match_type": MatchType(stored["match_type"]),
        "relation": None if relation is None else Relation(relation),
    }
    return Candidate(**(stored | enums))


def _candidates(ent: Span) -> LinkResult:
    kept = ent.doc.user_data.get(_key(ent))
    if kept is None:
        return LinkResult(mention=ent.text)
    reason = kept["nil_reason"]
    return LinkResult(
        mention=kept["mention"],
        candidates=tuple(map(_restored, kept["candidates"])),
        nil_reason=None if reason is None else NilReason(reason),
        needs_review=kept["needs_review"],
    )


# spaCy reads these annotations when it checks a configuration, on Python 3.10 too.
def make_linker(
    nlp: Language,
    name: str,
    kb: Optional[str],  # noqa: UP045
    top: int,
    min_probability: float,
    target_precision: Optional[float],  # noqa: UP045
    wrong_at_most: Optional[float],  # noqa: UP045
    review_below: Optional[float],  # noqa: UP045
    abbreviations: bool,
    split_composites: bool,
    context: bool,
    filters: Optional[dict[str, list[str]]],  # noqa: UP045
) -> MirrorLinker:
    """Return the component; the arguments are those of ``Settings``."""
    return MirrorLinker(
        Settings(
            kb=kb,
            top=top,
            min_probability=min_probability,
            target_precision=target_precision,
            wrong_at_most=wrong_at_most,
            review_below=review_below,
            abbreviations=abbreviations,
            split_composites=split_composites,
            context=context,
            filters=filters,
        )
    )


Language.factory(
    FACTORY,
    default_config=asdict(Settings()),
    assigns=["token.ent_kb_id", "span._.candidates"],
    requires=["doc.ents"],
    func=make_linker,
)
Span.set_extension("candidates", getter=_candidates, force=True)
