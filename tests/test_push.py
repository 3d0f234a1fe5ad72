"""The model card, and the upload to a hub on this machine."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import pytest
import yaml
from typer.testing import CliRunner, Result

from mirror_rt.errors import ModelError, TargetError
from mirror_rt.training.config import TrainConfig
from mirror_rt.training.loop import train
from mirror_rt.training.model_card import add_scores, model_card
from mirror_rt.training.push import push, strip_private_paths
from mirror_rt_cli.app import app
from tests.errors import about
from tests.tiny import NAMES


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Path:
    folder = tmp_path_factory.mktemp("push")
    (folder / "c.txt").write_text("\n".join(NAMES))
    config = TrainConfig(
        corpus=folder / "c.txt", base=tiny_bert, out=folder / "out", batch_size=8, eval_pairs=4
    )
    return train(config).out


class FakeHub(ThreadingHTTPServer):
    """Answers like the hub when a repository is made and committed to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.files: dict[str, bytes] = {}
        self.made: list[dict[str, object]] = []
        self.refuse = False
        self.large: set[str] = set()
        self.stored: dict[str, bytes] = {}
        self.full = False
        self.tokens: set[str | None] = set()
        self.faults: list[dict[str, str]] = []

    @property
    def address(self) -> str:
        """The address of the server."""
        return f"http://127.0.0.1:{self.server_port}"


class Answers(BaseHTTPRequestHandler):
    """Handles the requests of an upload."""

    server: FakeHub

    def do_POST(self) -> None:
        """Make a repository, say how files are sent, accept a commit."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.tokens.add(self.headers["Authorization"])
        if self.server.refuse:
            self.reply(401, {"error": "Invalid username or password."})
        elif self.path == "/api/repos/create":
            requested = json.loads(body)
            self.server.made.append(requested)
            name = f"{requested.get('organization', 'me')}/{requested['name']}"
            self.reply(200, {"url": f"{self.server.address}/{name}"})
        elif self.path == "/api/validate-yaml":
            faults = self.server.faults
            self.reply(400 if faults else 200, {"errors": faults, "warnings": []})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            self.reply(200, {"files": [
                {"path": f["path"], "uploadMode": "lfs" if f["path"] in self.server.large
                 else "regular", "shouldIgnore": False} for f in files
            ]})  # fmt: skip
        elif self.path.endswith("/info/lfs/objects/batch"):
            self.reply(200, {"transfer": "basic", "objects": [
                o | {"actions": {"upload": {"href": f"{self.server.address}/store/{o['oid']}"}}}
                for o in json.loads(body)["objects"]
            ]})  # fmt: skip
        elif "/commit/" in self.path:
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    value = entry["value"]
                    self.server.files[value["path"]] = base64.b64decode(value["content"])
                elif entry["key"] == "lfsFile":
                    value = entry["value"]
                    self.server.files[value["path"]] = self.server.stored[value["oid"]]
            self.reply(200, {
                "commitUrl": "https://huggingface.co/me/enc/commit/1", "commitOid": "1",
            })  # fmt: skip
        else:
            self.reply(404, {"error": self.path})

    def do_PUT(self) -> None:
        """Store a large file."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.stored[self.path.rsplit("/", 1)[-1]] = body
        self.reply(403 if self.server.full else 200, {})

    def do_GET(self) -> None:
        """Describe the repository."""
        self.reply(200, {"id": "me/enc", "siblings": []})

    def reply(self, status: int, content: object) -> None:
        """Send JSON."""
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Log nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    # The tests are offline; this one connects to itself.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    huggingface_hub.utils.reset_sessions()
    server = FakeHub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()
    huggingface_hub.utils.reset_sessions()


def test_a_checkpoint_arrives_byte_for_byte(checkpoint: Path, hub: FakeHub) -> None:
    address = push(checkpoint, "me/enc", endpoint=hub.address, token="t", private=True)
    assert address == f"{hub.address}/me/enc"
    assert hub.made[0]["private"] is True
    sent = {str(path.relative_to(checkpoint)) for path in checkpoint.rglob("*") if path.is_file()}
    assert set(hub.files) == sent
    assert {"model.safetensors", "1_Pooling/config.json", "README.md"} <= sent
    for name, content in hub.files.items():
        if name != "training.json":
            assert content == (checkpoint / name).read_bytes(), name


