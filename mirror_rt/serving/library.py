"""The bundles and knowledge bases of a server, by name: opened once, reopened after a change."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mirror_rt.errors import ConfigError, MirrorError
from mirror_rt.knowledge.knowledge_base import KnowledgeBase
from mirror_rt.knowledge.storage.manifest import BUNDLE, FEEDBACK, KB_MANIFEST, PASSAGES, RERANKER
from mirror_rt.runtime.cores import available_cpus
from mirror_rt.runtime.encoder import Encoder
from mirror_rt.serving.errors import Refused

if TYPE_CHECKING:
    from mirror_rt.types import Float32

__all__ = ["Library", "Model", "ModelNeeded", "ServedKb"]

_LOG = logging.getLogger(__name__)
_KB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Characters that need no escaping in a URL."""
_MOST_OF_NAME = 200
"""The maximum number of characters of the name of a model."""


class ModelNeeded(Exception):
    """A mention has no exact match, so the model is needed."""


class _NoModel:
    """Replaces the encoder if only exact matches are wanted."""

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def encode(self, texts: Sequence[str]) -> Float32:
        """Raise ``ModelNeeded``."""
        raise ModelNeeded


@dataclass(frozen=True, kw_only=True)
class Model:
    """An encoder by its name.

    Attributes:
        name: The name.
        encoder: The encoder.
        opened: When it was opened, in seconds since 1970.
    """

    name: str
    encoder: Encoder
    opened: int


@dataclass(frozen=True, kw_only=True)
class ServedKb:
    """A knowledge base with its name, in the state that was opened.

    Attributes:
        name: The name.
        kb: The knowledge base.
        exact: The same without its model: it raises ``ModelNeeded`` instead of embedding.
        encoder: The model of both.
        opened: When it was opened, in seconds since 1970.
        state: Identifies this state of the files.
    """

    name: str
    kb: KnowledgeBase
    exact: KnowledgeBase
    encoder: Encoder
    opened: int
    state: tuple[object, ...]

    @cached_property
    def types(self) -> list[tuple[str, int]]:
        """Every type and the number of its entities, the most frequent first."""
        return self.kb.resources.catalogue.types()

    @cached_property
    def field_names(self) -> list[str]:
        """The fields of entities beside the standard ones."""
        return self.kb.resources.catalogue.field_names()

    @property
    def holds_passages(self) -> bool:
        """Whether it holds passages, which can only be searched."""
        return self.kb.manifest.content_type == PASSAGES


