"""The commands and the Python code in the documentation."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import REPOSITORY

PAGES = tuple(
    path
    for pattern in ("*.md", "docs/*.md", "examples/*.md", "benchmarks/*.md", "mossformer_jax/assets/*/*.md")
    for path in sorted(REPOSITORY.glob(pattern))
    if path.name != "CHANGELOG.md"  # its older entries describe older versions
)
PROGRAMS = ("mossformer-jax", "python", "make", "bash", "pip", "npm", "tensorboard", "wandb")


@dataclass(frozen=True)
class Command:
    """A command of a page: where it is, and its words without those that depend on the shell."""

    place: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.place} {' '.join(self.words)}"


def blocks(page: Path) -> Iterator[tuple[int, str, str]]:
    """The code blocks of a page: number of the first line, language ("" if indented or not given), and text."""
    lines, number = page.read_text("utf-8").splitlines(), 0
    while number < len(lines):
        start, line = number, lines[number]
        number += 1
        if line.startswith("```"):
            while lines[number] != "```":
                number += 1
            yield start + 2, line[3:], "\n".join(lines[start + 1 : number]) + "\n"
            number += 1
        elif line.startswith("    "):
            while number < len(lines) and (lines[number].startswith("    ") or not lines[number]):
                number += 1
            yield start + 1, "", "\n".join(text[4:] for text in lines[start:number]) + "\n"


def python_blocks(page: str) -> dict[int, str]:
    """The Python code of a page, by the number of its first line."""
    return {line: text for line, language, text in blocks(REPOSITORY / page) if language == "python"}


def inline_code(page: Path) -> Iterator[tuple[int, str]]:
    """The code inside the sentences and tables of a page, with line numbers."""
    text = re.sub(
        r"^```.*?^```$", lambda found: "\n" * found[0].count("\n"), page.read_text("utf-8"), flags=re.M | re.S
    )
    for found in re.finditer(r"`([^`]+)`", text):
        yield text.count("\n", 0, found.start()) + 1, " ".join(found[1].replace("\\|", "|").split())


def commands(pages: tuple[Path, ...] = PAGES) -> Iterator[Command]:
    """All commands in code blocks, in which a shell variable or a `...` is replaced or removed."""
    for page in pages:
        for first, language, text in blocks(page):
            if language:
                continue
            for offset, line in _logical_lines(text):
                for words in _simple_commands(line):
                    yield Command(f"{page.relative_to(REPOSITORY)}:{first + offset}", words)


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines, joined where one ends with a backslash."""
    joined, start = "", 0
    for number, line in enumerate(text.splitlines()):
        if not joined:
            start = number
        joined += line
        if joined.endswith("\\"):
            joined = joined[:-1]
        else:
            yield start, joined
            joined = ""


def _simple_commands(line: str) -> Iterator[tuple[str, ...]]:
    """The commands of a line that start one of `PROGRAMS`, without redirections, variables and what starts them."""
    for part in re.split(r"&&|\|", re.sub(r"\$\{?\w+\}?", "1e-4", line)):
        try:
            words = shlex.split(part.split(" >")[0], comments=True)
        except ValueError:  # a line of prose, such as one with an apostrophe
            continue
        started = bool(words) and (words[0] in (*PROGRAMS, "srun") or re.fullmatch(r"[A-Z_]+=\S*", words[0]))
        while words and words[0] not in PROGRAMS:
            words.pop(0)
        if started and words:
            yield tuple(word for word in words if word != "...")
