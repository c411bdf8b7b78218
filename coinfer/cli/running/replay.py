"""`coinfer replay`: a trace on a real link between two real processes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coinfer.cli.console import console, emit_json, print_table, progress_bar
from coinfer.cli.options import DataOption, JsonOption, PolicyOption, ScenarioOption
from coinfer.cli.scenario import setting_of
from coinfer.cli.trace_files import OwnScaleOption, one_trace, scale_of

if TYPE_CHECKING:
    from experiments.replay.audit import Audit


def replay(
    scenario: ScenarioOption,
    trace: Annotated[Path, typer.Option(help="A trace file in any known format.")],
    scale: OwnScaleOption = None,
    controller: Annotated[str, typer.Option(help="Who decides.")] = "learned",
    policy: PolicyOption = None,
    start_s: Annotated[float, typer.Option(min=0.0, help="Begin of the part replayed.")] = 0.0,
    seconds: Annotated[float | None, typer.Option(min=1.0, help="Length (to the end).")] = None,
    method: Annotated[str, typer.Option(help="auto, tc or user-space.")] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Of pictures and simulation.")] = 1,
    as_daemon: Annotated[
        bool, typer.Option("--as-daemon", help="Treat frames and link as the daemon does.")
    ] = False,
    audit: Annotated[
        bool, typer.Option("--audit", help="Hold the simulator against every frame of the run.")
    ] = False,
    audit_picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the audit as a picture (SVG).")
    ] = None,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Replay a trace on a real link between two real processes, beside the prediction."""
    from experiments.replay.session import ReplayArgs, replay_rows, run_replay
