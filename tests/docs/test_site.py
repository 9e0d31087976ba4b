"""The documentation as a site: it is built without a warning, holds all pages, and asks nobody for anything."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.docs.page import ROOT

#: Attributes by which a page loads something at once; links are followed by people.
_LOADS = {"script": "src", "img": "src", "iframe": "src", "link": "href", "source": "src"}


class _Loads(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in _LOADS and values.get("rel") not in {"canonical", "next", "prev"}:
            self.urls.append(values.get(_LOADS[tag]) or "")


def _build(source: Path, site: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).parent / "mkdocs"), "build", "--strict", "--site-dir", str(site)],
        cwd=source,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site."""
    folder = tmp_path_factory.mktemp("site") / "site"
    done = _build(ROOT, folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_there_and_can_be_found(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")}
    built = {path.relative_to(site).with_suffix(".md") for path in site.rglob("*.html")} - {Path("404.md")}
    # A README is the index of its folder.
    assert built == {path.with_name("index.md") if path.name == "README.md" else path for path in pages}
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    found = {entry["location"].partition("#")[0] for entry in index["docs"]}
    assert {str(path.relative_to(site)) for path in site.rglob("*.html")} - {"404.html"} <= {
        location or "index.html" for location in found
    }


def test_the_overview_lists_every_decision() -> None:
    text = (ROOT / "docs" / "adr" / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\((ADR-[^)]+\.md)\)", text)) == {path.name for path in (ROOT / "docs/adr").glob("ADR-*.md")}


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_links_of_pages_outside_the_site_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)#]+)", (ROOT / page).read_text(encoding="utf-8"))
    assert links
    assert not [link for link in links if "://" not in link and not (ROOT / link).exists()]


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        loads = _Loads()
        text = page.read_text(encoding="utf-8")
        loads.feed(text)
        assert loads.urls
        assert not [url for url in loads.urls if re.match(r"(https?:)?//", url)], page.name
        assert "fonts.googleapis" not in text
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import )[\"']?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet.name


def test_a_build_is_the_same_again(site: Path, tmp_path: Path) -> None:
    assert _build(ROOT, tmp_path / "again").returncode == 0
    for page in site.rglob("*.html"):
        assert page.read_bytes() == (tmp_path / "again" / page.relative_to(site)).read_bytes()


def test_a_link_that_leads_nowhere_stops_the_build(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    concepts = tmp_path / "docs" / "concepts.md"
    for link in ("nowhere.md", "method.md#nowhere"):
        text = concepts.read_text(encoding="utf-8")
        concepts.write_text(f"{text}\n[there]({link})\n", encoding="utf-8")
        done = _build(tmp_path, tmp_path / "site")
        assert done.returncode != 0
        assert link.partition("#")[0] in done.stderr
        concepts.write_text(text, encoding="utf-8")
