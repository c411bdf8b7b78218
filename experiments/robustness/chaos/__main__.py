"""`python -m experiments.robustness.chaos`."""

from __future__ import annotations

import json
import sys
from typing import Any

import msgspec

from artefacts import CoinferError
from artefacts.endings import run_async
from experiments.arguments import LineParser, count
from experiments.robustness import chaos
from experiments.robustness.chaos.run import run_chaos

LEAST_ANSWERED = 0.95
ALL_KINDS_FRAMES = 10_000
"""From so many on every kind of fault must have occurred."""


def main(argv: list[str] | None = None) -> int:
    """The command; 0 where no frame was lost, doubled or answered with another's result, and most
    were answered, some of them by the edge.
    """
    parser = LineParser(
        prog="python -m experiments.robustness.chaos",
        description=(chaos.__doc__ or "").splitlines()[0],
    )
    parser.add_argument(
        "--frames",
        type=count,
        default=10_000,
        help=f"over all ten devices; from {ALL_KINDS_FRAMES:,} on every fault must have been made",
    )
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    try:
        found = run_async(run_chaos(args.frames, args.seed))
    except CoinferError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        parser.exit(130, "interrupted\n")
    plain: dict[str, Any] = msgspec.to_builtins(found)
    print(json.dumps(plain, indent=1))
    few = found.answered < LEAST_ANSWERED * found.frames or not found.by_edge
    unmade = args.frames >= ALL_KINDS_FRAMES and not (found.all_kinds and found.full_disk_reported)
    return int(bool(found.lost or found.doubled or found.wrong or few or unmade))


if __name__ == "__main__":
    sys.exit(main())
