"""The figures of a page of results: kept as JSON in `docs/results/records`, written into the page.

A page is prose with places for tables. Each place is filled from the table of its name in the
page's record, which says which command gave the figures, and since when they stand. The end of the
page lists that.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import msgspec

from artefacts import ArtefactError, read_json, read_text, write_json
from coinfer.documentation.markdown import code, table

RESULTS = Path(__file__).resolve().parents[3] / "docs" / "results"
FORMAT_VERSION = 1
MOST_BYTES = 2**20
PLACE = re.compile(r"<!-- table (?P<name>[\w-]+) -->\n.*?<!-- end of table -->", re.DOTALL)
SOURCES = re.compile(r"<!-- sources -->\n.*?<!-- end of sources -->", re.DOTALL)
HOW = {
    "output": "written from its output",
    "report": "taken from its report",
    "printed": "copied from what it printed",
    "outcomes": "read from the outcomes that it wrote, which are shipped",
}


class KeptTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One table of a page."""

    name: str
    command: str
    """What gives the figures."""
    date: str
    """Since when the figures stand, as 2026-11-30."""
    commit: str
    """With which commit they came."""
    source: Literal["output", "report", "printed", "outcomes"]
    """Whether rows were made of the command's JSON, of a report's page, copied by hand, or made of
    the outcomes that the command left in a shipped network.
    """
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        """Refuse rows that are no rows of these columns."""
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"table '{self.name}': found a row of {len(row)} cells, expected "
                    f"{len(self.columns)}"
                )


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All tables of a page."""

    format_version: int
    tables: tuple[KeptTable, ...]


def record_path(page: str) -> Path:
    """Where the figures of a page lie."""
    return RESULTS / "records" / f"{page}.json"


def recorded_pages() -> list[str]:
    """Every page with a record, by its name without `.md`."""
    return sorted(path.stem for path in (RESULTS / "records").glob("*.json"))


def read_record(page: str) -> Record:
    """The figures of a page."""
    return read_json(record_path(page), Record, version=FORMAT_VERSION)


def save_record(page: str, tables: tuple[KeptTable, ...]) -> None:
    """Keep the figures of a page."""
    write_json(record_path(page), Record(FORMAT_VERSION, tables))


def page_text(page: str) -> str:
    """A page of results as it stands."""
    return read_text(RESULTS / f"{page}.md", MOST_BYTES)


def results_page(page: str) -> str:
    """A page of results as its prose and its record give it."""
    path, record = RESULTS / f"{page}.md", read_record(page)
    kept = {one.name: one for one in record.tables}
    prose = page_text(page)
    places = [match["name"] for match in PLACE.finditer(prose)]
    if places != list(kept):
        raise ArtefactError(
            path,
            field="tables",
            found=", ".join(places) or "none",
            expected=", ".join(kept) or "none",
        )
    filled = PLACE.sub(lambda match: _filled(kept[match["name"]]), prose)
    return SOURCES.sub(lambda _: _sources(page, record), filled)


def _filled(kept: KeptTable) -> str:
    rows = table(kept.columns, kept.rows)
    return f"<!-- table {kept.name} -->\n\n{rows}\n\n<!-- end of table -->"


def _sources(page: str, record: Record) -> str:
    rows = [
        (one.name, code(one.command), HOW[one.source], one.date, code(one.commit))
        for one in record.tables
    ]
    listed = table(("table", "command", "how", "since", "commit"), rows)
    return (
        "<!-- sources -->\n\n## Where the figures come from\n\n"
        f"`python -m coinfer.documentation` writes the tables from [their record](records/{page}."
        "json). *Since* and *commit* say when the figures came into this repository.\n\n"
        f"{listed}\n\n<!-- end of sources -->"
    )
