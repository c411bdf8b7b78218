"""Tables of the page of EdgeLessPart's ways: made by the analysis itself, from recorded answers."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.analyses.edgelesspart.report import Report

PAGE = "edgelesspart"
NETWORKS = (
    "mobilenetv2",
    "efficientnet-lite0",
    "resnet50-quarter",
)
Rows = list[tuple[str, ...]]
Made = Callable[[Callable[..., Any]], Rows]


@cache
def _report() -> Report:
    """All networks at all thresholds and bandwidths, as the command gives them without options."""
    from experiments.analyses.edgelesspart.report import report_of
    from experiments.analyses.edgelesspart.tables import Question

    return report_of(NETWORKS, Question())


def _ways(network: str, _: Callable[..., Any]) -> Rows:
    from experiments.analyses.edgelesspart.report import way_cells

    return way_cells(_report(), network)


def _exits(_: Callable[..., Any]) -> Rows:
    from experiments.analyses.edgelesspart.report import exit_cells

    return exit_cells(_report())


def _bandwidths(_: Callable[..., Any]) -> Rows:
    from experiments.analyses.edgelesspart.report import bandwidth_cells

    return bandwidth_cells(_report())


def _thresholds(_: Callable[..., Any]) -> Rows:
    from experiments.analyses.edgelesspart.report import threshold_cells

    return threshold_cells(_report())


MADE: dict[tuple[str, str], Made] = {
    (PAGE, "exits"): _exits,
    **{(PAGE, network): partial(_ways, network) for network in NETWORKS},
    (PAGE, "bandwidths"): _bandwidths,
    (PAGE, "thresholds"): _thresholds,
}
"""By (page, table): its rows."""
