"""`coinfer map`: the configuration map (Algorithm 2), written to a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coinfer.cli.console import emit_json, print_table
from coinfer.cli.options import DeviceSecondOption, JsonOption, MegabyteOption, ScenarioOption
from coinfer.cli.scenario import say_source, setting_of


def make_map(
    scenario: ScenarioOption,
    out: Annotated[Path, typer.Option(help="JSON file to write.")],
    states: Annotated[Path | None, typer.Option(help="States file (Oboe's or learnt).")] = None,
    device_second: DeviceSecondOption = None,
    megabyte: MegabyteOption = None,
    json: JsonOption = False,
) -> None:
    """Build the configuration map (Algorithm 2) and write it."""
    from artefacts import ready_file
    from controller.planners.configuration_map import build_map, write_map
    from experiments.evaluation.maps import map_states
    from traces.states import read_states

    setting = setting_of(scenario, device_second, megabyte)
    ready_file(out)
    if states is None:
        train = setting.traces("train")
        say_source(train)
        known, source = map_states(setting, train.traces)
    else:
        known, source = read_states(states), str(states)
    made = build_map(setting, known, source)
    write_map(out, made)
    counts: dict[str, int] = {}
    for entry in made.entries:
        counts[str(entry.plan)] = counts.get(str(entry.plan), 0) + 1
    if json:
        emit_json({"map": str(out), "states": len(made.entries), "source": source, "plans": counts})
        return
    print_table(
        f"configuration map of {len(made.entries)} states ({source})",
        ["plan", "states"],
        [(name, str(n)) for name, n in sorted(counts.items(), key=lambda kv: -kv[1])],
    )
