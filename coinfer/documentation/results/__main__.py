"""`python -m coinfer.documentation.results`: run the short commands of pages of results again.

What they give is kept in the pages' records, and the pages are written. Tables of longer commands
stay as they are.
"""

from __future__ import annotations

import argparse
import datetime
import json
from functools import cache
from typing import Any

import msgspec

from artefacts import CoinferError, UsageError, atomic_write, processes
from coinfer.documentation.results.made import MADE
from coinfer.documentation.results.records import (
    RESULTS,
    KeptTable,
    read_record,
    results_page,
    save_record,
)
from coinfer.documentation.results.reports import REPORTED

PAGES = sorted({page for page, _ in (*MADE, *REPORTED)})
LONGEST_S = 3600.0


@cache
def output_of(*argv: str) -> Any:
    """The JSON that a command of coinfer gives."""
    command = processes.module_command("coinfer.cli.entry", *argv, "--json")
    done = processes.run(command, timeout_s=LONGEST_S)
    if done.returncode:
        raise UsageError(f"{' '.join(argv)}: found exit code {done.returncode}, expected 0")
    return json.loads(done.stdout)


def made_anew(page: str, kept: KeptTable, commit: str, date: str) -> KeptTable:
    """A table as it is found now, where that can be done; rows that stay keep when they came.

    `page` has it, `kept` is what is recorded, `commit` and `date` are those of other rows.
    """
    key = (page, kept.name)
    if key in MADE:
        # rows of shipped outcomes ask no command for anything
        source = "outcomes" if kept.source == "outcomes" else "output"
        found = msgspec.structs.replace(kept, rows=tuple(MADE[key](output_of)), source=source)
    elif key in REPORTED:
        found = msgspec.structs.replace(kept, rows=tuple(REPORTED[key]()), source="report")
    else:
        return kept
    if found.rows == kept.rows:
        return found
    return msgspec.structs.replace(found, commit=commit, date=date)


def main() -> None:
    """Make the tables of the pages named, or all that can be made."""
    parser = argparse.ArgumentParser(
        prog="python -m coinfer.documentation.results", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("pages", nargs="*", help=f"of {', '.join(PAGES)} (all)")
    named = parser.parse_args().pages or PAGES
    for page in named:
        if page not in PAGES:
            parser.error(f"found '{page}', expected one of {', '.join(PAGES)}")
    command = ["git", "-C", str(RESULTS), "rev-parse", "--short", "HEAD"]
    found = processes.run(command)
    if found.returncode:
        parser.error(f"the commit: found {found.stderr.strip()}, expected a clone of git's")
    commit = found.stdout.strip()
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    try:
        for page in named:
            save_record(page, tuple(
                made_anew(page, one, commit, today)
                for one in read_record(page).tables
            ))  # fmt: skip
            with atomic_write(RESULTS / f"{page}.md") as stream:
                stream.write(results_page(page))
            print(RESULTS / f"{page}.md")
    except CoinferError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
