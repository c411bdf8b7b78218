"""`python -m experiments.reporting.pictures --out docs/pictures`: draws the manual's SVGs."""

from __future__ import annotations

from pathlib import Path

from artefacts import atomic_write
from experiments.arguments import LineParser
from experiments.reporting.pictures import concepts, rooms

PICTURES = concepts.PICTURES | rooms.PICTURES


def main() -> None:
    """Draw every picture into a folder."""
    parser = LineParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    folder: Path = parser.parse_args().out
    for name, draw in PICTURES.items():
        with atomic_write(folder / f"{name}.svg") as file:
            file.write(str(draw()))
        print(folder / f"{name}.svg")


if __name__ == "__main__":
    main()
