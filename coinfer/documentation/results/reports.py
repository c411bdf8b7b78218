"""Tables of results that shorten a report: taken from the pages that `coinfer report` wrote."""

from __future__ import annotations

import re
from collections.abc import Callable

from coinfer.documentation.results.records import page_text

Rows = list[tuple[str, ...]]

PRICES = ("0-0", "0_25-1_5", "0_2-8", "1-6", "2-12")
PRICED = ("lte-mobilenet-priced", "3g-mobilenet-priced")
NUMBER = r"[+-]\d+\.\d+"
LEARNED = re.compile(
    rf"^- Learned over (?P<over>[\w-]+) .*?: (?P<mean>{NUMBER}) "
    rf"\((?P<low>{NUMBER}) to (?P<high>{NUMBER})\).*?, sign-flip p <? ?(?P<p>[\d.]+)",
    re.MULTILINE,
)
CELL = re.compile(rf"(?P<mean>{NUMBER}) \((?P<low>{NUMBER}) to (?P<high>{NUMBER})\)")


def section(report: str, heading: str) -> str:
    """The part of a report's page under a heading of the second level."""
    _, _, rest = page_text(report).partition(f"\n## {heading}\n")
    return rest.partition("\n## ")[0]


def matrix_rows(report: str, matrix: str) -> Rows:
    """The rows of a matrix of a report, their heads first; every cell as the report has it."""
    lines = [line for line in section(report, matrix).split("\n") if line.startswith("| ")]
    return [tuple(cell.strip() for cell in line[1:-1].split("|")) for line in lines[1:]]


def unsigned(interval: str) -> str:
    """Bounds of an interval without the sign of what is above 0."""
    return interval.replace("+", "")


def other_traces_rows() -> Rows:
    """Points over the best rule, trained on the rows, tested on the columns."""
    found: Rows = []
    for name, *cells in matrix_rows("breadth", "generalisation-against-best (against_best)"):
        points = [cell.partition(" ")[0].rstrip(",") for cell in cells]
        found.append((name.replace("Verizon LTE", "one trace each"), *points))
    return found


def shown_rows() -> Rows:
    """What the scorer is shown: points against everything, and their interval."""
    found: Rows = []
    rows = matrix_rows("breadth", "ablations-of-learning (against_everything)")
    for name, cell in rows:
        if match := CELL.match(cell):
            interval = unsigned(f"{match['low']} to {match['high']}")
            found.append((name, match["mean"], interval))
    return found


def price_rows() -> Rows:
    """Points over the best rule at five pairs of prices."""
    found: Rows = []
    for prices in PRICES:
        cells = []
        for scenario in PRICED:
            match = LEARNED.search(section("breadth", f"{scenario}-at-{prices}"))
            if match:
                interval = unsigned(f"{match['low']} to {match['high']}")
                cells.append(f"{match['mean']} ({interval}) over {match['over']}, {match['p']}")
        found.append((prices.replace("-", ", ").replace("_", "."), *cells))
    return found


REPORTED: dict[tuple[str, str], Callable[[], Rows]] = {
    ("ablations", "what-the-scorer-is-shown"): shown_rows,
    ("generalisation", "other-traces"): other_traces_rows,
    ("prices", "reward-over-the-best-rule"): price_rows,
}
"""By (page, table): its rows."""
