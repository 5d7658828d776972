"""The frame of the pages of HTML that the commands write: one file, nothing to fetch."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

_STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:1050px;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse}td,th{padding:.2em .8em;text-align:right;border-bottom:1px solid #ddd}"
    "td:first-child,th:first-child,.words td{text-align:left}.words{overflow-wrap:anywhere}img{max-width:100%}"
    "svg{display:block;margin:.5em 0}svg text{font-size:13px}"
)


def document(title: str, parts: Iterable[str]) -> str:
    """A page with a heading. Tables of the class `words` hold text instead of numbers.

    Args:
        title: plain text, for the heading and the browser's tab.
        parts: HTML, in order; empty ones are omitted.
    """
    head = f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return "\n".join([head, f"<h1>{escape(title)}</h1>", *filter(None, parts)]) + "\n"
