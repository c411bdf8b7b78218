"""Attacks on a device and an edge that run, each beside a camera that must not lose its frames.

    python -m experiments.robustness.attacks [--short] [NAME ...]

Prints a line for each attack and ends with 1 where a bound did not hold. `--short` takes a minute
for all of them, as `.ci/run` makes them; `--list` says what each does.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import msgspec

from artefacts import CoinferError
from experiments.arguments import LineParser, above_0
from experiments.robustness.attacks import cases
from experiments.robustness.attacks.case import Case
from experiments.robustness.attacks.judging import Outcome
from experiments.robustness.attacks.runner import run_attacks

SECONDS, ALONE_S = 10.0, 10.0
SHORT_TOTAL_S, SHORT_ALONE_S = 42.0, 3.0
"""Of attacks and of the camera alone; starting the daemons takes the rest of a minute."""
LEAST_S, MOST_SHORT_S = 1.0, 2.5


def main(argv: list[str] | None = None) -> int:
    """The command; 0 where every bound held."""
    parser = LineParser(
        prog="python -m experiments.robustness.attacks", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="attacks (all of them)")
    parser.add_argument("--short", action="store_true", help="a minute for all of them")
    parser.add_argument("--seconds", type=above_0, help=f"of each attack ({SECONDS:g})")
    parser.add_argument("--list", action="store_true", help="say what there is")
    parser.add_argument("--json", action="store_true", help="figures as JSON at the end")
    args = parser.parse_args(argv)
    try:
        wanted = _chosen(args.names)
        if args.list:
            for case in wanted:
                print(f"{case.name:28} {case.what}")
            return 0
        seconds = args.seconds or (_short_s(len(wanted)) if args.short else SECONDS)
        alone_s = SHORT_ALONE_S if args.short else ALONE_S
        report = run_attacks(wanted, seconds, alone_s, _say)
    except CoinferError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        parser.exit(130, "interrupted\n")
    print(
        f"alone {report.alone_lost} of {report.alone_frames} frames lost; "
        f"{sum(o.held for o in report.outcomes)} of {len(report.outcomes)} bounds held; "
        f"{report.seconds:.0f} s"
    )
    if args.json:
        plain: dict[str, Any] = msgspec.to_builtins(report)
        print(json.dumps(plain, indent=1))
    return int(not report.held)


def _chosen(names: list[str]) -> list[Case]:
    """The cases of those names; all of them where none is named."""
    known = cases()
    for name in names:
        if name not in known:
            raise CoinferError(f"attack: found '{name}', expected one of {', '.join(known)}")
    return [known[name] for name in names or known]


def _short_s(count: int) -> float:
    """How long each of so many attacks goes on in the short form."""
    return min(max(SHORT_TOTAL_S / max(count, 1) - 0.5, LEAST_S), MOST_SHORT_S)


def _say(outcome: Outcome) -> None:
    verdict = "held" if outcome.held else "NOT HELD: " + "; ".join(outcome.broken)
    print(
        f"{outcome.name:28} lost {outcome.lost:3d} of {outcome.frames:3d}  device "
        f"{outcome.device_mib:4.0f} MiB  edge {outcome.edge_mib:4.0f} MiB  {verdict}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
