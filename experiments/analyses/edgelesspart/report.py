"""The report of all networks, and the cells of its tables as people read them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence

import msgspec

from artefacts import UsageError
from experiments.analyses.edgelesspart.networks import ProfiledNetwork, read_network
from experiments.analyses.edgelesspart.placement import PLACEMENTS, placed_exits, shares_before
from experiments.analyses.edgelesspart.tables import Question, Row, network_rows
from experiments.analyses.edgelesspart.tariffs import MB, TARIFFS, Tariff

SHOWN_THRESHOLD, SHOWN_BPS = 0.7, 1e6
"""Of the tables that have one of each; the nearest that were asked for."""
WAY_COLUMNS = (
    "way", "split or exits", "s, all requests", "right", "reach the cloud", "MiB", "MiB x s",
    "device MiB", "GB-s, AWS", "$ a million, AWS", "$ a million, Azure",
)  # fmt: skip
"""MiB and MiB x s are the function's, means of the requests that reach it."""
Cells = list[tuple[str, ...]]


class NetworkFacts(msgspec.Struct, frozen=True):
    """A network of the report: exits by placement (from 1) and where they stand.

    `exit_shares`: of the multiply-adds before each early exit. `accuracies`: of every exit on the
    report half. `device_s` and `edge_s`: seconds of the whole network. `device` and `edge` say what
    was measured.
    """

    name: str
    exit_shares: tuple[float, ...]
    accuracies: tuple[float, ...]
    linear: tuple[int, ...]
    pareto: tuple[int, ...]
    device_s: float
    edge_s: float
    device: str
    edge: str
    judged_on: str


class Report(msgspec.Struct, frozen=True):
    """Everything that the command gives as JSON."""

    networks: tuple[NetworkFacts, ...]
    tariffs: tuple[Tariff, ...]
    rows: tuple[Row, ...]

    def at_threshold(self, threshold: float = SHOWN_THRESHOLD) -> list[Row]:
        """Rows of the threshold nearest to this one, all bandwidths."""
        nearest = min({r.threshold for r in self.rows}, key=lambda t: abs(t - threshold))
        return [row for row in self.rows if row.threshold == nearest]

    def at_bandwidth(self, bandwidth_bps: float = SHOWN_BPS) -> list[Row]:
        """Rows of the bandwidth nearest to this one, all thresholds."""
        nearest = min({r.bandwidth_bps for r in self.rows}, key=lambda b: abs(b - bandwidth_bps))
        return [row for row in self.rows if row.bandwidth_bps == nearest]

    def at_both(self) -> list[Row]:
        """Rows of the threshold and the bandwidth that the tables of ways are of."""
        rate = self.at_bandwidth()[0].bandwidth_bps
        return [row for row in self.at_threshold() if row.bandwidth_bps == rate]


def report_of(named: Sequence[str], question: Question) -> Report:
    """The report of networks by name or folder; says on standard error which one it is at."""
    networks = [read_network(one) for one in named]
    names = [network.name for network in networks]
    if len(set(names)) != len(names):
        raise UsageError(f"--networks: found {', '.join(names)}, expected each once")
    rows = list[Row]()
    for network in networks:
        rows += network_rows(network, question, _progress(network.name))
    return Report(
        tuple(_facts(network, question.exits) for network in networks), TARIFFS, tuple(rows)
    )


def _progress(name: str) -> Callable[[int, int], None]:
    def say(done: int, total: int) -> None:
        print(f"{name}: {done} of {total} thresholds", file=sys.stderr, flush=True)

    return say


def _facts(network: ProfiledNetwork, count: int) -> NetworkFacts:
    last, length = network.last, len(network.spec.branches[network.last])
    placed = {p: tuple(e + 1 for e in placed_exits(network.spec, p, count)) for p in PLACEMENTS}
    outcomes, device, edge = network.outcomes, network.device, network.edge
    return NetworkFacts(
        network.name,
        tuple(shares_before(network.spec).tolist()),
        tuple(outcomes.accuracy(e, half="report") for e in range(outcomes.exits)),
        placed["linear"],
        placed["pareto"],
        device.interval_s(last, 0, length),
        edge.interval_s(last, 0, length),
        device.emulation or device.name,
        edge.emulation or edge.name,
        f"{outcomes.dataset}, report half",
    )


