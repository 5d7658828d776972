"""Checks the site built by `make docs`: broken links, resources on other servers, and gaps in the API reference.

Run as: python tools/check_site.py site
"""

from __future__ import annotations

import ast
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

REPOSITORY = Path(__file__).parents[1]
API_PAGE = "docs/api.html"
# Elements whose addresses a browser fetches when it loads a page, unlike the links of <a>.
FETCHED = {"audio", "embed", "iframe", "img", "link", "script", "source", "video"}
# Browsers do not fetch these relations of <link>, which only refer to other pages.
NAMING_RELATIONS = {"canonical", "prev", "next", "alternate"}
# The theme's script fetches scripts from other servers if a page has elements of these classes.
FETCHING_CLASSES = {"mermaid", "glightbox", "pyodide"}
_OUTSIDE_STYLE = re.compile(r"""(?:url\(\s*|@import\s+)["']?((?:https?:)?//[^"')\s]+)""")


class _Page(HTMLParser):
    """Collects the anchors, links and fetched addresses of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collects the anchors and addresses of an element."""
        values = dict(attrs)
        self.fetched += [f"//{name}" for name in FETCHING_CLASSES.intersection((values.get("class") or "").split())]
        self.anchors |= {value for name in ("id", "name") if (value := values.get(name))}
        for name in ("href", "src", "srcset", "poster"):
            address = values.get(name)
            if not address:
                continue
            if tag in FETCHED and values.get("rel") not in NAMING_RELATIONS:
                self.fetched.append(address)
            if tag in FETCHED or tag == "a":
                self.links.append(address)


def check_site(site: Path, public_names: list[str]) -> list[str]:
    """Finds the faults of a built site.

    Args:
        site: the folder of the site.
        public_names: names of the package; the API reference must have an entry for each.

    Returns:
        The faults, one line each.

    Raises:
        FileNotFoundError: the folder contains no pages.
    """
    # Except the page for missing addresses, whose links are absolute paths on the server.
    paths = [path for path in sorted(site.rglob("*.html")) if path.name != "404.html"]
    if not paths:
        raise FileNotFoundError(f"{site}: contains no pages; run: make docs")
    pages = {path.relative_to(site).as_posix(): _Page(path.read_text("utf-8")) for path in paths}
    faults = []
    for name, page in pages.items():
        faults += [f"{name}: fetches {address}" for address in page.fetched if urlsplit(address).netloc]
        for address in page.links:
            if urlsplit(address).scheme or urlsplit(address).netloc:
                continue
            path, anchor = urldefrag(address)
            target = unquote(urlsplit(urljoin(name, path)).path) if path else name
            if target == "." or target.endswith("/") or not target:
                target = f"{target.removeprefix('.')}index.html"
            if not (site / target).is_file():
                faults.append(f"{name}: broken link {address}")
            elif anchor and target in pages and unquote(anchor) not in pages[target].anchors:
                faults.append(f"{name}: no such heading {address}")
    for style in sorted(site.rglob("*.css")):
        addresses = _OUTSIDE_STYLE.findall(style.read_text("utf-8"))
        faults += [f"{style.relative_to(site).as_posix()}: fetches {address}" for address in addresses]
    anchors = pages[API_PAGE].anchors if API_PAGE in pages else set()
    faults += [f"{API_PAGE}: no entry for {name}" for name in public_names if f"mossformer_jax.{name}" not in anchors]
    return faults


def public_names() -> list[str]:
    """`mossformer_jax.__all__` without dunder names, parsed from the source because the docs environment has no JAX."""
    module = ast.parse((REPOSITORY / "mossformer_jax" / "__init__.py").read_text("utf-8"))
    for statement in module.body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__":
            return [name for name in ast.literal_eval(statement.value) if not name.startswith("__")]
    raise ValueError("mossformer_jax/__init__.py: does not assign __all__")


if __name__ == "__main__":
    found = check_site(Path(sys.argv[1]), public_names())
    print("\n".join(found) or "The site is complete.")
    sys.exit(bool(found))
