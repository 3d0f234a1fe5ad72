"""A real ``mirror-rt serve`` on loopback: embeddings, linking, and error responses."""

from __future__ import annotations

import base64
import gzip
import json
import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import openai
import orjson
import pytest
from pydantic import BaseModel, ValidationError

from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.runtime.encoder import Encoder
from mirror_rt.serving.link_api import EntityFields, LinkRequest, NameFields, SearchRequest
from mirror_rt.serving.openai_api import EmbeddingsRequest
from mirror_rt.serving.tei_api import EmbedRequest, RootRequest, SimilarityRequest, TokenizeRequest
from tests.serving import THINGS, Server, build, command, raw
from tests.tiny import NAMES


@pytest.fixture(scope="module")
def folder(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tiny_bundle, tmp_path_factory.mktemp("serving") / "things")


@pytest.fixture(scope="module")
def server(folder: Path, tiny_bundle: Path) -> Iterator[Server]:
    with command("--kb", f"things={folder}", "--bundle", f"org/tiny={tiny_bundle}") as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as found:
        yield found


@pytest.fixture(scope="module")
def encoder(tiny_bundle: Path) -> Encoder:
    return Encoder.open(tiny_bundle)


@pytest.fixture(scope="module")
def kb(folder: Path) -> Iterator[KnowledgeBase]:
    with KnowledgeBase.open(folder) as found:
        yield found


# OpenAI