class Library:
    """Bundles and knowledge bases by name; equal bundles are opened once.

    Args:
        kbs: The folder of each knowledge base, by name.
        bundles: The folder of each bundle, by the name of its model.
        threads: The number of cores, one for each batch; by default all.

    Raises:
        ConfigError: Nothing is given, or a knowledge base and a bundle have the same name.
        BundleError, KnowledgeBaseError: A folder cannot be opened.
    """

    def __init__(
        self,
        kbs: Mapping[str, str | Path],
        bundles: Mapping[str, str | Path] | None = None,
        *,
        threads: int | None = None,
    ) -> None:
        bundles = bundles or {}
        if not kbs and not bundles:
            raise ConfigError("nothing to serve; give --kb NAME=DIR or --bundle NAME=DIR")
        twice = sorted(set(kbs) & set(bundles))
        if twice:
            raise ConfigError(
                f"{twice[0]}: names a knowledge base and a bundle; give one another name"
            )
        for name in kbs:
            if not _KB_NAME.fullmatch(name):
                raise ConfigError(
                    f"{name}: a name of a knowledge base is letters, digits, ., - and _, "
                    "up to 64; give --kb NAME=DIR"
                )
        for name in bundles:
            if not (name.isprintable() and name.strip() == name and 0 < len(name) <= _MOST_OF_NAME):
                raise ConfigError(
                    f"{name!r}: a name of a model is printable text, up to {_MOST_OF_NAME} "
                    "characters; give --bundle NAME=DIR"
                )
        self.threads = threads or available_cpus()
        self._encoders: dict[str, Encoder] = {}
        # Absolute, so that messages to clients can name the knowledge base instead.
        self._paths = {name: Path(path).absolute() for name, path in kbs.items()}
        self._reported: dict[str, str] = {}  # why a changed one cannot be opened
        self.bundles = {
            name: Model(name=name, encoder=self._encoder(path), opened=int(time.time()))
            for name, path in bundles.items()
        }
        self.kbs = {name: self._open(name) for name in self._paths}

    @property
    def models(self) -> dict[str, Model]:
        """All models by name: those of the bundles, then those of the knowledge bases."""
        of_kbs = {
            kb.name: Model(name=kb.name, encoder=kb.encoder, opened=kb.opened)
            for kb in self.kbs.values()
        }
        return self.bundles | of_kbs

    def model(self, name: str | None) -> Model:
        """Return a model by name; the first one if no name is given (Refused, 404)."""
        if not name:
            return next(iter(self.models.values()))
        found = self.models.get(name)
        if found is None:
            raise Refused(
                404,
                f"no model {name[:100]!r} here; there is {_some(self.models)}",
                param="model",
                code="model_not_found",
            )
        return found

    def kb(self, name: str | None) -> ServedKb:
        """Return a knowledge base by name; the only one if no name is given.

        Raises:
            Refused: No knowledge base has this name (404), or there are several and no name is
                given (400).
        """
        if not name:
            if len(self.kbs) == 1:
                return next(iter(self.kbs.values()))
            if self.kbs:
                raise Refused(400, f"name a knowledge base in kb: {_some(self.kbs)}", param="kb")
        found = self.kbs.get(name or "")
        if found is None:
            there = f"there is {_some(self.kbs)}" if self.kbs else "none is served"
            raise Refused(
                404, f"no knowledge base {(name or '')[:100]!r} here; {there}", param="kb"
            )
        return found

    def warm_up(self) -> None:
        """Use every model and knowledge base once, as the first use is slow."""
        for encoder in self._encoders.values():
            encoder.encode(["a name"])
        for served in self.kbs.values():
            served.kb.search(["a name"])

    async def watch(self, *, seconds: float, keep_seconds: float) -> None:
        """Reopen knowledge bases that change on disk, until cancelled.

        Args:
            seconds: Seconds between checks.
            keep_seconds: How long to keep the old state open for running requests.
        """
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(seconds)
            for name in self._paths:
                old = self.kbs[name]
                if await asyncio.to_thread(self._take_up, name):
                    loop.call_later(keep_seconds, old.kb.close)

    def _take_up(self, name: str) -> bool:
        """Reopen a knowledge base if it has changed; keep the old state if that fails."""
        if _state(self._paths[name]) == self.kbs[name].state:
            return False
        try:
            found = self._open(name)
        except Exception as error:  # any error: it may still be being copied
            reason = str(error) if isinstance(error, MirrorError) else type(error).__name__
            if self._reported.get(name) != reason:
                self._reported[name] = reason
                _LOG.warning("kept the knowledge base", extra={"kb": name, "error": reason})
            return False
        self._reported.pop(name, None)
        self.kbs[name] = found  # atomic: a request uses either the old one or the new one
        used = {id(model.encoder) for model in self.models.values()}
        self._encoders = {k: e for k, e in self._encoders.items() if id(e) in used}
        _LOG.info("took up a changed knowledge base", extra={"kb": name})
        return True

    def _open(self, name: str) -> ServedKb:
        path = self._paths[name]
        state = _state(path)
        kb = KnowledgeBase.open(path)
        try:
            encoder = self._encoder(path / BUNDLE)
            # Threads of the scheduler link: further threads would wait for Python's lock.
            resources = replace(kb.resources, background=None)
            opened = KnowledgeBase(kb.path, kb.manifest, resources, encoder=encoder)
            no_model = _NoModel(kb.manifest.dim)
            exact = KnowledgeBase(kb.path, kb.manifest, resources, encoder=no_model)
            found = ServedKb(
                name=name, kb=opened, exact=exact, encoder=encoder, opened=int(time.time()),
                state=state,
            )  # fmt: skip
            _ = found.types, found.field_names  # read here, before any request needs it
        except BaseException:
            kb.close()
            raise
        return found

    def _encoder(self, path: str | Path) -> Encoder:
        from mirror_rt.bundle import Bundle

        bundle = Bundle.open(Path(path).absolute())
        found = self._encoders.get(bundle.fingerprint)
        if found is None:
            # The scheduler runs one batch per core, so a batch gets one core.
            found = self._encoders[bundle.fingerprint] = Encoder.open(bundle, threads=1)
        return found

    def close(self) -> None:
        """Close all files."""
        for served in self.kbs.values():
            served.kb.close()


def _state(folder: Path) -> tuple[object, ...]:
    """Return a value that changes when the files of a knowledge base are replaced."""
    found: list[object] = []
    for name in (KB_MANIFEST, RERANKER, FEEDBACK):
        try:
            status = (folder / name).stat()
        except OSError:
            found.append(None)
        else:
            found += [status.st_ino, status.st_mtime_ns, status.st_size]
    return tuple(found)


def _some(names: Mapping[str, object]) -> str:
    shown = ", ".join(list(names)[:20])
    return shown + (", …" if len(names) > 20 else "")