def test_the_command_uploads_with_the_token_of_the_login_and_prints_the_address(
    checkpoint: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "mine")
    hub.large = {"model.safetensors"}
    result = CliRunner().invoke(
        app, ["push", str(checkpoint), "me/enc", "--endpoint", hub.address, "--private"]
    )
    assert (result.exit_code, result.stdout) == (0, f"{hub.address}/me/enc\n"), result.output
    assert hub.made[0]["private"] is True
    assert hub.tokens == {"Bearer mine"}
    weights = (checkpoint / "model.safetensors").read_bytes()
    assert hub.stored == {hashlib.sha256(weights).hexdigest(): weights}
    sent = {str(path.relative_to(checkpoint)) for path in checkpoint.rglob("*") if path.is_file()}
    assert set(hub.files) == sent
    assert hub.files["model.safetensors"] == weights


def test_a_large_file_that_the_hub_refuses_is_reported_on_one_line(
    checkpoint: Path, hub: FakeHub
) -> None:
    hub.large, hub.full = {"model.safetensors"}, True
    with pytest.raises(TargetError, check=about("enc")) as error:
        push(checkpoint, "me/enc", endpoint=hub.address, token="t")
    assert "\n" not in str(error.value)
    assert not hub.files


def test_a_bundle_arrives_byte_for_byte(tiny_bundle: Path, hub: FakeHub) -> None:
    push(tiny_bundle, "me/enc", endpoint=hub.address, token="t")
    files = {p.relative_to(tiny_bundle).as_posix(): p for p in tiny_bundle.rglob("*")}
    assert hub.files == {n: p.read_bytes() for n, p in files.items() if p.is_file()}
    assert {"model.onnx", "manifest.json", "tokenizer.json"} <= set(hub.files)


def test_no_folder_of_this_machine_is_sent_to_the_hub(
    checkpoint: Path, hub: FakeHub, tiny_bert: Path
) -> None:
    push(checkpoint, "me/enc", endpoint=hub.address, token="t")
    for name, content in hub.files.items():
        for folder in (checkpoint.parent, tiny_bert.parent):
            assert str(folder).encode() not in content, name
    sent = json.loads(hub.files["training.json"])
    here = json.loads((checkpoint / "training.json").read_text())
    assert sent["config"]["corpus"] == "c.txt"
    assert sent["config"]["base"] == tiny_bert.name
    assert sent["losses"] == here["losses"]
    assert here["config"]["corpus"] == str(checkpoint.parent / "c.txt")


def test_a_base_of_the_hub_keeps_its_whole_name(checkpoint: Path) -> None:
    training = json.loads((checkpoint / "training.json").read_text())
    training["base_is_local"] = False
    training["config"]["base"] = "google-bert/bert-base-uncased"
    assert strip_private_paths(training)["config"]["base"] == "google-bert/bert-base-uncased"
    assert strip_private_paths(training)["config"]["pairs_file"] is None


@pytest.fixture
def own(checkpoint: Path, tmp_path: Path) -> Path:
    """A checkpoint that the test may change."""
    return shutil.copytree(checkpoint, tmp_path / "own")


def judge(folder: Path, gold: str, *options: str) -> Result:
    """Run ``evaluate --card`` on names and a gold file of that name, beside the folder."""
    names, mentions = folder.with_name("kb.tsv"), folder.with_name(f"{gold}.tsv")
    names.write_text("id\tname\n" + "".join(f"{i}\t{name}\n" for i, name in enumerate(NAMES)))
    mentions.write_text(f"mention\tid\n{NAMES[3]}\t3\n{NAMES[4]}\t4\n{NAMES[5]}\t6\nx\t7\n")
    arguments = ["evaluate", str(folder), "--kb", str(names), "--gold", str(mentions), "--card"]
    return CliRunner().invoke(app, [*arguments, *options])


def test_measured_scores_stand_in_the_card_and_are_sent(own: Path, hub: FakeHub) -> None:
    before = (own / "README.md").read_text()
    result = judge(own, "mine", "--compare", "baseline:exact", "-f", "json")
    assert result.exit_code == 0, result.output
    found = {r["task"]: r["scores"] for r in json.loads(result.stdout)["reports"][0]["results"]}
    assert json.loads((own / "scores.json").read_text()) == found
    card = (own / "README.md").read_text()
    assert card.startswith(before)  # the measurements of training stay
    table = "".join(
        f"| {task} | {m} | {v:.4f} |\n" for task, scores in found.items() for m, v in scores.items()
    )
    assert card == f"{before}| task | metric | score |\n|---|---|---|\n{table}"
    assert "| mine | acc@1 | 0.5000 |" in card
    push(own, "me/enc", endpoint=hub.address, token="t")
    assert hub.files["README.md"].decode() == card


