"""A deployment, before and after: `python -m experiments.replay.deployment --out FOLDER`.

The shipped policy runs behind a link of another family on a device slower than its profile, and
keeps records as the daemon does. A policy goes on from them as `coinfer train --from` has it. Both
run on logs that are held back, beside the robust planner and the device alone. Each run is kept as
it ends, and an interrupted command goes on behind the last one. The folder gets `deployment.json`
and `deployment.md`. With `--simulated` the same is simulated, on many more frames.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from artefacts import CoinferError, atomic_write, write_json
from experiments.arguments import LineParser, above_0, count, count_or_none
from experiments.replay.deployment.loop import RUNS, Deployment, Figures, Plan
from experiments.replay.deployment.page import page

MINUTES, SIMULATED_MINUTES = 30.0, 120.0


def main(argv: list[str] | None = None) -> int:
    """The command."""
    parser = _parser()
    args = parser.parse_args(argv)
    minutes = args.minutes or (SIMULATED_MINUTES if args.simulated else MINUTES)
    plan = Plan(
        args.scenario, args.traces, args.scale, args.slowdown, minutes, args.logs, args.seconds,
        args.frames, args.simulated, args.method,
    )  # fmt: skip
    said = sys.argv[1:] if argv is None else argv
    try:
        found = _found(Deployment.of(plan, args.out))
    except CoinferError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print(f"interrupted; what has ended is kept in {args.out}", file=sys.stderr)
        return 130
    write_json(args.out / "deployment.json", found)
    text = page(found, shlex.join(["python", "-m", "experiments.replay.deployment", *said]))
    with atomic_write(args.out / "deployment.md") as stream:
        stream.write(text)
    print(text)
    return 0


def _found(deployment: Deployment) -> Figures:
    """Every step, said as it ends."""

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    learnt = deployment.learnt(deployment.recorded(say), say)
    place, runs = deployment.place, []
    total = len(RUNS) * len(place.held_back)
    for run in deployment.runs():
        runs.append(run)
        say(
            f"{run.when}, {run.controller} on {run.trace}: {100 * run.goodput_accuracy:.2f} % "
            f"right and in time, {100 * run.late_share:.2f} % late ({len(runs)} of {total})"
        )
    return Figures(deployment.plan, place.scale, place.source, learnt, tuple(runs))


def _parser() -> argparse.ArgumentParser:
    parser = LineParser(
        prog="python -m experiments.replay.deployment",
        description=(__doc__ or "").splitlines()[0],
    )
    parser.add_argument("--out", type=Path, default=Path("runs/deployment"), help="folder")
    parser.add_argument("--scenario", default="lte-mobilenet", help="a shipped name or a file")
    parser.add_argument("--traces", default="norway", help="another family, a file or a folder")
    parser.add_argument("--scale", type=above_0, help="of rates (so that the mean fits)")
    parser.add_argument("--slowdown", type=above_0, default=1.5, help="of the device")
    parser.add_argument("--minutes", type=above_0, help="for which records are kept")
    parser.add_argument("--logs", type=count, default=6, help="held back")
    parser.add_argument("--seconds", type=above_0, default=60.0, help="of each of them")
    parser.add_argument(
        "--frames", type=count_or_none, default=2_500_000, help="of training (0: planning alone)"
    )
    parser.add_argument("--method", default="auto", help="as of coinfer replay")
    parser.add_argument("--simulated", action="store_true", help="no processes, no link")
    return parser


if __name__ == "__main__":
    sys.exit(main())
