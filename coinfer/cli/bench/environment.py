"""`coinfer bench environment`: frames a second of the batched environment, on one core."""

from __future__ import annotations

from typing import Annotated

import typer

from coinfer.cli.console import console, emit_json, print_table
from coinfer.cli.options import JsonOption, ScenarioOption


def environment(
    scenario: ScenarioOption = "lte-mobilenet",
    lanes: Annotated[int, typer.Option(min=1, help="Stepped together.")] = 1024,
    frames: Annotated[
        int, typer.Option(min=1, help="Of every path and repeat, at least one a lane.")
    ] = 200_000,
    seed: Annotated[int, typer.Option(min=0, help="Of plans, places and samples.")] = 0,
    json: JsonOption = False,
) -> None:
    """Frames a second of the batched environment, against drawing their random numbers alone.

    Plans are drawn at random; the time is the process's own, of one thread.
    """
    from controller.scenarios import load_setting, read_scenario
    from experiments.benches.environment import environment_rows

    setting = load_setting(read_scenario(scenario))
    rows = environment_rows(setting, lanes, frames, seed, note=console.print)
    if json:
        emit_json({"scenario": scenario, "plans": len(setting.table), "rows": rows})
        return
    print_table(
        f"{scenario}: {len(setting.table)} plans, {lanes:,} lanes, {rows[0].frames:,} frames, "
        f"medians of {rows[0].repeats}",
        ["path", "million frames/s", "of the draws alone"],
        [(r.path, f"{r.million_per_s:.3f}", f"{r.ratio:.4f}") for r in rows],
    )
