"""Shared by all routes: the models, the queue, the limits, and waiting for an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from mirror_rt._count import counted
from mirror_rt.encodings import lone_surrogate
from mirror_rt.errors import KnowledgeBaseError, MirrorError
from mirror_rt.serving.config import ServeConfig
from mirror_rt.serving.errors import Refused
from mirror_rt.serving.library import Library, ModelNeeded
from mirror_rt.serving.metrics import Metrics
from mirror_rt.serving.scheduler import Job, Scheduler, Work
from mirror_rt.serving.work import LINK_TOKENS, Link, LinkItem, cost_of

__all__ = ["Call", "Service", "base_of", "json_response", "service_of"]

_AT_ONCE, _CHARACTERS_AT_ONCE = 8, 1_024
"""Up to this many mentions are looked up as exact matches without the queue (0.1 ms each), and up
to this many characters together."""


class Call:
    """A function to call once, on a thread of the queue."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self.key = object()

    def run(self, items: Sequence[None]) -> list[Any]:
        """Call the function."""
        return [self._function()]


@dataclass(kw_only=True)
class Service:
    """The parts of a server.

    Attributes:
        config: The settings.
        library: The models and knowledge bases.
        scheduler: The queue.
        metrics: The metrics.
        ready: Whether requests are accepted: after the warm-up, and before a stop.
    """

    config: ServeConfig
    library: Library
    metrics: Metrics = field(default_factory=Metrics)
    ready: bool = False
    scheduler: Scheduler = field(init=False)

    def __post_init__(self) -> None:
        """Start the queue."""
        self.scheduler = Scheduler(
            threads=self.library.threads, most_waiting=self.config.limits.queued
        )
        self.metrics.of(self.scheduler)

    def check(self, texts: Sequence[str], *, param: str) -> None:
        """Check the number of texts, their lengths, and that they are valid text (Refused)."""
        limits = self.config.limits
        if not texts:
            raise Refused(400, f"{param} is empty; give at least one", param=param, code="empty")
        if len(texts) > limits.inputs:
            raise Refused(
                413,
                f"{param}: {len(texts):,} given; give at most {limits.inputs:,} at once",
                param=param,
            )
        for i, text in enumerate(texts):
            if len(text) > limits.characters:
                raise Refused(
                    413,
                    f"{param}[{i}] has {counted(len(text), 'character')}; "
                    f"give at most {limits.characters:,}",
                    param=param,
                )
            if lone_surrogate(text) is not None:
                raise Refused(
                    400,
                    f"{param}[{i}] holds a lone surrogate, which is not text; remove it",
                    param=param,
                )

    async def run(
        self, request: Request, work: Work, items: Sequence[Any], costs: Sequence[int]
    ) -> Job:
        """Run items in the queue; remove them if the client leaves or the time is up.

        Returns:
            The job, with a result for each item.

        Raises:
            Refused: The queue is full, the time is up, or the client has left (499, for the log).
            HTTPException: More of a body arrived than is allowed.
            MirrorError: The request is at fault.
        """
        job = self.scheduler.submit(work, items, costs)
        gone = asyncio.ensure_future(_gone(request))
        limit = self.config.limits.answer_seconds
        try:
            await asyncio.wait(
                {job.future, gone}, timeout=limit, return_when=asyncio.FIRST_COMPLETED
            )
            if job.future.done():
                job.future.result()  # raises the error of the work
                self.metrics.waited(job.queue_seconds, job.run_seconds)
                return job
            if gone.done():
                gone.result()  # raises if more of a body arrived than is allowed
                raise Refused(499, "the client has left")
            raise Refused(
                503,
                f"not done within {limit:g} seconds; ask for less at once, or later",
                retry_after=self.scheduler.retry_after(),
            )
        finally:
            gone.cancel()
            if not job.future.done():
                self.scheduler.cancel(job)

    async def link(self, request: Request, work: Link, items: Sequence[LinkItem]) -> list[Any]:
        """Link mentions: exact matches at once, others through the queue."""
        if type(work) is Link and _without_model(work, items):
            try:
                found = work.exactly(items)
            except ModelNeeded:
                pass
            else:
                self.metrics.exact(len(items))
                return found
        most = work.served.encoder.bundle.manifest.max_length
        costs = [
            LINK_TOKENS + cost_of(item.mention, most=most)
            + (cost_of(item.context, most=most) if item.context else 0)
            for item in items
        ]  # fmt: skip
        job = await self.run(request, work, items, costs)
        return job.results

    def refused(self, error: MirrorError) -> Refused:
        """Return the response for an error of the library, without paths of folders."""
        message = str(error)
        for name, served in self.library.kbs.items():
            message = message.replace(str(served.kb.path), name)
        for name, model in self.library.bundles.items():
            message = message.replace(str(model.encoder.bundle.path), name)
        if isinstance(error, KnowledgeBaseError):  # damaged, or just replaced
            return Refused(503, message, retry_after=1)
        return Refused(400, message)

    def note(self, request: Request, count: int) -> None:
        """Record the number of inputs of a request, for the log and the metrics."""
        request.scope["state"]["noted"] = {"inputs": count}
        self.metrics.inputs(getattr(request.scope.get("route"), "path", "none"), count)


def _without_model(work: Link, items: Sequence[LinkItem]) -> bool:
    # This runs on the event loop. Compiling a filter may take long, and so may a long text.
    if len(items) > _AT_ONCE or sum(len(item.mention) for item in items) > _CHARACTERS_AT_ONCE:
        return False
    options = dict(work.options)
    return not options.get("filters") and not any(item.context or item.document for item in items)


async def _gone(request: Request) -> None:
    """Return once the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def service_of(request: Request) -> Service:
    """Return the service behind a request."""
    found: Service = request.app.state.service
    return found


def base_of(request: Request) -> str:
    """Return the public URL of the server."""
    url = request.url
    public = service_of(request).config.public_url or f"{url.scheme}://{url.netloc}"
    return f"{public}{request.scope['state'].get('prefix', '')}"


def json_response(body: bytes, *, headers: dict[str, str] | None = None) -> Response:
    """Return a response with serialized JSON."""
    return Response(body, media_type="application/json", headers=headers)
