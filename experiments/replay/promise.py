"""What the daemon promises, on real links: never worse than the device alone, on any test log.

    python -m experiments.replay.promise --scenario lte-mobilenet --seconds 30

Replays the first seconds of every test log with two processes on a shaped link: once with each
controller, once with the device alone, all treating frames and link as the daemon does
(`coinfer replay --as-daemon`). A log's runs follow one another, so that a machine that slows down
slows all of them. Prints one JSON object; ends with 1 where on some log a controller's on-time
share is lower by more than `--tolerance` or its goodput accuracy by more than a point. An
interrupted run prints what it has measured of whole logs.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from artefacts import CoinferError
from controller.daemon.configuration.settings import DEFAULT_CONTROLLER
from controller.scenarios import Setting, load_setting, read_scenario
from experiments.arguments import LineParser, above_0, count, count_or_none
from experiments.evaluation.comparison import TraceFigures
from experiments.evaluation.controllers import chosen_names
from experiments.evaluation.statistics import Paired, paired
from experiments.replay.device_run import check_deployable
from experiments.replay.session import ReplayArgs, replay
from traces.trace import BandwidthTrace

GOODPUT_POINT = 0.01
TOLERANCE = 0.002
"""Of the frames: what a busy machine makes late of any process."""
ALONE = "device-only"


class Shares(msgspec.Struct, frozen=True):
    """Of one controller on one log: shares of the frames."""

    goodput_accuracy: float
    late_share: float


class LogRow(msgspec.Struct, frozen=True):
    """One log: what every controller reached, by its name, and the device alone."""

    trace: str
    controllers: dict[str, Shares]
    alone: Shares


class PromiseFigures(msgspec.Struct, frozen=True):
    """All logs, the worst differences of any controller to the device alone, and means."""

    scenario: str
    seconds: float
    worst_goodput_difference: float
    worst_late_difference: float
    means: dict[str, Shares]
    """Over logs, the device alone too."""
    over: dict[str, dict[str, Paired]]
    """Of the first controller: its goodput accuracy less another's, paired over logs."""
    rows: tuple[LogRow, ...]


Measure = Callable[[BandwidthTrace, str], TraceFigures]


def promise(
    traces: Sequence[BandwidthTrace], controllers: Sequence[str], measure: Measure
) -> tuple[list[LogRow], bool]:
    """Rows of every trace, and whether all were measured: an interrupt (SIGINT) ends it sooner.

    `measure` runs a trace with a controller of that name; every one of the `controllers` runs, and
    the device alone. What is left is said on standard error.
    """
    rows: list[LogRow] = []
    begun = time.monotonic()
    try:
        for trace in traces:
            own = {name: _shares(measure(trace, name)) for name in controllers}
            alone = own[ALONE] if ALONE in own else _shares(measure(trace, ALONE))
            rows.append(LogRow(trace.name, own, alone))
            left_s = (time.monotonic() - begun) / len(rows) * (len(traces) - len(rows))
            found = ", ".join(
                f"{name} {one.goodput_accuracy:.4f} (late {one.late_share:.4f})"
                for name, one in (own | {"alone": rows[-1].alone}).items()
            )
            print(
                f"{trace.name}: goodput {found}; {len(rows)} of {len(traces)} logs, about "
                f"{left_s / 60:.0f} min left",
                file=sys.stderr, flush=True,
            )  # fmt: skip
    except KeyboardInterrupt:
        return rows, False
    return rows, True


def _shares(figures: TraceFigures) -> Shares:
    return Shares(figures.goodput_accuracy, figures.late_share)


def figures_of(scenario: str, seconds: float, rows: Sequence[LogRow], seed: int) -> PromiseFigures:
    """Means, worst differences and pairs of one log or more.

    `scenario` ran for so many `seconds` of every log of the `rows`; `seed` draws the intervals.
    """
    names = list(rows[0].controllers)
    shares = {name: [row.controllers[name] for row in rows] for name in names}
    alone = [row.alone for row in rows]
    pairs = [(mine, his) for own in shares.values() for mine, his in zip(own, alone, strict=True)]
    every = shares | ({} if ALONE in shares else {ALONE: alone})
    goodput = {name: [one.goodput_accuracy for one in own] for name, own in every.items()}
    return PromiseFigures(
        scenario, seconds,
        min(mine.goodput_accuracy - his.goodput_accuracy for mine, his in pairs),
        max(mine.late_share - his.late_share for mine, his in pairs),
        {
            name: Shares(
                sum(goodput[name]) / len(rows), sum(one.late_share for one in own) / len(rows)
            )
            for name, own in every.items()
        },
        {
            names[0]: {
                name: paired(goodput[names[0]], theirs, seed)
                for name, theirs in goodput.items()
                if name != names[0]
            }
        },
        tuple(rows),
    )  # fmt: skip


def _measured(
    setting: Setting, trace: BandwidthTrace, scenario: str, controller: str, method: str
) -> TraceFigures:
    args = ReplayArgs(scenario, controller, None, method, 1, as_daemon=True)
    return replay(setting, trace, args, lambda note: None).measured


def main(argv: list[str] | None = None) -> int:
    """The command."""
    parser = LineParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scenario", default="lte-mobilenet", help="a shipped name or a file")
    parser.add_argument(
        "--controllers", default=DEFAULT_CONTROLLER,
        help="names by commas; the first is compared with the others (the daemon's own)",
    )  # fmt: skip
    parser.add_argument("--seconds", type=above_0, default=30.0, help="of every log")
    parser.add_argument("--method", default="auto", help="auto, cell, tc or relay")
    parser.add_argument("--logs", type=count, help="the first so many")
    parser.add_argument("--seed", type=count_or_none, default=0, help="of the intervals (0)")
    parser.add_argument(
        "--tolerance", type=float, default=TOLERANCE, help="more late than alone, of all frames"
    )
    args = parser.parse_args(argv)
    try:
        setting = load_setting(read_scenario(args.scenario))
        names = chosen_names(args.controllers or DEFAULT_CONTROLLER, setting)
        for name in names:
            check_deployable(name)
        traces = [
            trace.slice(0.0, min(args.seconds, trace.duration_s))
            for trace in setting.traces("test").traces[: args.logs]
        ]
        rows, whole = promise(
            traces, names,
            lambda trace, name: _measured(setting, trace, args.scenario, name, args.method),
        )  # fmt: skip
    except CoinferError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        parser.exit(130, "interrupted\n")
    if not rows:
        parser.exit(130, "interrupted\n")
    found = figures_of(setting.scenario.name, args.seconds, rows, args.seed)
    plain: dict[str, Any] = msgspec.to_builtins(found)
    print(json.dumps(plain, indent=1))
    if not whole:
        parser.exit(130, f"interrupted after {len(rows)} of {len(traces)} logs\n")
    worse = found.worst_goodput_difference < -GOODPUT_POINT
    return int(worse or found.worst_late_difference > args.tolerance)


if __name__ == "__main__":
    sys.exit(main())