@pytest.fixture(scope="module")
def official(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as found:
        yield found


def test_the_official_client_gets_the_vectors_of_the_encoder(
    official: openai.OpenAI, encoder: Encoder
) -> None:
    expected = encoder.encode(NAMES)
    by_default = official.embeddings.create(model="org/tiny", input=NAMES)  # base64 underneath
    as_floats = official.embeddings.create(model="things", input=NAMES, encoding_format="float")
    for found in (by_default, as_floats):
        assert [row.index for row in found.data] == list(range(len(NAMES)))
        vectors = np.array([row.embedding for row in found.data], dtype=np.float32)
        np.testing.assert_allclose(vectors, expected, atol=1e-6)
    assert by_default.model == "org/tiny"
    tokens = sum(len(tokens) for tokens in encoder.tokenize(NAMES))
    assert by_default.usage.prompt_tokens == by_default.usage.total_tokens == tokens


def test_without_a_format_there_are_numbers_not_base64(
    client: httpx.Client, encoder: Encoder
) -> None:
    (row,) = client.post("/v1/embeddings", json={"input": "fever"}).json()["data"]
    np.testing.assert_allclose(row["embedding"], encoder.encode("fever"), atol=1e-6)
    (coded,) = client.post(
        "/v1/embeddings", json={"input": ["fever"], "encoding_format": "base64"}
    ).json()["data"]
    decoded = np.frombuffer(base64.b64decode(coded["embedding"]), dtype="<f4")
    np.testing.assert_array_equal(decoded, np.array(row["embedding"], dtype=np.float32))


def test_fewer_dimensions_are_the_first_at_length_one(
    official: openai.OpenAI, encoder: Encoder
) -> None:
    found = official.embeddings.create(model="org/tiny", input=["red rash"], dimensions=7)
    head = encoder.encode("red rash")[:7]
    np.testing.assert_allclose(found.data[0].embedding, head / np.linalg.norm(head), atol=1e-6)
    with pytest.raises(openai.BadRequestError) as refused:
        official.embeddings.create(model="org/tiny", input="a", dimensions=33)
    assert refused.value.param == "dimensions"


def test_token_ids_are_refused_with_the_way_out(official: openai.OpenAI) -> None:
    for ids in ([1, 2, 3], [[1, 2], [3]]):
        with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False"):
            official.embeddings.create(model="org/tiny", input=ids)  # type: ignore[arg-type]


def test_models_are_listed_and_found_under_their_names(official: openai.OpenAI) -> None:
    assert [model.id for model in official.models.list()] == ["org/tiny", "things"]
    assert official.models.retrieve("org/tiny").id == "org/tiny"
    with pytest.raises(openai.NotFoundError) as refused:
        official.models.retrieve("../../etc/passwd")
    assert refused.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError) as refused:
        official.embeddings.create(model="gpt", input="a")
    assert refused.value.param == "model"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": []}, "input"), ({}, "input"), ({"input": 7}, "input"),
        ({"input": ["a", 7]}, "input"), ({"input": None}, "input"),
        ({"input": "a", "encoding_format": "int"}, "encoding_format"),
        ({"input": "a", "dimensions": 0}, "dimensions"), ({"input": "a\ud800"}, "input"),
    ],
)  # fmt: skip
def test_a_bad_request_gets_an_error_in_openais_format(
    client: httpx.Client, body: dict[str, object], param: str
) -> None:
    answer = client.post(
        "/v1/embeddings",
        content=json.dumps(body),
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert "\n" not in error["message"]


# TEI


def test_embed_gives_vectors_in_order_also_for_one_text(
    client: httpx.Client, encoder: Encoder
) -> None:
    for path in ("/embed", "/"):
        one = client.post(path, json={"inputs": "blue eye", "truncate": True, "normalize": True})
        np.testing.assert_allclose(one.json(), encoder.encode(["blue eye"]), atol=1e-6)
        many = client.post(path, json={"inputs": NAMES})
        np.testing.assert_allclose(many.json(), encoder.encode(NAMES), atol=1e-6)
        assert int(many.headers["x-compute-characters"]) == sum(map(len, NAMES))


def test_similarity_is_the_cosine_at_both_addresses(client: httpx.Client, encoder: Encoder) -> None:
    pair = {"inputs": {"source_sentence": "lung tumor", "sentences": ["fever", "lung tumor"]}}
    vectors = encoder.encode(["lung tumor", "fever"])
    for path in ("/similarity", "/"):
        found = client.post(path, json=pair).json()
        np.testing.assert_allclose(found, [vectors[0] @ vectors[1], 1.0], atol=1e-5)


def test_the_hubs_client_posts_to_an_address_and_gets_arrays(
    server: Server, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import InferenceClient, constants
    from huggingface_hub.utils import reset_sessions

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    reset_sessions()  # one that an earlier test made is offline

    found = InferenceClient().feature_extraction("red rash", model=server.url, normalize=True)
    np.testing.assert_allclose(found, encoder.encode(["red rash"]), atol=1e-6)
    cosines = InferenceClient().sentence_similarity(
        "red rash", other_sentences=["fever", "red rash"], model=server.url
    )
    assert cosines[1] > cosines[0]
    reset_sessions()


def test_tokenize_gives_the_pieces_and_their_places(client: httpx.Client) -> None:
    ((cls, *pieces, sep),) = client.post("/tokenize", json={"inputs": "heart 42"}).json()
    assert (cls["special"], sep["special"], cls["start"]) == (True, True, None)
    assert "".join("heart 42"[p["start"] : p["stop"]] for p in pieces) == "heart42"
    bare = client.post("/tokenize", json={"inputs": ["heart 42"], "add_special_tokens": False})
    assert bare.json() == [pieces]


def test_info_health_and_ready(client: httpx.Client, encoder: Encoder) -> None:
    info = client.get("/info").json()
    assert info["model_id"] == "org/tiny"
    assert info["max_input_length"] == encoder.bundle.manifest.max_length
    assert client.get("/health").status_code == 200
    ready = client.get("/ready").json()
    assert ready["kbs"]["things"]["entities"] == len(THINGS)


def test_texts_are_cut_off_unless_the_client_forbids_it(
    client: httpx.Client, encoder: Encoder
) -> None:
    long = "fever " * 600
    for more in ({}, {"truncate": True}):
        answer = client.post("/embed", json={"inputs": ["fever", long], **more})
        np.testing.assert_allclose(answer.json(), encoder.encode(["fever", long]), atol=1e-6)
    pair = {"source_sentence": "fever", "sentences": [long]}
    whole = {"truncate": False}
    for path, body in (("/embed", {"inputs": ["fever", long], **whole}),
                       ("/similarity", {"inputs": pair, "parameters": whole}),
                       ("/", {"inputs": ["fever", long], **whole}),
                       ("/", {"inputs": ["fever", long], "parameters": whole}),
                       ("/", {"inputs": pair, **whole}),
                       ("/", {"inputs": pair, "parameters": whole})):  # fmt: skip
        answer = client.post(path, json=body)
        assert (answer.status_code, answer.json()["error_type"]) == (422, "Validation")
    short = client.post("/embed", json={"inputs": ["fever"], "truncate": False})
    np.testing.assert_allclose(short.json(), encoder.encode(["fever"]), atol=1e-6)


def test_what_tei_can_and_this_cannot_is_refused(client: httpx.Client) -> None:
    for more in ({"prompt_name": "query"}, {"truncation_direction": "Left"},
                 {"normalize": False}):  # fmt: skip
        answer = client.post("/embed", json={"inputs": "a", **more})
        assert answer.status_code == 422
        assert answer.json()["error_type"] == "Validation"
    pair = {"source_sentence": "a", "sentences": ["b"]}
    for inputs in ("a", pair):
        for option in ({"prompt_name": "query"}, {"truncation_direction": "Left"}):
            for body in (option, {"parameters": option}):
                answer = client.post("/", json={"inputs": inputs, **body})
                assert answer.status_code == 422, body
    assert client.post("/embed", json={"inputs": []}).json()["error_type"] == "Empty"
    assert client.post("/embed", json={"inputs": [[1, 2]]}).status_code == 422


# Linking and search


def test_link_gives_what_the_library_gives(client: httpx.Client, kb: KnowledgeBase) -> None:
    mentions = [*NAMES, "hole in the heart", "Short Stature", "kidny disease", "", "?!", "T\0x"]
    for options in (
        {}, {"top": 2}, {"min_probability": 0.5}, {"filters": {"type": ["job", "growth"]}},
        {"split_composites": True},
    ):  # fmt: skip
        found = client.post("/link", json={"mentions": mentions, **options})
        assert found.status_code == 200, found.text
        expected = [result.to_dict() for result in kb.link(mentions, **options)]  # type: ignore[arg-type]
        assert _rounded(found.json()["results"]) == _rounded(expected)


def test_contexts_and_documents_go_with_their_mentions(
    client: httpx.Client, kb: KnowledgeBase
) -> None:
    mentions = ["hole in the heart", "CKD", "hole in the heart"]
    beside = {
        "contexts": ["", "", "between the ventricles"],
        "document": ["", "chronic kidney disease (CKD) is", ""],
    }
    found = client.post("/link", json={"mentions": mentions, **beside}).json()["results"]
    assert _rounded(found) == _rounded([r.to_dict() for r in kb.link(mentions, **beside)])
    assert found[1]["candidates"][0]["entity_id"] == "T:5"
    wrong = client.post("/link", json={"mentions": mentions, "contexts": ["one"]})
    assert wrong.status_code == 400


def test_explain_and_search_are_those_of_the_library(
    client: httpx.Client, kb: KnowledgeBase
) -> None:
    mentions = ["cancer of liver", "nurse"]
    found = client.post("/explain", json={"mentions": mentions, "top": 3}).json()["results"]
    expected = [e.to_dict() for e in kb.explain(mentions, top=3)]
    assert _rounded(found) == _rounded(expected)
    assert found[0]["candidates"][0]["contributions"]
    for options in ({}, {"hybrid": True, "top": 4}, {"filters": {"type": "job"}}):
        answer = client.post("/search", json={"queries": mentions, **options}).json()["results"]
        expected = [r.to_dict() for r in kb.search(mentions, **options)]  # type: ignore[arg-type]
        assert _rounded(answer) == _rounded(expected)


def test_an_entity_is_found_by_its_id_or_an_alternative_one(client: httpx.Client) -> None:
    found = client.get("/entity", params={"id": "T:40", "kb": "things"}).json()
    assert (found["id"], found["name"]) == ("T:4", "liver cancer")
    assert found["cross_references"] == ["ICD:C22"]
    assert set(found) == set(EntityFields.model_fields)  # the schema tells clients of every field
    assert set(found["names"][0]) == set(NameFields.model_fields)
    odd = client.get("/entity", params={"id": "T/9 a#b?c"}).json()
    assert odd["names"][0]["text"] == "teacher <script>alert(1)</script>"
    missing = client.get("/entity", params={"id": "<script>"})
    assert missing.status_code == 404
    assert client.get("/entity").status_code == 422


def test_every_client_gets_its_own_answer(client: httpx.Client, kb: KnowledgeBase) -> None:
    requested = [f"left upper limb pane {i % 40}" for i in range(120)] + NAMES * 3
    expected = {m: r[0].entity_id for m, r in zip(requested, kb.link(requested), strict=True)}
    together = threading.Barrier(8)

    def ask(part: list[str]) -> None:
        together.wait(30)
        with httpx.Client(base_url=str(client.base_url), timeout=60) as own:
            for mention in part:
                (found,) = own.post("/link", json={"mentions": [mention]}).json()["results"]
                assert found["mention"] == mention
                assert found["candidates"][0]["entity_id"] == expected[mention]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, [requested[i::8] for i in range(8)]))


