"""Options that several commands share: type, bounds and help of each, written once.

Options of one command stand in its module.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ScenarioOption = Annotated[str, typer.Option("--scenario", help="A shipped name or a .toml file.")]
PolicyOption = Annotated[Path | None, typer.Option(help="Policy folder (the shipped one).")]
DeviceSecondOption = Annotated[
    float | None,
    typer.Option(min=0.0, help="Price of a device second in correct answers (the scenario's)."),
]
MegabyteOption = Annotated[float | None, typer.Option(min=0.0, help="The same of a megabyte.")]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="The labelled pictures that 'coinfer profile --data' was given: measure on those "
        "that the network was judged on.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Figures as JSON.")]