def test_later_scores_join_the_earlier_ones_and_the_rest_of_the_card_is_left_alone(
    own: Path,
) -> None:
    card = own / "README.md"
    card.write_text(
        card.read_text().replace("# tiny", "# My own tiny") + "\n## Licence\nMine.\n\n# More\nx\n"
    )
    assert judge(own, "one").exit_code == 0
    assert judge(own, "two").exit_code == 0
    again = [{"task": "one", "scores": {"acc@1": 0.25, "mrr": None}}, {"task": "two", "scores": {}}]
    add_scores(own, again)
    text = card.read_text()
    assert "# My own tiny" in text
    assert text.endswith("\n\n## Licence\nMine.\n\n# More\nx\n")
    assert text.count("## Measured scores") == text.count("On pairs held out") == 1
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith(("| one", "| two"))]
    assert [row[2] for row in rows if row[0] == "| one"] == ["0.2500 |"]
    assert {row[1] for row in rows if row[0] == "| two"} >= {"acc@1", "mrr"}


def test_a_card_that_lost_its_section_or_itself_gets_it_again(own: Path) -> None:
    scores = [{"task": "a|b", "scores": {"all": 0.5}}]
    row = "| a\\|b | all | 0.5000 |\n"
    (own / "README.md").write_text("# Mine\n")
    add_scores(own, scores)
    text = (own / "README.md").read_text()
    assert text.startswith("# Mine\n\n## Measured scores\n")
    assert text.endswith(row)
    (own / "README.md").unlink()
    add_scores(own, scores)
    text = (own / "README.md").read_text()
    assert "library_name: sentence-transformers" in text
    assert text.endswith(row)


def test_a_folder_without_a_card_is_an_error_before_the_evaluation(
    tiny_bundle: Path, own: Path
) -> None:
    for folder in (str(tiny_bundle), "baseline:exact"):
        result = CliRunner().invoke(
            app, ["evaluate", folder, "--gold", "none.tsv", "--kb", "none.tsv", "--card"]
        )
        assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
        assert "no training.json" in result.stderr
    (own / "scores.json").write_text("[]")
    with pytest.raises(ModelError, check=about("scores.json")):
        add_scores(own, [])


def test_a_hub_that_refuses_is_reported_on_one_line(checkpoint: Path, hub: FakeHub) -> None:
    hub.refuse = True
    with pytest.raises(TargetError, check=about("enc")) as error:
        push(checkpoint, "me/enc", endpoint=hub.address, token="wrong")
    assert "\n" not in str(error.value)


def test_a_card_that_the_hub_rejects_is_an_error_with_the_reason(own: Path, hub: FakeHub) -> None:
    hub.faults = [{"message": '"license" must be one of apache-2.0, mit'}]
    with pytest.raises(TargetError, check=about("enc")) as error:
        push(own, "me/enc", endpoint=hub.address, token="t")
    assert "\n" not in str(error.value)
    assert not hub.files


def test_a_blank_name_is_an_error(checkpoint: Path, hub: FakeHub) -> None:
    with pytest.raises(TargetError, check=about("no good!")):
        push(checkpoint, "no good!", endpoint=hub.address, token="t")


def test_a_missing_network_gives_a_one_line_error(checkpoint: Path) -> None:
    result = CliRunner().invoke(app, ["push", str(checkpoint), "me/enc"])
    assert result.exit_code == 1
    assert result.stderr.startswith("mirror-rt: me/enc: the hub did not accept it")


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, check=about(str(tmp_path))):
        push(tmp_path, "me/enc")
    # A knowledge base and a folder of vectors have a manifest too.
    (tmp_path / "manifest.json").write_text('{"kind": "knowledge base"}')
    with pytest.raises(ModelError, check=about(str(tmp_path))):
        push(tmp_path, "me/enc")


def test_the_card_has_the_hubs_header_and_the_recipe(checkpoint: Path) -> None:
    text = (checkpoint / "README.md").read_text()
    _, header, body = text.split("---\n", 2)
    content = yaml.safe_load(header)
    assert content["library_name"] == "sentence-transformers"
    assert content["pipeline_tag"] == "sentence-similarity"
    assert "base_model" not in content  # a folder of this machine is not a name on the hub
    assert str(checkpoint.parent) not in body
    assert "| loss | info-nce |\n| temperature | 0.04 |" in body
    measured = body.split("## Measured scores\n")[1]
    assert "On pairs held out of training: loss" in measured
    assert "None yet" not in measured


def test_a_base_of_the_hub_is_named_in_the_header(checkpoint: Path) -> None:
    training = json.loads((checkpoint / "training.json").read_text())
    training["base_is_local"] = False
    training["config"]["base"] = "google-bert/bert-base-uncased"
    header = yaml.safe_load(model_card(training).split("---\n", 2)[1])
    assert header["base_model"] == "google-bert/bert-base-uncased"
