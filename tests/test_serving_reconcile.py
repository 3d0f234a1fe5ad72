"""The reconciliation service: OpenRefine's requests, and answers that fit the specification."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import httpx
import jsonschema
import pytest
import referencing

from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.serving import Library, Limits, ServeConfig
from tests.conftest import REPOSITORY
from tests.kb import entity
from tests.serving import build, in_thread, raw

DATA = Path(os.environ.get("MIRROR_RT_DATA", REPOSITORY.parent / "shared" / "data"))
SCHEMAS = DATA.parent / "reference" / "reconciliation-schemas"
LIMITS = Limits(batch=1_000)
TOKEN = "s3cret/?#%2F&+="


@pytest.fixture(scope="module")
def kb(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tiny_bundle, tmp_path_factory.mktemp("reconcile") / "things")


@pytest.fixture(scope="module")
def address(kb: Path) -> Iterator[str]:
    library = Library({"things": kb})
    with in_thread(library, ServeConfig(port=0, log_requests=False, limits=LIMITS)) as found:
        yield found
    library.close()


@pytest.fixture(scope="module")
def valid() -> Callable[[object, str], None]:
    """Check an answer with the schema of the specification, if the schemas are there."""
    if not SCHEMAS.is_dir():
        return lambda answer, name: None  # the next test says so
    base = "https://reconciliation-api.github.io/specs/0.2/schemas/"
    contents = {path.name: json.loads(path.read_text()) for path in SCHEMAS.glob("*.json")}
    names = [(base + name, content) for name, content in contents.items()]
    names += [(content["$id"], content) for content in contents.values() if "$id" in content]
    names.append(("http://swagger.io/v2/schema.json", contents["openapi.json"]))
    registry: Any = referencing.Registry().with_resources(
        (name, referencing.jsonschema.DRAFT7.create_resource(content)) for name, content in names
    )

    def judge(answer: object, name: str) -> None:
        jsonschema.Draft7Validator(contents[f"{name}.json"], registry=registry).validate(answer)

    return judge


def test_the_schemas_of_the_specification_are_at_hand(
    valid: Callable[[object, str], None],
) -> None:
    if not SCHEMAS.is_dir():
        pytest.skip(f"no schemas of the specification at {SCHEMAS}: answers are not judged by them")
    with pytest.raises(jsonschema.ValidationError):
        valid(
            {"q0": {"result": [{"id": 1, "name": "a", "score": 1}]}}, "reconciliation-result-batch"
        )


class OpenRefine:
    """Sends what OpenRefine sends, byte for byte: its Java by POST, its page by GET."""

    def __init__(self, service: str) -> None:
        split = urlsplit(service)
        self._address = f"{split.scheme}://{split.netloc}"
        self._host, self._path = split.netloc, split.path
        self.manifest = self.page(service)

    def post(self, field: str, content: object) -> Any:  # noqa: ANN401
        text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
        body = urlencode({field: text}).encode()
        output = raw(
            self._address,
            f"POST {self._path} HTTP/1.1\r\n"
            f"User-Agent: OpenRefine 3.10-SNAPSHOT [TRUNK]\r\n"
            f"Accept-Encoding: gzip, x-gzip, deflate\r\n"
            f"Content-Length: {len(body)}\r\n"
            f"Content-Type: application/x-www-form-urlencoded; charset=UTF-8\r\n"
            f"Host: {self._host}\r\nConnection: keep-alive\r\n\r\n".encode()
            + body,
        )
        head, _, content_ = output.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), output
        assert b"content-type: application/json" in head
        return json.loads(content_)

    def page(self, url: str, **parameters: str) -> Any:  # noqa: ANN401
        # As jQuery joins them.
        joined = url + ("&" if "?" in url else "?") + urlencode(parameters) if parameters else url
        answer = httpx.get(
            joined,
            headers={"Origin": "http://127.0.0.1:3333", "Accept": "application/json, */*; q=0.01"},
        )
        assert answer.status_code == 200, answer.text
        assert answer.headers["access-control-allow-origin"] == "http://127.0.0.1:3333"
        assert answer.headers["content-type"] == "application/json"
        return answer.json()

    def place(self, output: dict[str, str]) -> str:
        return output["service_url"] + output["service_path"]


@pytest.fixture(scope="module")
def refine(address: str) -> OpenRefine:
    return OpenRefine(f"{address}/reconcile/things")


def ids(answer: dict[str, Any], key: str = "q0") -> list[str]:
    return [candidate["id"] for candidate in answer[key]["result"]]


def test_the_manifest_is_valid_and_absolute(
    refine: OpenRefine, address: str, valid: Callable[[object, str], None]
) -> None:
    manifest = refine.manifest
    valid(manifest, "manifest")
    assert manifest["batchSize"] >= 50
    assert {"entity", "property", "type"} <= set(manifest["suggest"])
    for output in manifest["suggest"].values():
        assert output["service_url"].startswith(address)
    assert manifest["defaultTypes"][0] == {"id": "number", "name": "number"}  # the most frequent
    for slash in ("", "/"):
        assert httpx.get(f"{address}/reconcile/things{slash}").json() == manifest


def test_a_project_is_reconciled_as_openrefine_does_it(
    refine: OpenRefine, valid: Callable[[object, str], None]
) -> None:
    cells = ["atrial septal defect", "Liver Cancer", "kidny disease", "hole in the heart", "nurse"]
    # Types are guessed from ten values, without one.
    guess = {f"q{i}": {"query": cell, "limit": 3} for i, cell in enumerate(cells)}
    answer = refine.post("queries", guess)
    valid(guess, "reconciliation-query-batch")
    valid(answer, "reconciliation-result-batch")
    assert {t["id"] for c in answer["q0"]["result"] for t in c["type"]} >= {"disease"}
    assert all(len(answer[key]["result"]) <= 3 for key in guess)
    # Next, every value with the chosen type.
    batch = {
        f"q{i}": {"query": cell, "type": "disease", "type_strict": "should"}
        for i, cell in enumerate(cells)
    }
    answer = refine.post("queries", batch)
    valid(answer, "reconciliation-result-batch")
    assert list(answer) == list(batch)
    assert ids(answer, "q0")[0] == "T:1"
    assert answer["q0"]["result"][0]["match"] is True
    assert answer["q0"]["result"][0]["score"] > 50
    assert ids(answer, "q1")[0] == "T:4"
    for found in answer.values():
        scores = [candidate["score"] for candidate in found["result"]]
        assert scores == sorted(scores, reverse=True)
        assert all(0 <= score <= 100 for score in scores)
        assert all({"id": "disease", "name": "disease"} in c["type"] for c in found["result"])
        assert [c["match"] for c in found["result"][1:]] == [False] * len(found["result"][1:])
    # Two entities have the name: neither is a match by itself.
    assert set(ids(answer, "q3")[:2]) == {"T:1", "T:2"}
    assert not answer["q3"]["result"][0]["match"]
    features = {f["id"]: f["value"] for f in answer["q3"]["result"][0]["features"]}
    assert features["tied"] is True
    assert features["type_match"] is True


def test_scores_are_the_probabilities_of_the_library(refine: OpenRefine, kb: Path) -> None:
    with KnowledgeBase.open(kb) as own:
        (result,) = own.link(["kidny disease"], top=4)
    answer = refine.post("queries", {"q0": {"query": "kidny disease", "limit": 4}})
    assert ids(answer) == [c.entity_id for c in result]
    found = [c["score"] for c in answer["q0"]["result"]]
    assert found == pytest.approx([100 * (c.probability or 0) for c in result], abs=0.1)


def test_an_id_is_answered_with_its_entity(refine: OpenRefine) -> None:
    requested = {"a": "T:4", "b": "T:40", "c": "T/9 a#b?c", "d": " T:1 "}
    answer = refine.post("queries", {key: {"query": id_} for key, id_ in requested.items()})
    for key, id_ in {"a": "T:4", "b": "T:4", "c": "T/9 a#b?c", "d": "T:1"}.items():
        (only,) = answer[key]["result"]
        assert (only["id"], only["score"], only["match"]) == (id_, 100, True)


def test_an_id_that_is_also_a_name_of_another_entity_is_no_match(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    things = [entity("NA", "Namibia"), entity("X", "NA", "sodium"), entity("Y", "Y")]
    KnowledgeBase.build(tiny_bundle, things, tmp_path / "kb").close()
    library = Library({"kb": tmp_path / "kb"})
    with in_thread(library, ServeConfig(port=0, log_requests=False)) as address:
        refine = OpenRefine(f"{address}/reconcile/kb")
        answer = refine.post("queries", {"q0": {"query": "NA"}, "q1": {"query": "Y"}})
        assert ids(answer) == ["NA", "X"]
        assert not any(c["match"] for c in answer["q0"]["result"])
        (only,) = answer["q1"]["result"]
        assert only["match"] is True
        one = refine.post("queries", {"q0": {"query": "NA", "limit": 1}})
        assert ids(one) == ["NA"]
        assert not one["q0"]["result"][0]["match"]
    library.close()


def test_types_and_properties_restrict_and_then_hint(refine: OpenRefine) -> None:
    def requested(**query: object) -> tuple[list[str], dict[str, object]]:
        answer = refine.post("queries", {"q0": {"query": "nurse", **query}})
        best = answer["q0"]["result"][0]
        features = {f["id"]: f["value"] for f in best["features"]}
        return ids(answer), {**features, "match": best["match"]}

    found, best = requested(type=["tumor", "growth"])
    assert set(found) <= {"T:3", "T:4"}
    assert not best["match"]
    for properties in (
        [{"pid": "since", "v": 1860}], [{"pid": "since", "v": "1860"}],
        [{"pid": "since", "v": 1860.0}], [{"pid": "parent", "v": {"id": "T:7", "name": "x"}}],
        [{"pid": "field", "v": ["health", "sports"]}],
    ):  # fmt: skip
        found, best = requested(properties=properties)
        assert "T:10" in found, properties
        assert set(found) <= {"T:10", "T:7"}
        assert best["match"]
    # Values that no entity has, and unknown properties, do not hide the right one.
    found, best = requested(type="no such type", type_strict="should")
    assert found[0] == "T:10"
    assert (best["type_match"], best["match"]) == (False, False)
    found, best = requested(type="disease", properties=[{"pid": "since", "v": 1860}])
    assert (best["type_match"], best["properties_match"], best["match"]) == (True, False, False)
    found, best = requested(properties=[{"pid": "made up", "v": "x"}])
    assert found[0] == "T:10"
    # Properties alone, without a name.
    answer = refine.post("queries", {"q0": {"properties": [{"pid": "field", "v": "health"}]}})
    assert ids(answer) == ["T:10"]


def test_one_bad_query_leaves_the_others_alone(
    refine: OpenRefine, valid: Callable[[object, str], None]
) -> None:
    batch: dict[str, object] = {
        "good": {"query": "liver cancer"}, "none": {}, "null": None, "list": [], "text": "a",
        "number": {"query": 7}, "empty": {"query": ""}, "blank": {"query": " "},
        "signs": {"query": "?!"}, "nul": {"query": "liver\0cancer"},
        "long": {"query": "a" * 70_000},
        "less": {"query": "livr cancer", "limit": -1},
        "more": {"query": "livr cancer", "limit": 10**9},
        "infinite": {"query": "liver cancer", "limit": 1e300},
        "word": {"query": "liver cancer", "limit": "x"},
        "html": {"query": "<script>alert(1)</script>"},
        "types": {"query": "liver cancer", "type": [1, None]},
        "type": {"query": "liver cancer", "type": 7},
        "type2": {"query": "liver cancer", "type": {}},
        "properties": {"query": "liver cancer", "properties": [1, {"pid": 2}, {"pid": "type"}]},
        "deep": {"query": "liver cancer", "properties": {"a": {}}},
        '"\\<key>': {"query": "liver cancer"},
    }  # fmt: skip
    answer = refine.post("queries", batch)
    valid(answer, "reconciliation-result-batch")
    assert list(answer) == list(batch)
    for key in ("none", "null", "list", "text", "number", "empty", "blank", "signs", "long"):
        assert answer[key] == {"result": []}, key
    for key in ("good", "less", "more", "word", "types", "type", "type2", "properties", "deep",
                '"\\<key>'):  # fmt: skip
        assert ids(answer, key)[0] == "T:4", key
    assert len(answer["less"]["result"]) == 5
    assert 40 <= len(answer["more"]["result"]) <= 50


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"queries": "{"}, 400), ({"queries": "[]"}, 400), ({"queries": "7"}, 400),
        ({"queries": "[" * 10_000}, 400), ({"queries": '{"a":"\\ud800"}'}, 400), ({}, 400),
        ({"queries": json.dumps({str(i): {"query": "a"} for i in range(1_001)})}, 413),
        ({"queries": "a" * 1_100_000}, 413), ({str(i): "a" for i in range(1_001)}, 413),
        ({"extend": "{}"}, 400), ({"extend": '{"ids":[1],"properties":[]}'}, 400),
        ({"extend": '{"ids":[],"properties":["a"]}'}, 400),
        ({"extend": json.dumps({"ids": ["T:1"], "properties": [{"id": "name"}] * 21})}, 413),
        ({"extend": json.dumps({"ids": ["T:1"] * 2_049, "properties": []})}, 413),
    ],
)  # fmt: skip
def test_what_is_no_batch_is_refused(address: str, form: dict[str, str], status: int) -> None:
    answer = httpx.post(f"{address}/reconcile/things", data=form)
    assert answer.status_code == status, answer.text
    assert "\n" not in answer.json()["error"]


def test_get_answers_as_post_does(refine: OpenRefine, address: str) -> None:
    batch = {"q0": {"query": "short stature"}}
    by_get = httpx.get(f"{address}/reconcile/things", params={"queries": json.dumps(batch)})
    assert by_get.json() == refine.post("queries", batch)
    empty = httpx.post(f"{address}/reconcile/things", data={"queries": "{}"})
    assert empty.json() == {}
    assert httpx.get(f"{address}/reconcile/nothing").status_code == 404


def test_jsonp_calls_functions_and_nothing_else(address: str) -> None:
    url = f"{address}/reconcile/things"
    answer = httpx.get(url, params={"callback": "jQuery123_456", "_": "1"})
    assert answer.headers["content-type"].startswith("application/javascript")
    inside = re.fullmatch(r"/\*\*/jQuery123_456\((.*)\);", answer.text, re.DOTALL)
    assert inside is not None
    assert json.loads(inside[1])["versions"] == ["0.2"]
    for evil in ("alert(1)//", "a;b", "<script>", "", "a" * 200, "a.", "ü", "a\n"):
        refused = httpx.get(url, params={"callback": evil})
        assert refused.status_code == 400, evil
        assert refused.headers["content-type"] == "application/json"


def suggested(refine: OpenRefine, what: str, **parameters: str) -> dict[str, Any]:
    place = refine.place(refine.manifest["suggest"][what])
    found: dict[str, Any] = refine.page(
        place, **{"spell": "always", "exact": "false", "prefixed": "true", **parameters}
    )
    return found


def test_suggest_finds_names_by_their_beginning_ids_and_misspelled_ones(
    refine: OpenRefine, valid: Callable[[object, str], None]
) -> None:
    def first(**parameters: str) -> str:
        answer = suggested(refine, "entity", **parameters)
        valid(answer, "suggest-entities-response")
        return str(answer["result"][0]["id"]) if answer["result"] else ""

    assert first(prefix="ventric") == "T:2"
    assert first(prefix="VENTRICULAR SEP") == "T:2"
    assert first(prefix="shrt statur") == "T:3"  # misspelled
    assert first(prefix="T:5") == "T:5"
    # The box of OpenRefine changes an id with a colon in this way.
    assert first(prefix="", filter="(all T:40)") == "T:4"
    assert first(prefix="", filter="(all T:6)") == "T:6"
    assert first(prefix="", filter="(all )") == ""
    assert first(prefix="") == ""
    for odd in ("(all" + " " * 20_000 + "T:6)", "  (  all T:6  )  ", "all T:6"):
        assert first(prefix="", filter=odd) == "T:6"
    assert first(prefix="<script>") != "error"
    nurse = suggested(refine, "entity", prefix="nurs")["result"][0]
    assert nurse["description"].startswith("Looks after")
    assert nurse["notable"] == [{"id": "job", "name": "job"}]


def test_suggest_goes_on_from_its_cursor(refine: OpenRefine) -> None:
    seen: list[str] = []
    answer = suggested(refine, "entity", prefix="left upper limb")
    while True:
        seen += [one["id"] for one in answer["result"]]
        if "cursor" not in answer:
            break
        answer = suggested(refine, "entity", prefix="left upper limb", cursor=str(answer["cursor"]))
    assert {f"N:{i}" for i in range(40)} <= set(seen)
    assert len(seen) == len(set(seen))


def test_types_and_properties_are_suggested(
    refine: OpenRefine, valid: Callable[[object, str], None]
) -> None:
    types = suggested(refine, "type", prefix="dis", scoring="schema")
    valid(types, "suggest-types-response")
    assert [one["id"] for one in types["result"]] == ["disease"]
    everything = suggested(refine, "type", prefix="")["result"]
    assert len(everything) == 5
    properties = suggested(refine, "property", prefix="s", scoring="schema")
    valid(properties, "suggest-properties-response")
    assert properties["result"][0]["id"] == "since"


def test_the_old_question_on_hover_is_answered(refine: OpenRefine) -> None:
    url = refine.manifest["suggest"]["entity"]["service_url"]
    output = refine.page(f"{url}/search", filter="(all mid:T:1)", output="(notable)", key="null")
    assert output["result"] == []
    flyout = refine.manifest["suggest"]["entity"]["flyout_service_path"]
    shown = refine.page(url + flyout.replace("${id}", quote("T/9 a#b?c", safe="")))
    assert "&lt;script&gt;" in shown["html"]
    assert "<script>" not in shown["html"]


def test_columns_are_filled_from_every_property(
    refine: OpenRefine, valid: Callable[[object, str], None]
) -> None:
    propose = refine.place(refine.manifest["extend"]["propose_properties"])
    proposed = refine.page(f"{propose}?type=job")
    valid(proposed, "data-extension-property-proposal")
    assert proposed["type"] == "job"
    assert refine.page(f"{propose}?limit=2")["properties"] == proposed["properties"][:2]
    for limit in ("0", "18446744073709551616"):
        assert httpx.get(f"{propose}?limit={limit}").status_code == 422
    properties = [{"id": one["id"]} for one in proposed["properties"]]
    assert {"name", "alias", "type", "description", "cross_reference", "alternative_id",
            "parent", "since", "field"} <= {one["id"] for one in properties}  # fmt: skip
    query = {"ids": ["T:10", "T:4", "no such id", "T/9 a#b?c"], "properties": properties}
    valid(query, "data-extension-query")
    answer = refine.post("extend", query)
    valid(answer, "data-extension-response")
    rows = answer["rows"]
    assert list(rows) == query["ids"]
    for row in rows.values():  # a missing one would move the columns
        assert list(row) == [one["id"] for one in properties]
    assert rows["T:10"]["alias"] == [{"str": "Krankenschwester"}]
    assert rows["T:10"]["since"] == [{"str": "1860"}]
    assert rows["T:4"]["cross_reference"] == [{"str": "ICD:C22"}]
    assert rows["T:4"]["alternative_id"] == [{"str": "T:40"}]
    assert [v["id"] for v in rows["T:4"]["type"]] == ["disease", "tumor"]
    assert not any(rows["no such id"].values())
    assert rows["T/9 a#b?c"]["name"] == [{"str": "teacher <script>alert(1)</script>"}]
    limited = [{"id": "type", "settings": {"limit": 1}}, {"id": "made up"}]
    answer = refine.post("extend", {"ids": ["T:4"], "properties": limited})
    assert answer["rows"]["T:4"] == {"type": [{"id": "disease", "name": "disease"}], "made up": []}
    for limit, most in (("1", 1), ("²", 2), ("9" * 5_000, 2), (1e308, 2), (-1, 2), ("", 2)):
        requested = {"ids": ["T:4"], "properties": [{"id": "type", "settings": {"limit": limit}}]}
        assert len(refine.post("extend", requested)["rows"]["T:4"]["type"]) == most, limit


def test_ids_in_addresses_are_read_escaped_or_not(refine: OpenRefine) -> None:
    for output in ("view", "preview"):
        template = refine.manifest[output]["url"]
        for id_ in ("T:4", "T/9 a#b?c"):
            # As the specification has it; and as OpenRefine's encodeURI, which leaves a #: of
            # that a browser sends nothing.
            forms = [quote(id_, safe="")]
            if "#" not in id_:
                forms.append(quote(id_, safe=";/?:@&=+$,!~*'()"))
            for form in forms:
                answer = httpx.get(template.replace("{{id}}", form))
                assert answer.status_code == 200, (form, answer.text)
                assert "<script>alert" not in answer.text
                assert ("liver cancer" in answer.text) == (id_ == "T:4")
        assert httpx.get(template.replace("{{id}}", "<script>")).status_code == 404


def test_a_preview_may_stand_in_a_frame_and_loads_nothing(refine: OpenRefine) -> None:
    answer = httpx.get(refine.manifest["preview"]["url"].replace("{{id}}", "T:10"))
    policy = answer.headers["content-security-policy"]
    assert "frame-ancestors *" in policy
    assert "default-src 'none'" in policy
    assert "x-frame-options" not in answer.headers
    assert not re.search(r"(?:src|href)=", answer.text)
    assert {"width", "height"} <= set(refine.manifest["preview"])


def test_with_a_token_everything_goes_through_the_path(kb: Path) -> None:
    library = Library({"things": kb})
    config = ServeConfig(port=0, log_requests=False, token=TOKEN)
    with in_thread(library, config) as address:
        assert httpx.get(f"{address}/reconcile/things").status_code == 401
        assert httpx.get(f"{address}/token/wrong/reconcile/things").status_code == 401
        start = f"{address}/token/{quote(TOKEN, safe='')}"
        refine = OpenRefine(f"{start}/reconcile/things")
        assert ids(refine.post("queries", {"q0": {"query": "nurse"}}))[0] == "T:10"
        assert suggested(refine, "entity", prefix="nurs")["result"][0]["id"] == "T:10"
        assert httpx.get(refine.manifest["view"]["url"].replace("{{id}}", "T:4")).status_code == 200
        assert httpx.get(f"{start}/").status_code == 200
        assert httpx.get(f"{start}/static/style.css").status_code == 200
    library.close()


def test_another_origin_may_not_read(address: str) -> None:
    answer = httpx.get(f"{address}/reconcile/things", headers={"Origin": "http://evil.example"})
    assert "access-control-allow-origin" not in answer.headers