def test_2048_texts_and_single_ones_at_once(client: httpx.Client, encoder: Encoder) -> None:
    texts = [f"{NAMES[i % len(NAMES)]} {i}" for i in range(2_048)]
    expected = encoder.encode(texts)
    with ThreadPoolExecutor(4) as pool:
        whole = pool.submit(client.post, "/embed", json={"inputs": texts})
        single = [pool.submit(client.post, "/embed", json={"inputs": t}) for t in texts[:60]]
        for i, answer in enumerate(single):
            np.testing.assert_allclose(answer.result().json()[0], expected[i], atol=1e-6)
        np.testing.assert_allclose(whole.result().json(), expected, atol=1e-6)


# Requests that cannot be answered


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/link", b"{", 400), ("/link", b"\xff\xfe", 400), ("/link", b"", 422),
        ("/link", b"[]", 422), ("/link", b'{"mentions":"a"}', 422),
        ("/link", b'{"mentions":[]}', 400), ("/link", b'{"mentions":["a"],"top":-1}', 422),
        ("/link", b'{"mentions":["a"],"top":1000000000}', 422),
        ("/link", b'{"mentions":["a"],"tpo":1}', 422),
        ("/link", b'{"mentions":["a"],"top":true}', 422),
        ("/link", b'{"mentions":["a"],"top":"5"}', 422),
        ("/link", b'{"mentions":["a"],"top":1e400}', 422),
        ("/link", b'{"mentions":["a"],"split_composites":1}', 422),
        ("/link", b'{"mentions":["a"],"' + b"k" * 100_000 + b'":1}', 422),
        ("/link", b'{"mentions":["a"],"kb":"' + b"k" * 100_000 + b'"}', 404),
        ("/link", b'{"mentions":["a"],"filters":{"' + b"k" * 60_000 + b'":"x"}}', 400),
        ("/v1/embeddings", b'{"input":"a","dimensions":true}', 400),
        ("/link", b'{"mentions":["a"],"min_probability":NaN}', 422),
        ("/link", b'{"mentions":["a"],"kb":"../things"}', 404),
        ("/link", b'{"mentions":["\\ud800"]}', 400),
        ("/link", b'{"mentions":["a"],"kb":"\\ud800"}', 404),
        ("/link", b'{"mentions":["a"],"filters":{"\\ud800":"a"}}', 400),
        ("/link", b'{"mentions":["a"],"filters":{"type":"\\ud800"}}', 400),
        ("/link", b'{"mentions":["a"],"\\ud800":"a"}', 422),
        ("/v1/embeddings", b'{"input":"a","model":"\\ud800"}', 404),
        ("/link", b'{"mentions":["a"],"filters":{"typ":"x"}}', 400),
        ("/link", b'{"mentions":["a"],"filters":{"type":[]}}', 400),
        ("/link", b'{"mentions":["a"],"filters":{"type":"no such"}}', 400),
        ("/link", b'{"mentions":["a"],"target_precision":0.99999}', 400),
        ("/link", b'{"mentions":["a"],"wrong_at_most":0.05}', 400),
        ("/link", b'{"mentions":["a"],"wrong_at_most":1}', 422),
        ("/link", b"[" * 10_000 + b"]" * 10_000, 400),
        ("/link", b'{"mentions":' + b"[" * 10_000, 400),
        ("/link", b'{"mentions":["a"],"top":' + b"9" * 5_000 + b"}", 400),
        ("/v1/embeddings", b'{"input":"a","dimensions":' + b"9" * 5_000 + b"}", 400),
        ("/search", b'{"queries":["a"],"top":0}', 422),
        ("/explain", orjson.dumps({"mentions": ["a"] * 65}), 413),
        ("/link", orjson.dumps({"mentions": ["a"] * 2_049}), 413),
        ("/link", orjson.dumps({"mentions": ["a" * 70_000]}), 413),
        ("/embed", orjson.dumps({"inputs": ["a"] * 2_049}), 413),
        ("/v1/embeddings", orjson.dumps({"input": ["a"] * 2_049}), 413),
        ("/v1/embeddings", b"{", 400), ("/v1/nothing", b"{}", 404), ("/nothing", b"{}", 404),
        ("/health", b"", 405),
    ],
)  # fmt: skip
def test_bad_input_has_a_status_and_one_line(
    client: httpx.Client, path: str, body: bytes, status: int
) -> None:
    answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    output = answer.json()["error"]
    message = output["message"] if path.startswith("/v1") else output
    assert message
    assert "\n" not in message
    assert "/things" not in message.replace("'../things'", "")  # no folder is named
    assert "Traceback" not in answer.text
    assert "error parsing" not in message  # gives no way out
    assert len(message) <= 600


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/link", b'{"mentions":["nurse"],"mentions":["kidny"]}'),
        ("/link", b'{"mentions":["nurse"],"top":"2"}'),
        ("/link", b'{"mentions":["nurse"],"top":2.0}'),
        ("/link", b'\xef\xbb\xbf{"mentions":["nurse"]}'),
        ("/link", '{"mentions":["nurse"]}'.encode("utf-16")),
        ("/link", b'{"mentions":["nurse"],"top":2.5}'), ("/link", b'{"mentions":["\\ud800"]}'),
        ("/link", b'{"mentions":["nurse"],"min_probability":-0.0}'),
        ("/search", b'{"queries":["nurse"],"hybrid":"yes"}'),
        ("/v1/embeddings", b'{"input":"a","user":null,"more":1}'),
        ("/embed", b'{"inputs":["a",1]}'),
        ("/", b'{"inputs":{"source_sentence":"a","sentences":["b"]}}'),
    ],
)  # fmt: skip
def test_who_reads_a_body_makes_no_difference(client: httpx.Client, path: str, body: bytes) -> None:
    # Bodies of this kind of JSON are read by FastAPI.
    kinds = ("application/json", "Application/JSON; charset=utf-8", "application/more+json")
    answers = [client.post(path, content=body, headers={"Content-Type": k}) for k in kinds]
    assert len({answer.status_code for answer in answers}) == 1
    assert len({answer.content for answer in answers}) == 1


