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
from mirror_rt.types import Candidate, LinkResult, LinkStatus, MatchType, NilReason  # noqa: E402

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
        top: Candidates of an entity.
        min_probability: Link only what has this probability.
        target_precision: Link only what was right this often where probabilities were learned.
        review_below: Link only what has this probability and is not tied, without dropping the
            candidates of the rest; by default .5 if neither of those two is given.
        abbreviations: Whether an entity that its document defines as an abbreviation is linked
            by its long form.
        split_composites: Whether an entity of several things is split into its parts.
        context: Whether an entity's sentence, where sentences are known, decides between close
            candidates.
        filters: Propose only entities that meet these; see ``knowledge.retrieval.filters``.
    """

    kb: str | None = None
    top: int = 5
    min_probability: float = 0.0
    target_precision: float | None = None
    review_below: float | None = None
    abbreviations: bool = True
    split_composites: bool = False
    context: bool = True
    filters: dict[str, list[str]] | None = None


class MirrorLinker:
    """Sets ``ent.kb_id_``, empty where nothing is linked (NIL), and ``ent._.candidates``.

    Of a composite ``ent.kb_id_`` has the ids of its parts with ``|`` between.
    ``ent._.candidates`` is a ``LinkResult``: candidates best first, and the reason where there are
    none. It is kept in ``doc.user_data`` as plain values, so that documents can be serialised.

    Attributes:
        settings: The configuration.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._kb: KnowledgeBase | None = None
        self._process = os.getpid()
        if settings.kb is not None:
            self._results([])  # a fault in the configuration stops here, not at the first document

    @property
    def kb(self) -> KnowledgeBase:
        """The knowledge base; each process opens its own."""
        if self.settings.kb is None:
            raise ConfigError(
                f"{FACTORY}: no knowledge base; give its folder with "
                f"nlp.add_pipe({FACTORY!r}, config={{'kb': …}})"
            )
        if self._kb is None or self._process != os.getpid():
            from mirror_rt.knowledge import KnowledgeBase  # late: spaCy loads us at every start

            self._kb, self._process = KnowledgeBase.open(self.settings.kb), os.getpid()
        return self._kb

    def __call__(self, doc: Doc) -> Doc:
        """Link the entities of a document."""
        self._link([doc])
        return doc

    def pipe(self, stream: Iterable[Doc], *, batch_size: int = 128) -> Iterator[Doc]:
        """Link the entities of documents, ``batch_size`` of them in one go."""
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
                "below_precision": result.below_precision,
                "candidates": [{**asdict(c), "match_type": c.match_type.value} for c in result],
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
            review_below=settings.review_below,
            filters=settings.filters,
            document=[ent.doc.text for ent in ents] if settings.abbreviations else None,
            split_composites=settings.split_composites,
            contexts=[_sentence(ent) for ent in ents] if settings.context else None,
        )

    def to_bytes(self, *, exclude: Sequence[str] = ()) -> bytes:
        """Return the settings as JSON; the knowledge base stays in its folder."""
        return json.dumps(asdict(self.settings), ensure_ascii=False).encode()

    def from_bytes(self, data: bytes, *, exclude: Sequence[str] = ()) -> MirrorLinker:
        """Take settings that were saved, unless this component was given a knowledge base.

        So a pipeline whose knowledge base has moved is loaded by
        ``spacy.load(path, config={"components": {"mirror_rt_linker": {"kb": …}}})``.

        Raises:
            InputError: They are not settings.
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
        """Read settings as ``from_bytes`` does.

        Raises:
            InputError: There are none, or they cannot be read.
        """
        try:
            data = (Path(path) / _SETTINGS).read_bytes()
        except OSError as error:
            raise InputError(f"{path}: no settings of {FACTORY} ({error.strerror})") from error
        return self.from_bytes(data)

    def __reduce__(self) -> tuple[Any, ...]:
        return MirrorLinker, (self.settings,)  # to another process go the settings alone


def _sentence(ent: Span) -> str:
    return ent.sent.text if ent.doc.has_annotation("SENT_START") else ""


def _key(ent: Span) -> tuple[str, int, int]:
    return (_KEY, ent.start_char, ent.end_char)


def _candidates(ent: Span) -> LinkResult:
    kept = ent.doc.user_data.get(_key(ent))
    if kept is None:
        return LinkResult(mention=ent.text)
    found = [
        Candidate(**{**c, "match_type": MatchType(c["match_type"])}) for c in kept["candidates"]
    ]
    reason = kept["nil_reason"]
    return LinkResult(
        mention=kept["mention"],
        candidates=tuple(found),
        nil_reason=None if reason is None else NilReason(reason),
        below_precision=kept["below_precision"],
    )


# spaCy reads these annotations when it checks a configuration, on Python 3.10 too.
def make_linker(
    nlp: Language,
    name: str,
    kb: Optional[str],  # noqa: UP045
    top: int,
    min_probability: float,
    target_precision: Optional[float],  # noqa: UP045
    review_below: Optional[float],  # noqa: UP045
    abbreviations: bool,
    split_composites: bool,
    context: bool,
    filters: Optional[dict[str, list[str]]],  # noqa: UP045
) -> MirrorLinker:
    """Make the component; the arguments are those of ``Settings``."""
    return MirrorLinker(
        Settings(
            kb=kb,
            top=top,
            min_probability=min_probability,
            target_precision=target_precision,
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
