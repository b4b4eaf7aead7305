"""The documents as a site: built without a warning, whole, and without any other host."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

import pytest

from tests.conftest import slow

ROOT = Path(__file__).parents[1]


@dataclass
class Page(HTMLParser):
    """What a page links to, what it loads, and what can be linked to in it."""

    path: Path
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    places: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        known = {name: value or "" for name, value in attributes}
        self.places |= {known[name] for name in ("id", "name") if name in known}
        links = self.links if tag == "a" else self.loads
        links += [known[name] for name in ("href", "src", "srcset", "poster", "data") if name in known]
        self.loads += re.findall(r"url\(([^)]+)\)", known.get("style", ""))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stdout + built.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Page]:
    return {path.name: Page(path) for path in site.glob("*.html")}


def is_outside(address: str) -> bool:
    return bool(urlsplit(address).netloc) or urlsplit(address).scheme not in ("", "data")


def test_every_document_is_a_page_that_all_pages_lead_to(pages: dict[str, Page]) -> None:
    documents = {f"{path.stem}.html" for path in (ROOT / "docs").glob("*.md")}
    assert documents | {"index.html", "changelog.html", "contributing.html", "404.html"} == set(pages)
    for name in documents:
        assert all(name in page.links for page in pages.values() if page.path.name not in (name, "404.html"))


def test_links_lead_to_pages_and_places(site: Path, pages: dict[str, Page]) -> None:
    links = [(page, link) for page in pages.values() for link in page.links + page.loads]
    within = [(page, urlsplit(link)) for page, link in links if not is_outside(link)]
    assert len(within) > 300
    for page, link in within:
        path = unquote(link.path).strip("/") or page.path.name
        assert (site / path).exists(), f"{page.path.name} leads to {path}"
        if path in pages and link.fragment:
            assert unquote(link.fragment) in pages[path].places, f"{page.path.name}: {link}"


def test_nothing_is_loaded_from_another_host(site: Path, pages: dict[str, Page]) -> None:
    loaded = [link for page in pages.values() for link in page.loads]
    assert len(loaded) > 50
    assert not list(filter(is_outside, loaded))
    for style in site.rglob("*.css"):
        assert not re.findall(r"@import|url\(\s*['\"]?(?:https?:)?//", style.read_text(encoding="utf-8"))


def test_no_formula_and_no_escaped_bar_is_left(site: Path) -> None:
    """Every page shows what GitHub would."""
    for path in site.glob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert "arithmatex" not in text
        assert "$$" not in text
        assert r"\|" not in re.sub(r"<pre.*?</pre>|<script.*?</script>", "", text, flags=re.S)


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    """The site as any web server gives it."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(site)))
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_on_a_phone(address: str, browser: object, pages: dict[str, Page]) -> None:
    """No page is broader than the screen, asks another host, or complains; search finds."""
    from playwright.sync_api import Browser

    assert isinstance(browser, Browser)
    heard: list[str] = []
    asked: list[str] = []
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    for name in pages:
        page.goto(f"{address}/{name}")
        assert page.evaluate("document.documentElement.scrollWidth") == 390, name
    page.locator("label[for=__search]").first.click()
    page.get_by_role("textbox", name="Search").press_sequentially("kernel")
    page.locator(".md-search-result__link").first.wait_for()
    assert heard == []
    assert all(request.startswith(address) for request in asked)
    page.close()


@slow
def test_search_works_from_disk(site: Path, browser: object) -> None:
    """Pages opened as files, from a folder and back again, find words, and lead to them."""
    from playwright.sync_api import Browser

    assert isinstance(browser, Browser)
    heard: list[str] = []
    asked: list[str] = []
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    for name, word in (("index", "kernel"), ("trust", "onnx")):
        page.goto((site / f"{name}.html").as_uri())
        page.get_by_role("textbox", name="Search").press_sequentially(word)
        first = page.locator(".md-search-result__link").first
        first.wait_for()
        assert word in page.locator(".md-search-result").inner_text().lower()
        first.click()
        page.wait_for_url("**h=*")
        assert urlsplit(page.url).path.startswith(site.as_posix())
        assert word in page.locator("article").inner_text().lower()
    assert heard == []
    assert all(request.startswith((site.as_uri(), "data:")) for request in asked)
    page.close()
