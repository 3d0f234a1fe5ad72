"""Many more clients than a server can answer: their statuses, and whether the answers are right."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections import Counter, deque
from collections.abc import Sequence
from statistics import median
from typing import Any

import harness
from servers import ours, resident_mb, with_children

WINDOW = 20
"""Answers whose median says whether a server is as fast as before."""


def overload(args: argparse.Namespace, misspelt: Sequence[str], known: Sequence[str]) -> Any:  # noqa: ANN401
    """Open 512 connections at once, then send many requests with 64; check every answer.

    The 512 send misspelled names, which wait for the model. Of the 64, one request in ten does; the
    others send exact names.
    """
    from mirror_rt.knowledge import KnowledgeBase

    mentions = [*misspelt, *known]
    with KnowledgeBase.open(args.kb) as kb:
        expected = {
            mention: [candidate.entity_id for candidate in result][:1]
            for mention, result in zip(mentions, kb.link(mentions), strict=True)
        }
    few = [*random.Random(0).sample(misspelt, max(1, len(known) // 9)), *known]
    with ours("--kb", f"kb={args.kb}", "--max-queue", str(args.queue)) as (url, pid):
        address = url.removeprefix("http://")
        before = asyncio.run(ask(address, misspelt, expected, clients=1, each=50))
        resident = {"before": resident_mb(pid)}
        flood = asyncio.run(
            ask(address, misspelt, expected, clients=512, seconds=args.flood_seconds)
        )
        normal = asyncio.run(_until_normal(address, misspelt, usual_ms=before["p50_ms"]))
        resident["after 512 connections"] = resident_mb(pid)
        steady = asyncio.run(ask(address, few, expected, clients=64, each=args.each))
        resident["after 64 clients"] = resident_mb(pid)
        resident["peak"] = sum(harness.peak_mb(one) for one in with_children(pid))
    result = {
        "before": before, "flood": flood, "normal_after_seconds": normal, "steady": steady,
        "resident_mb": resident,
    }  # fmt: skip
    harness.say(str(result))
    return result


async def _until_normal(address: str, mentions: Sequence[str], *, usual_ms: float) -> float:
    """Return the seconds until the median of some answers is at most twice the usual one."""
    client = Client(address)
    await client.open()
    taken: deque[float] = deque(maxlen=WINDOW)
    begin = time.perf_counter()
    while len(taken) < WINDOW or median(taken) > 2e-3 * usual_ms:
        start = time.perf_counter()
        await client.link(random.choice(mentions))
        taken.append(time.perf_counter() - start)
    client.close()
    return round(time.perf_counter() - begin, 2)


class Client:
    """One connection that requests ``/link``, with little work, as it shares the server's cores."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def open(self) -> None:
        """Connect."""
        host, port = self._address.split(":")
        self._reader, self._writer = await asyncio.open_connection(host, int(port))

    async def link(self, mention: str) -> tuple[int, bytes]:
        """Return the status and the content of the answer."""
        body = json.dumps({"mentions": [mention]}).encode()
        self._writer.write(
            b"POST /link HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0])
        return int(head.split()[1]), await self._reader.readexactly(length)

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()


async def ask(
    address: str,
    mentions: Sequence[str],
    expected: dict[str, list[str]],
    *,
    clients: int,
    each: int | None = None,
    seconds: float | None = None,
) -> dict[str, Any]:
    """Send requests with ``count`` connections, and compare every answer with the right one."""
    statuses: Counter[int] = Counter()
    taken: list[float] = []
    wrong = broken = 0
    begin = time.perf_counter()
    end = begin + (seconds or 1e9)

    async def run(number: int) -> None:
        nonlocal wrong, broken
        choose = random.Random(number).choice
        client = Client(address)
        await client.open()
        sent = 0
        while (each is None or sent < each) and time.perf_counter() < end:
            sent += 1
            mention = choose(mentions)
            start = time.perf_counter()
            try:
                status, content = await client.link(mention)
            except (OSError, asyncio.IncompleteReadError):
                broken += 1
                break
            statuses[status] += 1
            if status == 200:
                taken.append(time.perf_counter() - start)
                (result,) = json.loads(content)["results"]
                found = [c["entity_id"] for c in result["candidates"]][:1]
                wrong += result["mention"] != mention or found != expected[mention]
            else:
                await asyncio.sleep(0.05)
        client.close()

    await asyncio.gather(*(run(number) for number in range(clients)))
    wall = time.perf_counter() - begin
    return {
        "clients": clients,
        "requests": statuses.total(),
        "statuses": {str(status): count for status, count in sorted(statuses.items())},
        "answers_per_second": round(statuses[200] / wall, 1),
        "p50_ms": round(1e3 * harness.percentile(taken, 0.5), 2),
        "p99_ms": round(1e3 * harness.percentile(taken, 0.99), 2),
        "wrong": wrong,
        "broken": broken,
    }
