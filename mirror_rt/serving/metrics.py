"""Metrics for Prometheus, with the names of text-embeddings-inference where it has the same."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

if TYPE_CHECKING:
    from mirror_rt.serving.scheduler import Scheduler

__all__ = ["Metrics"]

_SECONDS = (
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0,
)  # fmt: skip
_SIZES = tuple(2.0**i for i in range(12))


class Metrics:
    """The metrics of one server. Labels are routes and statuses, never data from clients."""

    def __init__(self) -> None:
        self.registry = own = CollectorRegistry()
        ProcessCollector(registry=own)
        self._requests = Counter(
            "te_request_count", "Requests.", ["method", "route", "status"], registry=own
        )
        self._success = Counter("te_request_success", "Requests answered.", ["route"], registry=own)
        self._failure = Counter(
            "te_request_failure",
            "Requests that ended with an error.",
            ["route", "err"],
            registry=own,
        )
        self._duration = Histogram(
            "te_request_duration",
            "Seconds for a request.",
            ["route"],
            buckets=_SECONDS,
            registry=own,
        )
        self._queue = Histogram(
            "te_request_queue_duration",
            "Seconds in the queue.",
            buckets=_SECONDS,
            registry=own,
        )
        self._inference = Histogram(
            "te_request_inference_duration",
            "Seconds for the batches of a request.",
            buckets=_SECONDS,
            registry=own,
        )
        self._inputs = Counter(
            "te_embed_count", "Texts, mentions and queries.", ["route"], registry=own
        )
        self._exact = Counter(
            "mirror_rt_exact_count",
            "Exact matches, answered without the queue.",
            registry=own,
        )
        self._batch_size = Histogram(
            "te_batch_next_size", "Texts in a batch.", buckets=_SIZES, registry=own
        )
        self._batch_tokens = Histogram(
            "te_batch_next_tokens",
            "Tokens in a batch (approximate).",
            buckets=_SIZES,
            registry=own,
        )
        self._waiting = Gauge("te_queue_size", "Waiting requests.", registry=own)
        self._waiting_tokens = Gauge("te_queue_tokens", "Waiting tokens, about.", registry=own)

    def of(self, scheduler: Scheduler) -> None:
        """Observe a scheduler: the queue at every scrape, and every batch."""
        self._waiting.set_function(lambda: scheduler.jobs)
        self._waiting_tokens.set_function(lambda: scheduler.waiting)

        def batch(size: int, tokens: int, seconds: float) -> None:
            self._batch_size.observe(size)
            self._batch_tokens.observe(tokens)

        scheduler.on_batch = batch

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request."""
        count, duration, outcome = self._of(route, method, status)
        count.inc()
        duration.observe(seconds)
        outcome.inc()

    @lru_cache(maxsize=1_024)  # noqa: B019  (as many as there are routes, methods and statuses)
    def _of(self, route: str, method: str, status: int) -> tuple[Counter, Histogram, Counter]:
        """Return the counters for these labels, cached: looking up labels is slow."""
        outcome = self._success.labels(route)
        if status >= 400:
            fault = {429: "overloaded", 499: "dropped", 413: "batch_size"}.get(status)
            fault = fault or ("validation" if status < 500 else "inference")
            outcome = self._failure.labels(route, fault)
        counted = self._requests.labels(method, route, str(status))
        return counted, self._duration.labels(route), outcome

    def inputs(self, route: str, count: int) -> None:
        """Count the inputs of a request."""
        self._inputs.labels(route).inc(count)

    def exact(self, count: int) -> None:
        """Count mentions that were answered without the queue."""
        self._exact.inc(count)

    def waited(self, queue_seconds: float, run_seconds: float) -> None:
        """Observe how long a request waited and ran."""
        self._queue.observe(queue_seconds)
        self._inference.observe(run_seconds)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' format."""
        return generate_latest(self.registry)