def test_a_compressed_body_is_refused(client: httpx.Client) -> None:
    answer = client.post(
        "/link", content=gzip.compress(b'{"mentions":["nurse"]}'),
        headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
    )  # fmt: skip
    assert answer.status_code == 415


def test_trailers_are_no_headers(server: Server) -> None:
    body = b'{"mentions":["nurse"]}'
    requested = (
        b"POST /link HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
        b"Content-Type: application/json\r\n\r\n%x\r\n%b\r\n0\r\nX-Request-ID: trailer\r\n\r\n"
    )
    output = raw(server.url, requested % (len(body), body))
    assert output.startswith(b"HTTP/1.1 200 ")
    assert b"trailer" not in output


@pytest.mark.parametrize("kind", [LinkRequest, SearchRequest, EmbeddingsRequest, EmbedRequest,
                                  RootRequest, SimilarityRequest, TokenizeRequest])  # fmt: skip
def test_a_body_full_of_faults_has_few_of_them(kind: type[BaseModel]) -> None:
    faults = [1, "a", True, [], [[]], {}, None]
    lists = [[fault] * 1_000 for fault in faults] + [["a", *([fault] * 1_000)] for fault in faults]
    values = [*lists, {"source_sentence": "a", "sentences": [1] * 1_000}]
    values += [{str(i): fault for i in range(1_000)} for fault in faults]
    bodies: list[object] = [{field: value} for field in kind.model_fields for value in values]
    bodies.append({str(i): 1 for i in range(1_000)})
    counts = []
    for body in bodies:
        try:
            kind.model_validate_json(json.dumps(body))
        except ValidationError as error:
            counts.append(error.error_count())
    assert counts
    assert max(counts) < 20


