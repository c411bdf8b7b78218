"""The table of architectures: `python -m experiments.analyses.architectures --out
docs/results/architectures.md`.
"""

from __future__ import annotations

from pathlib import Path

from artefacts import CoinferError, UsageError
from experiments.analyses.architectures.table import names, rows, write_table
from experiments.arguments import LineParser


def main() -> None:
    """Write the page, or print the rows of some."""
    parser = LineParser(prog="python -m experiments.analyses.architectures", description=__doc__)
    parser.add_argument("--out", type=Path, help="Markdown file to write (all architectures)")
    parser.add_argument("--only", action="append", default=[], help="one by name (repeatable)")
    args = parser.parse_args()
    try:
        unknown = [name for name in args.only if name not in names()]
        if unknown:
            raise UsageError(f"--only: found '{unknown[0]}', expected one of {', '.join(names())}")
        if args.only and args.out:
            raise UsageError("--out: found beside --only, expected it for all architectures")
        found = rows(args.only or names(), lambda row: print(" | ".join(row.cells), flush=True))
        if args.out:
            write_table(args.out, found)
    except CoinferError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