def way_cells(report: Report, network: str) -> Cells:
    """Every way of a network at one threshold and bandwidth, in `WAY_COLUMNS`."""
    return [_cells(row) for row in report.at_both() if row.network == network]


def _cells(row: Row) -> tuple[str, ...]:
    called = [row.placement] if row.placement else []
    if row.constraint:
        called.append({"none": "fastest"}.get(row.constraint, f"{row.constraint}-constrained"))
    head = ", ".join((row.way, *called))
    own = row.figures
    if own is None:
        return (head, "none obeys", *("" for _ in WAY_COLUMNS[2:]))
    aws, azure = own.bills
    million = 1e6 / own.requests
    return (
        head, where(row), f"{own.total_s:.1f}", f"{100 * own.accuracy:.1f} %",
        f"{100 * own.calls / own.requests:.1f} %", f"{own.function_bytes / MB:.2f}",
        f"{own.function_byte_s / MB:.2g}", f"{own.device_bytes / MB:.1f}",
        f"{aws.gb_s:.2f}", f"{million * aws.usd:.3f}", f"{million * azure.usd:.3f}",
    )  # fmt: skip


def where(row: Row) -> str:
    """Where a row's network is split, what crosses there, and which exits are asked."""
    hop, _, asked = row.plan.partition(" unless ")
    exits = asked.partition(" at ")[2]
    if row.way == "exits only, cloud":
        return "asked in the cloud"
    crossing = hop.rpartition(", ")[2] if row.split_after or "edge [" in hop else ""
    split = f"after {row.split_after}, {crossing}" if row.split_after else crossing
    return "; ".join(part for part in (split, exits) if part)


def threshold_cells(report: Report) -> Cells:
    """Split and exits, fastest, by threshold: a row a network and placement.

    Cells: seconds, share that reaches the cloud, share that is right.
    """
    rows = report.at_bandwidth()
    wanted = [r for r in rows if (r.way, r.constraint) == ("split and exits", "none")]
    return _crossed(wanted, lambda row: (row.network, row.placement), _threshold_cell)


def _threshold_cell(row: Row) -> str:
    own = row.figures
    if own is None:
        return "none"
    cloud = 100 * own.calls / own.requests
    return f"{own.total_s:.1f} s, {cloud:.0f} %, {100 * own.accuracy:.1f} %"


def bandwidth_cells(report: Report) -> Cells:
    """Seconds of all requests by bandwidth: a row a network and way, splits at their fastest."""
    wanted = [row for row in report.at_threshold() if row.constraint in ("", "none")]

    def cell(row: Row) -> str:
        return "none" if row.figures is None else f"{row.figures.total_s:.1f}"

    return _crossed(wanted, lambda row: (row.network, named(row)), cell)


def named(row: Row) -> str:
    """A way and its placement in a word or two."""
    return f"{row.way}, {row.placement}" if row.placement else row.way


def _crossed(
    rows: Iterable[Row], head: Callable[[Row], tuple[str, ...]], cell: Callable[[Row], str]
) -> Cells:
    found: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        found.setdefault(head(row), []).append(cell(row))
    return [(*key, *cells) for key, cells in found.items()]


def exit_cells(report: Report) -> Cells:
    """A row an exit: network, compute before it, accuracy, and which placements ask it."""
    found: Cells = []
    for network in report.networks:
        for number, accuracy in enumerate(network.accuracies, 1):
            early = number <= len(network.exit_shares)
            share = network.exit_shares[number - 1] if early else 1.0
            asked = [p for p in PLACEMENTS if number in getattr(network, p)]
            found.append((
                network.name if number == 1 else "", str(number), f"{100 * share:.0f} %",
                f"{100 * accuracy:.1f} %", ", ".join(asked) if early else "the end",
            ))  # fmt: skip
    return found


def table_lines(report: Report) -> list[str]:
    """The tables of all ways in Markdown, one a network."""
    first = report.at_both()[0]
    requests = next(row.figures.requests for row in report.rows if row.figures is not None)
    lines = [
        f"{requests} requests, threshold {first.threshold:g}, {first.bandwidth_bps / 1e6:g} Mbit/s"
    ]
    for network in report.networks:
        lines += ["", f"{network.name}, {network.judged_on}", ""]
        lines += [f"| {' | '.join(WAY_COLUMNS)} |", f"|{'---|' * len(WAY_COLUMNS)}"]
        lines += [f"| {' | '.join(cells)} |" for cells in way_cells(report, network.name)]
    return lines
