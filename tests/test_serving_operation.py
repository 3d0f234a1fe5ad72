"""The operation of a server: changes, overload, attacks, stop."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import resource
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
import typer
import yaml

from mirror_rt.errors import ConfigError, InputError, KnowledgeBaseError, MirrorError
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.serving import Library, Limits, ServeConfig
from mirror_rt.serving import app as apps
from mirror_rt.serving import service as services
from mirror_rt.serving.config import read_token
from mirror_rt_cli.app import app as program
from mirror_rt_cli.serve import serve as serve_command
from tests.conftest import REPOSITORY
from tests.kb import entity
from tests.serving import build, command, in_thread, raw


@pytest.fixture(scope="module")
def things(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tiny_bundle, tmp_path_factory.mktemp("operation") / "things")


@pytest.fixture
def library(things: Path) -> Iterator[Library]:
    found = Library({"things": things}, threads=2)
    yield found
    found.close()


def config(**more: Any) -> ServeConfig:  # noqa: ANN401
    limits = Limits(**more.pop("limits", {}))
    return ServeConfig(port=0, log_requests=False, limits=limits, **more)


class Blocked:
    """Holds an encoder's batches until they are released."""

    def __init__(self, library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go = threading.Event()
        self.texts = 0
        (encoder,) = {id(m.encoder): m.encoder for m in library.models.values()}.values()

        def hold(own: Callable[..., Any]) -> Callable[..., Any]:
            def held(texts: Sequence[str] | str, **more: Any) -> Any:  # noqa: ANN401
                self.texts += 1 if isinstance(texts, str) else len(texts)
                assert self.go.wait(60)
                return own(texts, **more)

            return held

        # ``encode`` of one string does not pass ``encode_counted``.
        monkeypatch.setattr(encoder, "_recent", hold(encoder._recent))
        monkeypatch.setattr(encoder, "encode_counted", hold(encoder.encode_counted))


def metric(address: str, name: str) -> float:
    text = httpx.get(f"{address}/metrics").text
    return float(re.findall(rf"^{name} (\S+)$", text, re.MULTILINE)[0])


def until(address: str, name: str, value: float) -> None:
    deadline = time.monotonic() + 30
    while metric(address, name) != value:
        assert time.monotonic() < deadline, f"{name} never was {value}"


def open_at_server(client: socket.socket) -> bool:
    """Return whether the other end of a loopback connection is open, as Linux tells."""
    (_, ours), (_, theirs) = client.getsockname(), client.getpeername()
    ends, established = (f":{theirs:04X}", f":{ours:04X}"), "01"
    rows = [line.split()[1:4] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any((a[8:], b[8:], state) == (*ends, established) for a, b, state in rows)


# A knowledge base that changes


def test_a_changed_knowledge_base_is_taken_up_without_a_failed_request(
    things: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "kb"
    shutil.copytree(things, folder)
    monkeypatch.setattr(apps, "_LOOK_EVERY", 0.05)
    library = Library({"kb": folder}, threads=1)
    with in_thread(library, config()) as address:
        stop = threading.Event()
        statuses: list[int] = []

        def ask() -> None:
            with httpx.Client(base_url=address, timeout=60) as client:
                while not stop.is_set():
                    for body in ({"mentions": ["nurse"]}, {"mentions": ["nurze", "kidny"]}):
                        statuses.append(client.post("/link", json=body).status_code)

        def best(mention: str) -> str:
            answer = httpx.post(f"{address}/link", json={"mentions": [mention]}, timeout=60).json()
            return str(answer["results"][0]["candidates"][0]["entity_id"])

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for i in range(3):
            name = f"a new profession {i}"
            with KnowledgeBase.open(folder) as kb:
                kb.add([entity(f"NEW:{i}", name)])
            deadline = time.monotonic() + 30
            while best(name) != f"NEW:{i}":
                assert time.monotonic() < deadline
        with KnowledgeBase.open(folder) as kb:
            kb.remove(["NEW:0"])
        deadline = time.monotonic() + 30
        while best("a new profession 0") == "NEW:0":
            assert time.monotonic() < deadline
        decided = {"mention": ["the boss"], "entity_id": ["T:1"], "decision": ["corrected"],
                   "correct_id": ["T:8"]}  # fmt: skip
        assert best("the boss") != "T:8"
        with KnowledgeBase.open(folder) as kb:
            kb.feedback(pa.table(decided))
        deadline = time.monotonic() + 30
        while best("the boss") != "T:8":
            assert time.monotonic() < deadline
        # A broken or removed folder is not opened; what is open stays.
        (folder / "reranker.json").write_text("{}")
        assert best("nurse") == "T:10"
        shutil.rmtree(folder)
        for _ in range(20):
            assert best("nurze") == "T:10"
        # What comes back file by file is taken up when it is complete.
        assert best("the boss") == "T:8"
        for path in sorted(things.rglob("*"), key=lambda path: path.name != "manifest.json"):
            if path.is_file():
                copy = folder / path.relative_to(things)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
                assert best("nurse") == "T:10"
        deadline = time.monotonic() + 30
        while best("the boss") == "T:8":
            assert time.monotonic() < deadline
        stop.set()
        for thread in threads:
            thread.join(60)
        assert set(statuses) == {200}
    library.close()


def test_equal_bundles_are_opened_once_and_names_are_checked(
    things: Path, tiny_bundle: Path
) -> None:
    library = Library({"a": things, "b": things}, {"m": tiny_bundle})
    assert len({id(model.encoder) for model in library.models.values()}) == 1
    library.close()
    for kbs, bundles in (({}, {}), ({"a": things}, {"a": tiny_bundle}), ({"a/b": things}, {}),
                         ({"": things}, {}), ({"..": things}, {}), ({}, {"": tiny_bundle}),
                         ({}, {"a\nb": tiny_bundle}), ({}, {"\udcff": tiny_bundle}),
                         ({}, {" a": tiny_bundle}), ({}, {"a" * 201: tiny_bundle})):  # fmt: skip
        with pytest.raises(ConfigError):
            Library(kbs, bundles)
    with pytest.raises(KnowledgeBaseError):
        Library({"a": tiny_bundle})


# Authentication


def test_every_route_but_health_needs_the_token(library: Library, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("s3cret\n")
    with in_thread(library, config(token=read_token(file))) as address:
        assert httpx.get(f"{address}/health").status_code == 200
        assert httpx.get(f"{address}/ready").status_code == 200
        for path in ("/", "/metrics", "/info", "/v1/models", "/openapi.json", "/entity?id=T:1"):
            refused = httpx.get(address + path)
            assert refused.status_code == 401, path
            assert refused.headers["www-authenticate"] == "Bearer"
        for given in ("s3cre", "s3crett", "x", "sécret"):
            header = {"Authorization": f"Bearer {given}".encode()}
            assert httpx.get(f"{address}/v1/models", headers=header).status_code == 401
        header = {"Authorization": "bearer s3cret"}
        assert httpx.get(f"{address}/v1/models", headers=header).status_code == 200
        # Nothing is read of a request that is not allowed.
        body = b"POST /link HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
        assert raw(address, body).startswith(b"HTTP/1.1 401 ")
    for text in ("", " \n", "schlüssel", "two words"):
        file.write_text(text)
        with pytest.raises(InputError):
            read_token(file)


def test_a_strangers_name_for_this_machine_is_refused(library: Library) -> None:
    with in_thread(library, config(allowed_hosts=["names.example"])) as address:
        port = address.rpartition(":")[2]
        for host, status in (
            ("evil.example", 421), (f"evil.example:{port}", 421), ("", 421), ("127.0.0.1", 200),
            (f"localhost:{port}", 200), ("[::1]:80", 200), ("names.example", 200),
            ("Names.Example:9", 200), ("10.1.2.3:8080", 200),
            # Answers hold the address, so what is no address is refused.
            ("localhost:80/<script>", 421), ("localhost:x@evil.example", 421),
            ("localhost:80;a", 421), ("[::1]evil.example", 421), ("[::1", 421), ("::1", 421),
            ("localhost evil.example", 421), ("localhost:", 421), ("l\xf6calhost", 421),
        ):  # fmt: skip
            answer = httpx.get(f"{address}/health", headers={"Host": host.encode("latin-1")})
            assert answer.status_code == status, host


def test_origins_may_read_if_they_were_named(library: Library) -> None:
    preflight = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type, x-stainless-os",
    }
    with in_thread(library, config(cors_origins=["https://good.example"], token="t")) as address:
        for origin, allowed in (("https://good.example", True), ("https://evil.example", False)):
            requested = httpx.options(f"{address}/link", headers={"Origin": origin, **preflight})
            assert ("access-control-allow-origin" in requested.headers) == allowed
            # Rejected requests have readable answers too, so that a page can show the reason.
            refused = httpx.post(f"{address}/link", headers={"Origin": origin})
            assert refused.status_code == 401
            assert ("access-control-allow-origin" in refused.headers) == allowed


def test_an_internal_error_is_answered_and_logged_without_the_texts(
    library: Library, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(logging.getLogger("mirror_rt.serving"), "propagate", True)
    with in_thread(library, config()) as address:
        monkeypatch.setattr(KnowledgeBase, "link", fail)
        monkeypatch.setattr(KnowledgeBase, "entity", fail)
        for answer in (
            httpx.post(f"{address}/link", json={"mentions": ["secret"]}),
            httpx.get(f"{address}/entity?id=secret", headers={"X-Request-ID": "r1"}),
        ):
            assert answer.status_code == 500
            assert answer.json()["error_type"] == "Backend"
            assert answer.headers["x-request-id"]
            assert "secret" not in answer.text
    output = [r for r in caplog.records if r.getMessage() == "internal error"]
    assert len(output) == 2
    assert vars(output[1])["request_id"] == "r1"
    assert "test_serving_operation.py" in vars(output[0])["where"]
    assert not any("secret" in str(vars(r)) for r in output)


def test_a_damaged_knowledge_base_is_no_fault_of_the_client(
    library: Library, things: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(*_: object, **__: object) -> None:
        raise KnowledgeBaseError(f"{things}/catalogue.sqlite: damaged")

    with in_thread(library, config()) as address:
        monkeypatch.setattr(KnowledgeBase, "link", damaged)
        answer = httpx.post(f"{address}/link", json={"mentions": ["a"]})
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert answer.json()["error"] == "things/catalogue.sqlite: damaged"


# Too much, too slow


def test_a_slow_client_is_cut_off(library: Library) -> None:
    with in_thread(library, config(limits={"receive_seconds": 0.3})) as address:
        begin = b"POST /link HTTP/1.1\r\nHost: localhost\r\n"
        assert raw(address, begin).startswith(b"HTTP/1.1 408 ")
        head = begin + b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        assert raw(address, head).startswith(b"HTTP/1.1 408 ")
        assert raw(address, b"") == b""  # nothing was begun
        health = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
        for more in (b"\r\n", b"GET /"):  # after an answer
            host, port = address.removeprefix("http://").split(":")
            with socket.create_connection((host, int(port)), timeout=60) as connection:
                connection.sendall(health)
                assert connection.recv(9_999).startswith(b"HTTP/1.1 200 ")
                connection.sendall(more)
                assert connection.recv(9_999).startswith(b"HTTP/1.1 408 ")
                assert connection.recv(9_999) == b""
        # A byte at a time does not help: the time counts from the first.
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=60) as slow:
            answer = b""
            slow.settimeout(0.02)
            for byte in begin * 100:
                try:
                    slow.send(bytes([byte]))
                    answer = slow.recv(1_000)
                    break
                except TimeoutError:
                    continue
                except ConnectionError:
                    break
            assert answer == b"" or answer.startswith((b"HTTP/1.1 408 ", b"HTTP/1.1 400 "))
            assert slow.fileno() >= 0
        assert httpx.get(f"{address}/health").status_code == 200


def test_a_refused_body_that_never_comes_has_one_answer(library: Library) -> None:
    with in_thread(library, config(limits={"receive_seconds": 0.3})) as address:
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(
                b"POST /link HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n\r\n"
            )
            found = b""
            while part := connection.recv(9_999):
                found += part
    assert re.findall(rb"HTTP/1.1 (\d+) ", found) == [b"413"]


def test_requests_that_wait_on_one_connection_are_bounded(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = b'{"inputs":"kidny"}'
    slow = (
        b"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    quick = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with in_thread(library, config()) as address:
        blocked = Blocked(library, monkeypatch)
        host, port = address.removeprefix("http://").split(":")
        with (
            socket.create_connection((host, int(port)), timeout=20) as few,
            socket.create_connection((host, int(port)), timeout=20) as many,
        ):
            few.sendall(slow + 30 * quick)
            with suppress(ConnectionError):  # it ends although the first is not answered
                many.sendall(slow + 3_000 * quick)
                assert many.recv(99) == b""
            assert not blocked.go.is_set()
            blocked.go.set()
            found = b""
            while found.count(b'{"status":"ok"}') < 30:
                found += few.recv(65_536)
        assert found.count(b"HTTP/1.1 200 ") == 31
        assert found.index(b"[[") < found.index(b'{"status"')


def test_a_body_that_grows_too_long_meanwhile_is_refused_as_such(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    with in_thread(library, config(limits={"body_bytes": 1_000})) as address:
        blocked = Blocked(library, monkeypatch)
        head = (
            b"GET /reconcile/things?queries=%7B%22q0%22%3A%7B%22query%22%3A%22kidny%22%7D%7D"
            b" HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        output = raw(address, head, then=[b"800\r\n" + b" " * 0x800 + b"\r\n0\r\n\r\n"])
        blocked.go.set()
    assert output.startswith(b"HTTP/1.1 413 ")


def test_one_document_for_all_mentions_is_checked_once(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []

    def spy(text: str) -> int | None:
        checked.append(text)
        return None

    text = "chronic kidney disease (CKD) is"
    with in_thread(library, config()) as address:
        monkeypatch.setattr(services, "lone_surrogate", spy)
        asked = {"mentions": ["CKD"] * 20, "document": text}
        answer = httpx.post(f"{address}/link", json=asked, timeout=60).json()
        assert checked.count(text) == 1
        results = answer["results"]
        assert [r["candidates"][0]["entity_id"] for r in results] == ["T:5"] * 20
        asked["document"] = "a" * 70_000
        assert httpx.post(f"{address}/link", json=asked).status_code == 413


def test_there_are_no_more_connections_than_allowed(library: Library) -> None:
    with in_thread(library, config(limits={"connections": 3})) as address:
        host, port = address.removeprefix("http://").split(":")
        held = [socket.create_connection((host, int(port))) for _ in range(3)]
        deadline = time.monotonic() + 30
        while not (output := raw(address, b"")).startswith(b"HTTP/1.1 503 "):
            assert time.monotonic() < deadline
        assert b"retry-after: 1" in output
        for connection in held:
            connection.close()
        deadline = time.monotonic() + 30
        while not raw(address, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").startswith(
            b"HTTP/1.1 200"
        ):
            assert time.monotonic() < deadline


def test_a_full_queue_answers_429_and_is_well_again(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    with in_thread(library, config(limits={"queued": 2_000})) as address:
        blocked = Blocked(library, monkeypatch)
        with ThreadPoolExecutor(40) as pool:
            body = {"input": ["some text"] * 100}

            def ask(_: int) -> httpx.Response:
                return httpx.post(f"{address}/v1/embeddings", json=body, timeout=60)

            futures = [pool.submit(ask, i) for i in range(40)]
            refused, _ = wait(futures, timeout=2)
            assert len(refused) >= 10
            for future in refused:
                answer = future.result()
                assert answer.status_code == 429
                assert answer.json()["error"]["code"] == "rate_limit_exceeded"
                assert 1 <= int(answer.headers["retry-after"]) <= 30
            assert httpx.get(f"{address}/health").status_code == 200
            # An exact match needs no model, and so no place in the queue.
            exact = httpx.post(f"{address}/link", json={"mentions": ["nurse"]})
            assert exact.status_code == 200
            blocked.go.set()
            statuses = [future.result().status_code for future in futures]
        assert set(statuses) == {200, 429}
        assert httpx.post(f"{address}/v1/embeddings", json=body).status_code == 200
        assert metric(address, "te_queue_tokens") == 0


def test_bodies_at_once_are_bounded(library: Library) -> None:
    head = b"POST /%b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += b"Content-Length: %d\r\n\r\n"
    large = json.dumps({"inputs": "a", "user": "x" * 90_000}).encode()
    with in_thread(library, config(limits={"held_bytes": 200_000})) as address:
        host, port = address.removeprefix("http://").split(":")
        held = [socket.create_connection((host, int(port)), timeout=60) for _ in range(2)]
        for connection in held:
            connection.sendall(head % (b"embed", len(large)) + large[:-1])
        deadline = time.monotonic() + 30
        body = json.dumps({"inputs": "a", "user": "x" * 50_000}).encode()
        while not (told := raw(address, head % (b"embed", len(body)) + body)).startswith(
            b"HTTP/1.1 429 "
        ):
            assert time.monotonic() < deadline
        assert b"\r\nretry-after: 1\r\n" in told
        assert json.loads(told.partition(b"\r\n\r\n")[2])["error_type"] == "Overloaded"
        small = httpx.post(f"{address}/embed", json={"inputs": "a"})
        assert small.status_code == 200
        for connection in held:  # they have their place, and give it back
            connection.sendall(large[-1:])
            assert connection.recv(99).startswith(b"HTTP/1.1 200 ")
            connection.close()
        assert raw(address, head % (b"embed", len(body)) + body).startswith(b"HTTP/1.1 200 ")


def test_what_takes_too_long_is_refused(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    with in_thread(library, config(limits={"answer_seconds": 0.2})) as address:
        blocked = Blocked(library, monkeypatch)
        answer = httpx.post(f"{address}/embed", json={"inputs": ["a"] * 2_000})
        blocked.go.set()
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize("pipelined", [b"", b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"])
def test_what_nobody_waits_for_is_not_computed(
    library: Library, monkeypatch: pytest.MonkeyPatch, pipelined: bytes
) -> None:
    with in_thread(library, config()) as address:
        blocked = Blocked(library, monkeypatch)
        body = json.dumps({"inputs": [f"text {i}" for i in range(2_000)]}).encode()
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as gone:
            gone.sendall(
                b"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n" % len(body) + body + pipelined
            )
            until(address, "te_queue_size", 1)
            while blocked.texts == 0:
                httpx.get(f"{address}/health")
        until(address, "te_queue_size", 0)
        assert metric(address, "te_queue_tokens") == 0
        begun = blocked.texts
        blocked.go.set()
        assert httpx.post(f"{address}/embed", json={"inputs": "a"}).status_code == 200
        assert blocked.texts == begun + 1
        assert begun < 2_000


def deaf_client(address: str) -> socket.socket:
    """Ask for megabytes, and read a byte of them."""
    body = json.dumps({"inputs": ["fever " * 100] * 2_048}).encode()
    host, port = address.removeprefix("http://").split(":")
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    deaf.connect((host, int(port)))
    deaf.sendall(
        b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body) + body
    )
    deaf.recv(1)
    return deaf


def closed(client: socket.socket) -> None:
    deadline = time.monotonic() + 20
    while open_at_server(client):
        assert time.monotonic() < deadline


def test_unread_answers_of_all_clients_are_bounded(library: Library) -> None:
    with in_thread(library, config(limits={"unread_bytes": 1_000_000})) as address:
        with deaf_client(address) as deaf:
            closed(deaf)
        assert httpx.get(f"{address}/health").status_code == 200
    with in_thread(library, config()) as address:  # one of these is allowed
        with deaf_client(address) as deaf:
            assert httpx.get(f"{address}/health").status_code == 200
            assert open_at_server(deaf)


@pytest.mark.parametrize("then", [b"", b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"])
def test_a_client_that_does_not_read_is_given_up(library: Library, then: bytes) -> None:
    with in_thread(library, config(limits={"receive_seconds": 0.3})) as address:
        with deaf_client(address) as deaf:
            assert open_at_server(deaf)
            deaf.sendall(then)  # another request does not give it more time
            closed(deaf)


# Start and stop


def test_a_stop_answers_503_when_its_time_is_up(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadPoolExecutor(1) as pool:
        with in_thread(library, config(limits={"stop_seconds": 0})) as address:
            blocked = Blocked(library, monkeypatch)
            future = pool.submit(httpx.post, f"{address}/embed", json={"inputs": ["a"]}, timeout=60)
            while not blocked.texts:
                httpx.get(f"{address}/health")
            future.add_done_callback(lambda _: blocked.go.set())
        answer = future.result()
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["error_type"] == "Unhealthy"


def test_a_hangup_stops_it_and_its_limit_of_open_files_is_raised(things: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    low = len(list(Path("/proc/self/fd").iterdir())) + 300
    assert low < Limits().connections
    resource.setrlimit(resource.RLIMIT_NOFILE, (low, hard))
    hangup = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup would have it ignored
    try:
        with command("--kb", things) as server:
            limits = Path(f"/proc/{server.process.pid}/limits").read_text()
            (raised,) = re.findall(r"^Max open files +(\d+)", limits, re.MULTILINE)
            assert int(raised) >= min(Limits().connections, hard)
            assert server.stop(signal.SIGHUP) == 129
            assert server.lines[-1]["message"] == "stopping"
    finally:
        signal.signal(signal.SIGHUP, hangup)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_second_interrupt_ends_it_at_once(things: Path) -> None:
    with command("--kb", things) as server:
        host, port = server.url.removeprefix("http://").split(":")
        connections = [socket.create_connection((host, int(port)), timeout=60) for _ in range(20)]
        body = json.dumps({"inputs": [f"text {i}" for i in range(2_048)]}).encode()
        for connection in connections:
            connection.sendall(
                b"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n" % len(body) + body
            )
        httpx.get(f"{server.url}/health", timeout=60)
        server.process.send_signal(signal.SIGINT)
        while not any(line["message"] == "stopping" for line in server.lines):
            pass
        assert server.stop(signal.SIGINT) == 130
        for connection in connections:
            with connection:
                head = connection.recv(99)
            assert head.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 503 ")), head
        assert {line.get("level") for line in server.lines} == {"info"}


def test_a_stop_answers_what_was_begun(things: Path) -> None:
    with command("--kb", things) as server:
        host, port = server.url.removeprefix("http://").split(":")
        connections = [socket.create_connection((host, int(port)), timeout=60) for _ in range(100)]
        for i, connection in enumerate(connections):
            body = json.dumps({"inputs": [f"text {i} {k}" for k in range(40)]}).encode()
            connection.sendall(
                b"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n" % len(body) + body
            )
        # Connections are handled in their order: when this one is answered, all are.
        httpx.get(f"{server.url}/health", timeout=60)
        assert server.stop() == 143
        for connection in connections:
            with connection:
                found = b""
                while part := connection.recv(1 << 20):
                    found += part
            head, _, body = found.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 "), head
            assert np.array(json.loads(body)).shape == (40, 32)
        assert server.lines[-1]["message"] in {"request", "stopping"}
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{server.url}/health")


@pytest.mark.parametrize(
    "given",
    [
        {}, {"kb": ["KB", "KB"]}, {"kb": ["=KB"]}, {"kb": ["a="]}, {"kb": ["nothing here"]},
        {"bundle": ["m=KB"]}, {"token_file": Path("/no/such/file")}, {"host": "256.0.0.1"},
        {"public_url": "names"}, {"cors": ["names"]}, {"port": "TAKEN"}, {"host": "a" * 70},
        {"host": "ü" * 70}, {"threads": 100_000},
        {"public_url": "http://[::1"}, {"public_url": "http://a/<b>"}, {"cors": ["http://[::1"]},
        {"bundle": ["\udcff=KB"]},
    ],
)  # fmt: skip
def test_a_start_that_cannot_be_is_refused(things: Path, given: dict[str, Any]) -> None:
    arguments = {"kb": [f"a={things}"], **given} if given else {}
    for name in ("kb", "bundle"):
        if name in arguments:
            arguments[name] = [text.replace("KB", str(things)) for text in arguments[name]]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        if given.get("port") == "TAKEN":
            arguments["port"] = taken.getsockname()[1]
        with pytest.raises(MirrorError) as refused:
            serve_command(**arguments)
    assert "\n" not in str(refused.value)


def test_the_readmes_commands_run(things: Path) -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    section = readme.partition("\n## Serve\n")[2].partition("\n## ")[0]
    (block,) = re.findall(r"```console\n(.*?)```", section, re.DOTALL)
    lines = [line.removeprefix("$ ") for line in block.splitlines()]
    _, start, *asks = lines
    assert len(asks) == 3
    words = start.replace("tools=kb", f"tools={things}").split()
    assert words[:2] == ["mirror-rt", "serve"]
    with command(*words[2:]) as server:
        for ask in asks:
            line = ask.replace("http://127.0.0.1:8080", server.url)
            done = subprocess.run(
                ["sh", "-c", line], capture_output=True, text=True, timeout=60, check=True
            )
            answer = json.loads(done.stdout)
            assert "error" not in answer, answer


def parsed(words: Sequence[str]) -> dict[str, Any]:
    """Parse the words after ``serve`` as the program does."""
    group = typer.main.get_command(program)
    serve = group.commands["serve"]  # type: ignore[attr-defined]
    found: dict[str, Any] = serve.make_context("serve", list(words)).params
    return found


def test_the_image_is_made_of_what_there_is() -> None:
    text = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line and line[0] != "#"]
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    stages = [output for word, output in lines if word == "FROM"]
    assert len(stages) == 2
    let_in = (REPOSITORY / ".dockerignore").read_text().splitlines()
    copied = [output.split() for word, output in lines if word == "COPY"]
    for *sources, _ in (output for output in copied if not output[0].startswith("--")):
        for source in sources:
            assert (REPOSITORY / source).exists(), source
            assert f"!{source}" in let_in
    installs = [output for word, output in lines if word == "RUN" and "pip install" in output]
    (extra,) = re.findall(r"'\.\[(\w+)\]'", " ".join(installs))
    assert f"\n{extra} = [" in project
    assert any(word == "USER" and output != "root" for word, output in lines)
    (entry,) = (json.loads(output) for word, output in lines if word == "ENTRYPOINT")
    assert f'\n{entry[0]} = "' in project
    assert entry[1] == "serve"
    compose = yaml.safe_load((REPOSITORY / "compose.yaml").read_text(encoding="utf-8"))
    service = compose["services"]["mirror-rt"]
    requested = parsed([*entry[2:], *service["command"]])
    assert requested["host"] == "0.0.0.0"
    (kb,) = requested["kb"]
    (volume,) = service["volumes"]
    # A mount of the knowledge base itself would go on showing the folder that an update replaced.
    assert volume.split(":")[1:] == [str(Path(kb.partition("=")[2]).parent), "ro"]
    (secret,) = service["secrets"]
    assert str(requested["token_file"]) == f"/run/secrets/{secret}"
    assert secret in compose["secrets"]
    (ports,) = service["ports"]
    assert ports == f"127.0.0.1:{requested['port']}:{requested['port']}"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]


def test_the_unit_starts_what_there_is() -> None:
    path = REPOSITORY / "docs" / "mirror-rt.service"
    unit = path.read_text(encoding="utf-8")
    (start,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    words = start.split()
    assert words[0].endswith("/mirror-rt")
    assert words[1] == "serve"
    assert str(parsed(words[2:])["token_file"]) == "${CREDENTIALS_DIRECTORY}/token"
    assert "LoadCredential=token:" in unit
    stop = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert int(stop[0]) > Limits().stop_seconds


def test_systemd_knows_every_word_of_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here")
    unit = (REPOSITORY / "docs" / "mirror-rt.service").read_text(encoding="utf-8")
    copy = tmp_path / "mirror-rt.service"
    copy.write_text(unit.replace("/opt/mirror-rt/bin/mirror-rt", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_benchmark_of_overload_notices_wrong_answers(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    import serve_overload
    import servers

    right = {"nurse": ["T:10"], "liver cancer": ["T:4"]}
    with in_thread(library, config()) as address:
        for expected, wrong in ((right, 0), ({m: ["T:1"] for m in right}, 40)):
            found = asyncio.run(
                serve_overload.ask(
                    address.removeprefix("http://"), [*right], expected, clients=4, each=10
                )
            )
            assert (found["statuses"], found["wrong"]) == ({"200": 40}, wrong)
    bodies = [json.loads(b)["input"] for b in servers.embeddings([*"abcdefg"], size=3)]
    assert bodies == [["a", "b", "c"], ["d", "e", "f"]]
