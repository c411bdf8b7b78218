"""What pages show: commands in fenced blocks and in running text, taken apart as a shell does.

Tests hold every one of them against the application. Knows nothing of what commands there are.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHELLS = ("", "sh", "bash", "shell", "console")
"""What a fenced block of commands may be called."""
FENCE = re.compile(r"^([ ]*)(```+)([^\n`]*)\n(.*?)^\1\2[ ]*$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
FILE = re.compile(
    r"`([\w-]+\.(?:toml|csv|txt))`[^\n`]*:\n+```[a-z]*\n(?!\$ )(.*?)^```", re.MULTILINE | re.DOTALL
)
"""A file that a page shows in full: its name, a colon, and a block."""
BEGINS = re.compile(r"^(?:[\w./-]*/)?(coinfer|python3?|make) ")
BREAKS = frozenset({"&&", "||", "|", "&", ";", ">", ">>", "<", "2>"})


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a page; `whole` where it stood in a block, to be typed as it is."""

    page: str
    words: tuple[str, ...]
    whole: bool

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"


def pages() -> list[Path]:
    """Every page that people read."""
    found = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
    return found + sorted((ROOT / "docs").rglob("*.md"))


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """(language, text) of every fenced block."""
    for match in FENCE.finditer(text):
        indent, language = len(match[1]), match[3].strip()
        body = "\n".join(line[indent:] for line in match[4].split("\n"))
        yield language.split(" ")[0].strip("{.}"), body


def files(page: Path) -> dict[str, str]:
    """What a reader has written, by name: the files that a page shows in full."""
    return dict(FILE.findall(page.read_text(encoding="utf-8")))


def commands(page: Path) -> Iterator[Command]:
    """Every command of ours, of Python or of make, on a page."""
    name, text = str(page.relative_to(ROOT)), page.read_text(encoding="utf-8")
    for language, block in blocks(text):
        if language in SHELLS:
            for line in _lines(block):
                for words in _simple(line):
                    yield Command(name, words, whole=True)
    for match in INLINE.finditer(FENCE.sub("", text)):
        for words in _simple(" ".join(match[1].split())):
            yield Command(name, words, whole=False)


def _lines(block: str) -> list[str]:
    """The logical lines of a block: a backslash, or options that are indented deeply, go on."""
    joined = re.sub(r"\\\n\s*", " ", block)
    return re.sub(r"(?<=\S)\n[ \t]{4,}(?=--)", " ", joined).split("\n")


def _simple(line: str) -> Iterator[tuple[str, ...]]:
    """The simple commands of a line that we know, without comments, redirections, prompts."""
    line = line.strip().removeprefix("$ ")
    if not BEGINS.match(line + " ") and not any(part in line for part in BREAKS):
        return
    try:
        words = shlex.split(line, comments=True)
    except ValueError:  # no shell's line: an apostrophe in what a program has printed
        return
    current: list[str] = []
    for word in [*words, ";"]:
        if word not in BREAKS:
            current.append(word)
            continue
        if len(current) > 1 and BEGINS.match(f"{current[0]} "):
            yield tuple(current)
        current = []
