"""`coinfer replay`: a trace on a real link between two real processes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coinfer.cli.console import console, emit_json, print_table, progress_bar
from coinfer.cli.options import JsonOption, PolicyOption, ScenarioOption
from coinfer.cli.scenario import setting_of
from coinfer.cli.trace_files import one_trace


def replay(
    scenario: ScenarioOption,
    trace: Annotated[Path, typer.Option(help="A trace file in any known format.")],
    controller: Annotated[str, typer.Option(help="Who decides.")] = "learned",
    policy: PolicyOption = None,
    start_s: Annotated[float, typer.Option(min=0.0, help="Begin of the part replayed.")] = 0.0,
    seconds: Annotated[float | None, typer.Option(min=1.0, help="Length (to the end).")] = None,
    method: Annotated[str, typer.Option(help="auto, tc or user-space.")] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Of pictures and simulation.")] = 1,
    as_daemon: Annotated[
        bool, typer.Option("--as-daemon", help="Treat frames and link as the daemon does.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Replay a trace on a real link between two real processes, beside the prediction."""
    from controller.scenarios import scale_trace
    from experiments.replay.session import ReplayArgs, replay_rows
    from experiments.replay.session import replay as run_replay

    setting = setting_of(scenario)
    whole = scale_trace(one_trace(trace), setting.scenario.traces.scale)
    end = whole.duration_s if seconds is None else min(start_s + seconds, whole.duration_s)
    part = whole.slice(start_s, end)
    with progress_bar() as bar:
        task = bar.add_task(f"replay {part.name}", total=round(part.duration_s), note=controller)
        result = run_replay(
            setting,
            part,
            ReplayArgs(scenario, controller, policy, method, seed, as_daemon),
            console.print,
            lambda share: bar.update(task, completed=round(share * part.duration_s)),
        )
    if json:
        emit_json(result)
        return
    print_table(
        f"{controller} on {scenario}, {part.duration_s:.0f} s of {part.name}, link by "
        f"{result.link.method}; {result.pictures}",
        ["figure", "measured", "predicted"],
        replay_rows(result),
    )
    console.print(
        "measured are single answers to the pictures above; predicted rewards take every answer's "
        "accuracy in their place, and predicted goodput accuracy other draws of pictures"
    )
