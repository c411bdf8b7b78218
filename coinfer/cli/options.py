"""Options that several commands share: type, bounds and help of each, written once.

Options of one command stand in its module.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DAEMON, DAEMON_HELP = "http://127.0.0.1:8700", "http://HOST:PORT or unix:PATH of the daemon."
ScenarioOption = Annotated[str, typer.Option("--scenario", help="A shipped name or a .toml file.")]
PolicyOption = Annotated[
    Path | None,
    typer.Option(help="Policy folder ('policy' beside the scenario's file, or the shipped one)."),
]
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
EdgeAddressOption = Annotated[str, typer.Option("--edge", help="HOST:PORT or [IPV6]:PORT.")]
ControllerOption = Annotated[
    str,
    typer.Option(
        "--controller",
        help="Who decides ('learned' where the scenario has a policy, else 'robust'; the daemon's "
        "default is 'robust').",
    ),
]
ExecutorOption = Annotated[str, typer.Option(help="onnx, onnx-int8 or torch.")]
PaceOption = Annotated[
    bool, typer.Option(help="Keep the device profile's times (emulates that machine).")
]
SlowdownOption = Annotated[
    float,
    typer.Option(min=1.0, max=100.0, help="With --pace: so many times slower than the profile."),
]
KeepOption = Annotated[
    Path | None, typer.Option(help="Folder for records of the run, as [records] keeps them.")
]
RecordsOption = Annotated[Path | None, typer.Option(help="JSON file of every frame.")]
AsDaemonOption = Annotated[
    bool, typer.Option("--as-daemon", help="Treat frames and link as the daemon does.")
]
TorchThreadsOption = Annotated[int, typer.Option(min=1, help="Torch threads.")]
TRACE_FILE = "A trace file in any known format."
"""Help of one trace, as an option or as an argument."""
