"""EdgeLessPart's tables: `python -m experiments.analyses.edgelesspart`.

Every way to serve 1,000 requests with a device and a cloud function, on every network, over
thresholds and bandwidths: what they take, what memory the function needs, what is billed.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import msgspec

from artefacts import CoinferError, UsageError
from experiments.analyses.edgelesspart.choosing import Bounds
from experiments.analyses.edgelesspart.networks import network_names
from experiments.analyses.edgelesspart.report import Report, report_of, table_lines
from experiments.analyses.edgelesspart.tables import Question
from experiments.arguments import LineParser, above_0, count

PLAIN = Question()
SHORT = Question(thresholds=(0.7,), bandwidths_bps=(1e6,))


def _parser() -> argparse.ArgumentParser:
    parser = LineParser(
        prog="python -m experiments.analyses.edgelesspart",
        description=(__doc__ or "").partition("\n\n")[2],
    )
    parser.add_argument(
        "--networks", default=",".join(network_names()),
        help="names or folders that coinfer profile made, by commas (%(default)s)",
    )  # fmt: skip
    parser.add_argument("--short", action="store_true", help="one threshold and one bandwidth")
    parser.add_argument(
        "--exits", type=count, default=PLAIN.exits, help="asked at most (%(default)s)"
    )
    parser.add_argument("--thresholds", help="how sure an exit must be, by commas")
    parser.add_argument("--mbps", help="bandwidths in Mbit/s, by commas")
    parser.add_argument("--rtt-ms", type=above_0, default=30.0, help="round trip (%(default)s)")
    parser.add_argument("--requests", type=count, default=PLAIN.requests, help="(%(default)s)")
    parser.add_argument(
        "--codecs", default=",".join(PLAIN.codecs), help="what may cross, by commas (%(default)s)"
    )
    parser.add_argument(
        "--memory-share", type=above_0, default=PLAIN.bounds.memory_share,
        help="memory-constrained: of what the function needs for the whole network (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--time-share", type=above_0, default=PLAIN.bounds.time_share,
        help="latency-constrained: of what the device alone takes (%(default)s)",
    )  # fmt: skip
    parser.add_argument("--device-mib", type=above_0, default=math.inf, help="of the device")
    parser.add_argument("--seed", type=int, default=0, help="of the requests (%(default)s)")
    parser.add_argument("--plots", type=Path, help="folder for the pictures (PNG)")
    parser.add_argument("--json", action="store_true", help="all rows as JSON")
    return parser


def _numbers(option: str, text: str | None, plain: tuple[float, ...]) -> tuple[float, ...]:
    if text is None:
        return plain
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{option}: found '{text}', expected numbers by commas") from None


def _question(args: argparse.Namespace) -> Question:
    base = SHORT if args.short else PLAIN
    thresholds = _numbers("--thresholds", args.thresholds, base.thresholds)
    rates = _numbers("--mbps", args.mbps, tuple(r / 1e6 for r in base.bandwidths_bps))
    bounds = Bounds(args.memory_share, args.time_share, args.device_mib * 2**20)
    return Question(
        args.exits, thresholds, tuple(1e6 * rate for rate in rates), args.rtt_ms / 1e3,
        args.requests, tuple(args.codecs.split(",")), bounds, args.seed,
    )  # fmt: skip


def _run(args: argparse.Namespace) -> Report:
    found = report_of(tuple(args.networks.split(",")), _question(args))
    if args.plots is not None:
        from experiments.analyses.edgelesspart.figures import draw_all

        draw_all(found, args.plots)
    return found


def main() -> None:
    """Print a table of every network at one threshold and bandwidth, or all rows as JSON."""
    parser = _parser()
    args = parser.parse_args()
    try:
        found = _run(args)
    except CoinferError as error:
        parser.error(str(error))
    if args.json:
        print(msgspec.json.format(msgspec.json.encode(found)).decode())
    else:
        print("\n".join(table_lines(found)))


if __name__ == "__main__":
    main()
