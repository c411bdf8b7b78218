"""`python -m coinfer.documentation`: write every page that is made from the code into docs/."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

from artefacts import UsageError, atomic_write
from coinfer.documentation.commands import commands_page
from coinfer.documentation.configuration import configuration_page
from coinfer.documentation.formats import formats_page
from coinfer.documentation.metrics import metrics_page, shown_metrics
from coinfer.documentation.names import names_page
from coinfer.documentation.results.records import recorded_pages, results_page
from coinfer.documentation.system_picture import system_picture
from coinfer.documentation.wire import wire_page

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES: dict[str, Callable[[], str]] = {
    "reference/commands.md": commands_page,
    "reference/configuration.md": configuration_page,
    "reference/formats.md": formats_page,
    "reference/metrics.md": lambda: metrics_page(*shown_metrics()),
    "reference/names.md": names_page,
    "reference/wire.md": wire_page,
    "pictures/system.svg": system_picture,
    **{f"results/{page}.md": partial(results_page, page) for page in recorded_pages()},
}


def main() -> None:
    """Write the pages named, or all."""
    parser = argparse.ArgumentParser(prog="python -m coinfer.documentation", description=__doc__)
    parser.add_argument("pages", nargs="*", help=f"of {', '.join(PAGES)} (all)")
    named = parser.parse_args().pages or list(PAGES)
    if not DOCS.is_dir():
        raise UsageError(f"documentation: found no folder '{DOCS}', expected a checkout of coinfer")
    for name in named:
        if name not in PAGES:
            parser.error(f"found '{name}', expected one of {', '.join(PAGES)}")
        with atomic_write(DOCS / name) as stream:
            stream.write(PAGES[name]())
        print(DOCS / name)


if __name__ == "__main__":
    main()
