"""What the daemon promises, on real links: never worse than the device alone, on any test log.

    python -m experiments.replay.promise --scenario lte-mobilenet --seconds 30

Replays the first seconds of every test log with two processes on a shaped link, once with the
controller, once with the device alone, both treating frames and link as the daemon does
(`coinfer replay --as-daemon`). Prints one JSON object; ends with 1 where on some log the on-time
share is lower by more than `--tolerance` or the goodput accuracy by more than a point.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import msgspec

from artefacts import CoinferError, UsageError
from controller.daemon.configuration.settings import DEFAULT_CONTROLLER
from controller.scenarios import Setting, load_setting, read_scenario
from experiments.arguments import LineParser, above_0, count
from experiments.evaluation.comparison import TraceFigures
from experiments.evaluation.controllers import chosen_names
from experiments.replay.device_run import check_deployable
from experiments.replay.session import ReplayArgs, replay
from traces.trace import BandwidthTrace

GOODPUT_POINT = 0.01
TOLERANCE = 0.002
"""Of the frames: what a busy machine makes late of any process."""


class LogRow(msgspec.Struct, frozen=True):
    """One log: shares of the frames with the controller, and with the device alone."""

    trace: str
    goodput_accuracy: float
    alone_goodput_accuracy: float
    late_share: float
    alone_late_share: float


class PromiseFigures(msgspec.Struct, frozen=True):
    """All logs, and the worst differences to the device alone."""

    scenario: str
    controller: str
    seconds: float
    worst_goodput_difference: float
    worst_late_difference: float
    rows: tuple[LogRow, ...]


def promise(
    setting: Setting, scenario: str, controller: str, seconds: float, method: str, most: int | None
) -> PromiseFigures:
    """Replay every test log (the first `most`) twice.

    `setting` is the `scenario` loaded, which is named for the processes. `controller` decides once,
    the device alone the other time, for at most `seconds` of a log; `method` is the link's.
    """
    rows = []
    for trace in setting.traces("test").traces[:most]:
        part = trace.slice(0.0, min(seconds, trace.duration_s))
        own = _measured(setting, part, scenario, controller, method)
        alone = _measured(setting, part, scenario, "device-only", method)
        rows.append(
            LogRow(
                trace.name, own.goodput_accuracy, alone.goodput_accuracy, own.late_share,
                alone.late_share,
            )
        )  # fmt: skip
        last = rows[-1]
        print(
            f"{last.trace}: goodput {last.goodput_accuracy:.4f} ({last.alone_goodput_accuracy:.4f} "
            f"alone), late {last.late_share:.4f} ({last.alone_late_share:.4f})",
            file=sys.stderr,
        )
    return PromiseFigures(
        setting.scenario.name, controller, seconds,
        min(r.goodput_accuracy - r.alone_goodput_accuracy for r in rows),
        max(r.late_share - r.alone_late_share for r in rows), tuple(rows),
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
    parser.add_argument("--controller", default=DEFAULT_CONTROLLER, help="the daemon's own")
    parser.add_argument("--seconds", type=above_0, default=30.0, help="of every log")
    parser.add_argument("--method", default="auto", help="auto, cell, tc or relay")
    parser.add_argument("--logs", type=count, help="the first so many")
    parser.add_argument(
        "--tolerance", type=float, default=TOLERANCE, help="more late than alone, of all frames"
    )
    args = parser.parse_args(argv)
    try:
        setting = load_setting(read_scenario(args.scenario))
        names = chosen_names(args.controller, setting)
        if len(names) != 1:
            raise UsageError(f"controller: found '{args.controller}', expected one name")
        check_deployable(names[0])
        found = promise(
            setting, args.scenario, args.controller, args.seconds, args.method, args.logs
        )
    except CoinferError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        parser.exit(130, "interrupted\n")
    plain: dict[str, Any] = msgspec.to_builtins(found)
    print(json.dumps(plain, indent=1))
    worse = found.worst_goodput_difference < -GOODPUT_POINT
    return int(worse or found.worst_late_difference > args.tolerance)


if __name__ == "__main__":
    sys.exit(main())
