"""Servers on loopback for tests: the command in a separate process, or an app in a thread."""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.serving import Library, ServeConfig, create_app
from mirror_rt.serving import server as servers
from mirror_rt.types import Entity, Name, NameKind
from tests.kb import entity

PROGRAM = [sys.executable, "-c", "from mirror_rt_cli.app import main; main()"]

THINGS = [
    entity("T:1", "atrial septal defect", "hole in the heart", types=("disease",)),
    entity("T:2", "ventricular septal defect", "hole in the heart", types=("disease",)),
    entity("T:3", "short stature", "small hand and foot", types=("growth",)),
    entity("T:4", "liver cancer", "cancer of the liver", types=("disease", "tumor"),
           alternative_ids=("T:40",), cross_references=("ICD:C22",)),
    entity("T:5", "chronic kidney disease", types=("disease",)),
    entity("T:6", "acute kidney disease", types=("disease",)),
    entity("T:7", "software engineer", types=("job",)),
    entity("T:8", "data scientist", types=("job",)),
    entity("T/9 a#b?c", "teacher <script>alert(1)</script>", types=("job",)),
    Entity(
        id="T:10", names=(Name(text="nurse", kind=NameKind.PREFERRED),
                          Name(text="Krankenschwester", language="de", source="made up")),
        types=("job",), description="Looks after people who are ill.",
        fields=(("field", "health"), ("since", "1860")), parents=("T:7",),
    ),
    *(entity(f"N:{i}", f"left upper limb pain {i}", types=("number",)) for i in range(40)),
]  # fmt: skip
"""Entities of a knowledge base to ask."""


def build(bundle: Path, out: Path) -> Path:
    """Build a knowledge base of ``THINGS``."""
    KnowledgeBase.build(bundle, THINGS, out).close()
    return out


@dataclass
class Server:
    """A running ``mirror-rt serve``.

    Attributes:
        url: Its address.
        process: The process.
        lines: Its log so far.
    """

    url: str
    process: subprocess.Popen[str]
    lines: list[dict[str, Any]] = field(default_factory=list)
    _reader: threading.Thread | None = None

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end by a signal, and return its status."""
        self.process.send_signal(number)
        status = self.process.wait(60)
        assert self._reader is not None
        self._reader.join(10)
        return status


@contextmanager
def command(*arguments: str | Path) -> Iterator[Server]:
    """Run ``mirror-rt serve`` with arguments, on a free port."""
    process = subprocess.Popen(
        [*PROGRAM, "serve", "--port", "0", *map(str, arguments)],
        stderr=subprocess.PIPE, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    output: queue.Queue[str | None] = queue.Queue()
    lines: list[dict[str, Any]] = []

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            try:
                lines.append(json.loads(line))
            except ValueError:
                lines.append({"message": line})
            if "address" in lines[-1]:
                output.put(lines[-1]["address"])
        output.put(None)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    address = output.get(timeout=120)
    assert address is not None, lines
    server = Server(address, process, lines, reader)
    try:
        httpx.get(f"{address}/ready", timeout=60).raise_for_status()
        yield server
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(30)
        reader.join(30)
        assert process.stderr is not None
        process.stderr.close()


@contextmanager
def in_thread(library: Library, config: ServeConfig | None = None) -> Iterator[str]:
    """Serve a library from a thread of this process; yields the address."""
    config = config or ServeConfig(port=0, log_requests=False)
    listening = servers._listen(config)
    app = create_app(library, config)
    server = servers._Server(app, config)
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    host, port = listening.getsockname()[:2]
    try:
        httpx.get(f"http://{host}:{port}/health", timeout=60)
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


def raw(address: str, data: bytes, *, then: Sequence[bytes] = ()) -> bytes:
    """Send bytes unchanged, and return the first answer, or the part of it that arrived."""
    host, _, port = address.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        for part in (data, *then):
            connection.sendall(part)
        found = b""
        while part := connection.recv(65_536):
            found += part
            head, ended, body = found.partition(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            if ended and length and len(body) >= int(length[1]):
                break
    return found