def test_a_client_that_waits_to_send_its_body_gets_100_continue(server: Server) -> None:
    body = b'{"mentions":["nurse"]}'
    host, _, port = server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(
            b"POST /link HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_head_is_answered_without_a_body(server: Server) -> None:
    requested = b"%b /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    output = raw(server.url, requested % b"HEAD", then=())
    head, _, body = output.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"content-length: 15\r\n" in head
    assert body == b""
    assert raw(server.url, (requested % b"HEAD").replace(b"/health", b"/link")).startswith(
        b"HTTP/1.1 405 "
    )
    assert raw(server.url, requested % b"GET").endswith(b'{"status":"ok"}')


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/", "GET, HEAD, POST"), ("/reconcile/things", "GET, HEAD, POST"), ("/link", "POST"),
        ("/health", "GET, HEAD"), ("/v1/models/a/b", "GET, HEAD"),
        ("/static/style.css", "GET, HEAD"),
    ],
)  # fmt: skip
def test_a_405_names_every_method_of_the_path(
    client: httpx.Client, path: str, allowed: str
) -> None:
    answer = client.put(path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allowed


def test_a_body_that_is_too_long_is_refused_before_it_is_read(server: Server) -> None:
    begin = b"POST /link HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    output = raw(server.url, begin + b"Content-Length: 104857600\r\n\r\n")
    assert output.startswith(b"HTTP/1.1 413 ")
    pieces = [b"100000\r\n" + b" " * 0x100000 + b"\r\n"] * 5 + [b"0\r\n\r\n"]
    output = raw(server.url, begin + b"Transfer-Encoding: chunked\r\n\r\n", then=pieces)
    assert output.startswith(b"HTTP/1.1 413 ")


def test_headers_without_an_end_are_cut_off(server: Server) -> None:
    output = raw(
        server.url, b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: ", then=[b"a" * 70_000]
    )
    assert output.startswith(b"HTTP/1.1 431 ")
    lines = b"".join(b"X-%d: a\r\n" % i for i in range(9_000))
    output = raw(server.url, b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + lines)
    assert output.startswith(b"HTTP/1.1 431 ")


def test_what_is_not_http_is_reported_so_in_json(server: Server) -> None:
    two = b"POST /link HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na"
    for data in (b"\x16\x03\x01\0\xc8", b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", two):
        head, _, body = raw(server.url, data).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        assert json.loads(body)["error_type"] == "Validation"


def test_a_client_that_asks_for_http_2_gets_an_answer(server: Server) -> None:
    body = b'{"mentions":["nurse"]}'
    requested = (
        b"POST /link HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body) + body
    )
    before = len([line for line in server.lines if line["message"] != "request"])
    assert raw(server.url, requested).startswith(b"HTTP/1.1 200 ")
    assert len([line for line in server.lines if line["message"] != "request"]) == before


def test_many_requests_for_http_2_at_once_are_no_internal_error(server: Server) -> None:
    request = b"GET /%b HTTP/1.1\r\nHost: localhost\r\nConnection: %b\r\nUpgrade: h2c\r\n\r\n"
    host, _, port = server.url.removeprefix("http://").partition(":")
    paths = [b"health" if i % 2 else b"nothing" for i in range(20)]
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(b"".join(request % (path, b"Upgrade") for path in paths))
        found = b""
        while found.count(b"HTTP/1.1 ") < 20:
            found += connection.recv(65_536)
    assert re.findall(rb"HTTP/1.1 (\d+) ", found) == [b"404", b"200"] * 10
    # What follows a request that closes the connection is dropped.
    output = raw(
        server.url, request % (b"health", b"Upgrade, close") + request % (b"nothing", b"Upgrade")
    )
    assert output.startswith(b"HTTP/1.1 200 ")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(request % (b"health", b"Upgrade") * 1_500)
        with suppress(ConnectionError):
            while connection.recv(65_536):
                pass
    assert httpx.get(f"{server.url}/health").status_code == 200
    assert all("level" in line for line in server.lines), server.lines


def test_text_that_is_not_json_is_an_error(client: httpx.Client) -> None:
    answer = client.post("/link", content=b'{"mentions":["a"]}')
    assert answer.status_code == 422
    assert "application/json" in answer.json()["error"]


# Operation


def test_what_is_logged_has_no_texts(server: Server, client: httpx.Client) -> None:
    secret = "a mention that is nobody's business"
    client.post("/link", json={"mentions": [secret]}, headers={"X-Request-ID": "mine-1"})
    client.get("/entity", params={"id": secret})
    client.get(f"/{secret}", headers={"X-Request-ID": "evil\tid"})
    for body in (b"%%%", b"--b\r\n\xe9", b"--b\r\n@: business\r\n", b"x=%e9&&&;business"):
        for kind in ("multipart/form-data; boundary=b", "application/x-www-form-urlencoded"):
            client.post("/reconcile/things", content=body, headers={"Content-Type": kind})
    answer = client.post("/search", json={"queries": [secret], "kb": "x"})
    while not any(line.get("status") == answer.status_code for line in server.lines[-3:]):
        client.get("/health")  # its line arrives through the pipe a moment later
    mine = next(line for line in server.lines if line.get("request_id") == "mine-1")
    assert (mine["route"], mine["status"], mine["inputs"]) == ("/link", 200, 1)
    assert not any("business" in orjson.dumps(line).decode() for line in server.lines)
    assert all("level" in line for line in server.lines), server.lines  # each line is JSON
    assert not any("evil" in str(line.get("request_id")) for line in server.lines)


def test_the_metrics_have_teis_names_and_no_labels_of_a_clients_making(
    client: httpx.Client,
) -> None:
    client.get("/made/up/by/a/client")
    client.post("/embed", json={"inputs": ["a", "b"]})
    text = client.get("/metrics").text
    for name in ("te_request_count_total", "te_request_duration_bucket", "te_queue_size",
                 "te_batch_next_tokens_count", "te_embed_count_total"):  # fmt: skip
        assert f"\n{name}" in text
    assert "made" not in text
    assert 'te_request_count_total{method="GET",route="none",status="404"}' in text


def test_the_description_is_openapi_and_names_statuses(client: httpx.Client) -> None:
    text = client.get("/openapi.json").text
    described = json.loads(text)
    assert described["openapi"].startswith("3.")
    named = set(re.findall(r'"#/components/schemas/([^"]+)"', text))
    assert {"OpenAIError", "TeiError"} <= named <= set(described["components"]["schemas"])
    for path in ("/link", "/search", "/explain", "/embed", "/v1/embeddings"):
        responses = described["paths"][path]["post"]["responses"]
        assert {"200", "400", "401", "413", "422", "429", "503"} <= set(responses)
    assert client.get("/docs").status_code == 404  # it would load scripts from other sites


def _rounded(results: object) -> object:
    """The last bits of numbers differ in a batch of another size."""
    match results:
        case float():
            return round(results, 3)
        case dict():
            return {name: _rounded(value) for name, value in results.items()}
        case list() | tuple():
            return [_rounded(value) for value in results]
        case _:
            return results
