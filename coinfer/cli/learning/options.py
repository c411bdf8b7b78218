"""Options that several commands of policies take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ThreadsOption = Annotated[int, typer.Option(min=1, help="Torch threads (more rarely help).")]
MostDeviceOption = Annotated[
    float,
    typer.Option(min=0.0, help="Serve prices of a device second up to this (0: the scenario's)."),
]
MostMegabyteOption = Annotated[
    float, typer.Option(min=0.0, help="The same of a megabyte (0: the scenario's).")
]

OutOption = Annotated[
    Path | None,
    typer.Option(help="Policy folder ('policy' beside a scenario's file; runs/policies/NAME)."),
]
