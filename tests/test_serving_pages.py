"""The page in a browser: without scripts, by keyboard, wide and narrow, light and dark."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import httpx
import pytest

from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.serving import Library, ServeConfig
from mirror_rt.types import Passage
from tests.serving import build, in_thread

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="module")
def address(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    kb = build(tiny_bundle, tmp_path_factory.mktemp("pages") / "things")
    library = Library({"things": kb, "more": kb})
    with in_thread(library, ServeConfig(port=0, log_requests=False)) as found:
        yield found
    library.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip(f"no {CHROMIUM}; install Debian's chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as running:
        launched = running.chromium.launch(
            executable_path=str(CHROMIUM),
            args=["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                  "--disable-background-networking", "--disable-component-update",
                  "--disable-sync"],
        )  # fmt: skip
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """A page; its errors, and its requests to other sites, fail the test."""
    context = browser.new_context(java_script_enabled=False)
    found = context.new_page()
    faults: list[str] = []

    def watch(route: Route) -> None:
        if not route.request.url.startswith(address):
            faults.append(f"asked {route.request.url}")
            route.abort()
        else:
            route.continue_()

    found.route("**/*", watch)
    # A rejected request has an error status, which the browser reports as an error.
    found.on(
        "console",
        lambda output: (
            faults.append(output.text)
            if output.type == "error" and "status of 400" not in output.text
            else None
        ),
    )
    found.on("response", lambda output: faults.append(output.url) if output.status >= 500 else None)
    yield found
    context.close()
    assert faults == []


def test_a_mention_is_linked_by_keyboard_alone(page: Page, address: str) -> None:
    from playwright.sync_api import expect

    page.goto(f"{address}/")
    expect(page.locator("input[name=mention]")).to_be_focused()
    page.keyboard.type("kidny disease")
    page.keyboard.press("Enter")
    page.wait_for_url("**mention=kidny*")
    assert "candidates in" in page.get_by_role("status").inner_text()
    table = page.get_by_role("table", name="Candidates for “kidny disease”")
    rows = table.get_by_role("row", name="kidney disease")
    assert rows.count() >= 2
    assert "edit similarity" in page.content()  # why
    assert page.locator("svg rect").count() > 5


def test_each_candidate_leads_to_its_entity(page: Page, address: str) -> None:
    page.goto(f"{address}/?kb=things&mention={quote('teacher <script>alert(1)</script>')}")
    page.get_by_role("link", name="teacher <script>alert(1)</script>").first.click()
    assert page.locator("h1").inner_text() == "teacher <script>alert(1)</script>"
    page.goto(f"{address}/?kb=things&mention=nurse")
    page.get_by_role("link", name="nurse", exact=True).click()
    assert "Looks after people" in page.content()
    page.get_by_role("link", name="software engineer").click()
    assert page.locator("h1").inner_text() == "software engineer"


def test_nil_filters_and_faults_are_reported(page: Page, address: str) -> None:
    page.goto(f"{address}/?mention=%3F%21")
    assert "NIL: The mention is punctuation" in page.get_by_role("status").inner_text()
    page.goto(f"{address}/?mention=nurse&filter=type%3Ddisease")
    assert page.get_by_role("link", name="nurse", exact=True).count() == 0
    page.goto(f"{address}/?mention=nurse&filter=typ%3Ddisease")
    output = page.get_by_role("status").inner_text()
    assert "'typ'" in output
    assert "/things" not in output


def test_many_lines_are_shown_and_downloaded(page: Page, address: str) -> None:
    page.goto(f"{address}/")
    page.get_by_label("Mentions, one per line").fill("nurse\n\n hole in the heart \n=1+1")
    page.get_by_role("button", name="Show").click()
    assert "3 mentions" in page.get_by_role("status").inner_text()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    text = download.value.path().read_text(encoding="utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["mention"] for row in rows] == ["nurse", "hole in the heart", "'=1+1"]
    assert rows[0]["entity_id"] == "T:10"
    assert rows[1]["tied"] == "yes"


@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_accessible_and_fits(browser: Browser, address: str, width: int, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme=scheme,  # type: ignore[arg-type]
        bypass_csp=True,  # axe is a script, and the page allows no scripts
    )
    page = context.new_page()
    for path in ("", "?kb=things&mention=kidny+disease", "reconcile/things/view?id=T:10",
                 "reconcile/things/preview?id=T:10"):  # fmt: skip
        page.goto(f"{address}/{path}")
        found = axe.Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, path
    page.goto(f"{address}/")
    page.get_by_label("Mentions, one per line").fill("nurse\nhole in the heart")
    page.get_by_role("button", name="Show").click()
    assert axe.Axe().run(page).violations_count == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


def test_the_programs_it_shows_run(address: str) -> None:
    import html
    import re

    text = httpx.get(f"{address}/", params={"mention": 'it\'s a "nurse"', "kb": "things"}).text
    curl, python = (html.unescape(block) for block in re.findall(r"<pre[^>]*>(.*?)</pre>", text,
                                                                 re.DOTALL))  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", python], capture_output=True, text=True, timeout=60, check=True
    )
    assert "'mention': 'it\\'s a \"nurse\"'" in done.stdout
    done = subprocess.run(
        ["sh", "-c", curl], capture_output=True, text=True, timeout=60, check=True
    )
    assert '"mention":"it\'s a \\"nurse\\""' in done.stdout


def test_nothing_may_be_loaded_framed_or_run(address: str) -> None:
    view = httpx.get(f"{address}/reconcile/things/view", params={"id": "T/9 a#b?c"})
    assert "default-src 'none'" in view.headers["content-security-policy"]
    answer = httpx.get(f"{address}/", params={"mention": "<script>alert(1)</script>"})
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert "<script" not in answer.text
    assert "&lt;script&gt;" in answer.text
    for place in ("/static/../library.py", "/static/%2e%2e/library.py", "/static//etc/passwd"):
        assert httpx.get(address + place).status_code == 404


def test_passages_are_searched_but_not_offered_to_openrefine(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    texts = [Passage(id="p1", title="Bones", text="Bone pain is <b>common</b>.")]
    KnowledgeBase.build(tiny_bundle, texts, tmp_path / "kb", passages=True).close()
    library = Library({"texts": tmp_path / "kb"})
    with in_thread(library) as address:
        found = httpx.get(f"{address}/", params={"mention": "bones"}).text
        assert "Bone pain is &lt;b&gt;common&lt;/b&gt;." in found
        assert "/reconcile/" not in found
        assert 'action="table"' not in found
        assert httpx.get(f"{address}/reconcile/texts").status_code == 400
    library.close()


def test_a_page_of_models_alone_says_so(tiny_bundle: Path) -> None:
    library = Library({}, {"tiny": tiny_bundle})
    with in_thread(library) as address:
        assert "tiny" in httpx.get(f"{address}/").text
        assert httpx.post(f"{address}/link", json={"mentions": ["a"]}).status_code == 404
        assert httpx.post(f"{address}/table", data={"lines": "a"}).status_code == 404
