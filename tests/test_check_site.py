"""The check of the built documentation finds faults, and the API reference covers every public name."""

from __future__ import annotations

import re
from urllib.parse import urldefrag

import pytest

import mossformer_jax
from tests.conftest import REPOSITORY, load_tool

PAGE = """<html><head><link rel="stylesheet" href="style.css"><link rel="canonical" href="https://example.org/"></head>
<body><h1 id="top">Title</h1>{body}</body></html>"""


@pytest.fixture(scope="module")
def tool():
    return load_tool("check_site")


def faults(tool, folder, body: str, style: str = "", names: tuple[str, ...] = ()) -> list[str]:
    (folder / "docs").mkdir()
    (folder / "style.css").write_text(style)
    (folder / "index.html").write_text(PAGE.format(body=body))
    (folder / "docs" / "api.html").write_text(
        '<h2 id="mossformer_jax.Separator">Separator</h2><a href="../index.html">'
    )
    return tool.check_site(folder, list(names))


def test_a_complete_site_has_no_faults(tool, tmp_path):
    body = '<a href="docs/api.html#mossformer_jax.Separator"></a><a href="#top"></a><a href="https://example.org"></a>'
    assert faults(tool, tmp_path, body, "a { src: url(font.woff2) }", ("Separator",)) == []


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ('<a href="docs/no.html"></a>', "index.html: broken link docs/no.html"),
        ('<img src="no.png">', "index.html: broken link no.png"),
        ('<a href="docs/api.html#no"></a>', "index.html: no such heading docs/api.html#no"),
        ('<script src="https://example.org/a.js"></script>', "index.html: fetches https://example.org/a.js"),
        ('<link rel="stylesheet" href="//example.org/a.css">', "index.html: fetches //example.org/a.css"),
        ('<link rel="preconnect" href="https://example.org">', "index.html: fetches https://example.org"),
        ('<pre class="mermaid"></pre>', "index.html: fetches //mermaid"),
    ],
)
def test_broken_links_and_resources_on_other_servers_are_found(tool, tmp_path, body, fault):
    assert faults(tool, tmp_path, body) == [fault]


@pytest.mark.parametrize("style", ["a { src: url('https://example.org/f') }", '@import "https://example.org/f";'])
def test_style_sheets_that_fetch_from_other_servers_are_found(tool, tmp_path, style):
    assert faults(tool, tmp_path, "", style) == ["style.css: fetches https://example.org/f"]


def test_a_public_name_without_an_api_entry_is_found(tool, tmp_path):
    assert faults(tool, tmp_path, "", names=("Separator", "no")) == ["docs/api.html: no entry for no"]


def test_a_folder_without_pages_is_rejected(tool, tmp_path):
    with pytest.raises(FileNotFoundError, match="run: make docs"):
        tool.check_site(tmp_path, [])


def test_the_api_reference_has_every_public_name_once(tool):
    entries = re.findall(r"^::: mossformer_jax\.(\w+)$", (REPOSITORY / "docs" / "api.md").read_text("utf-8"), re.M)
    assert sorted(entries) == sorted(tool.public_names())
    assert {*entries, "__version__"} == set(mossformer_jax.__all__)


def test_links_between_pages_stay_within_the_site():
    """`make docs` copies only some files; a link to another works in the repository but not on the site."""
    listed = re.search(r"^PAGES := (.+)$", (REPOSITORY / "Makefile").read_text("utf-8"), re.M)
    roots = [REPOSITORY / name for name in listed[1].split()]
    pages = [page for root in roots for page in ([root] if root.is_file() else root.rglob("*.md"))]
    targets = [
        (page, page.parent / path)
        for page in pages
        for address in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8"))
        if not re.match(r"https?://|mailto:", address) and (path := urldefrag(address).url)
    ]
    broken = [
        f"{page.relative_to(REPOSITORY)}: {target}"
        for page, target in targets
        if not target.is_file() or not any(target.resolve().is_relative_to(root) for root in roots)
    ]
    assert len(targets) > 50
    assert not broken
