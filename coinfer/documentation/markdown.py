"""Text as Markdown: cells of tables, rows, anchors. Knows nothing of what is written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

MADE = "<!-- Made by `python -m coinfer.documentation`: change the code, not this page. -->"


def cell(text: str) -> str:
    """One cell: on one line, without what would end it."""
    return " ".join(text.replace("|", "\\|").split())


def code(text: str) -> str:
    """Text as code; '' stays ''."""
    return f"`{text}`" if text else ""


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of text; cells are made safe, so they may hold code and links."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(map(cell, line)) + " |" for line in lines)


def page(title: str, *parts: str) -> str:
    """A page of parts, with an empty line between them."""
    return "\n\n".join((f"# {title}", MADE, *(part for part in parts if part))) + "\n"


def paragraphs(text: str) -> str:
    """A docstring's text, its indentation taken off."""
    lines = text.strip().split("\n")
    return plain("\n".join(line.strip() for line in lines))


def plain(text: str) -> str:
    """Text in which no brackets are taken for a link."""
    return text.replace("][", "]\\[")
