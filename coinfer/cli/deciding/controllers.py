"""`coinfer controllers` and `coinfer tune`: who may decide, and what baselines are tuned to."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coinfer.cli.console import console, emit_json, print_table, progress_bar
from coinfer.cli.options import DeviceSecondOption, JsonOption, MegabyteOption, ScenarioOption
from coinfer.cli.scenario import setting_of

if TYPE_CHECKING:
    from controller.registry import ControllerEntry
    from controller.registry.tuned import Tuned
    from controller.scenarios import Setting


def look_here() -> None:
    """Let modules of the working folder be imported, after everything that is installed."""
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))


def controllers(json: JsonOption = False) -> None:
    """List every controller: coinfer's own, and those of other installed packages.

    A package adds one by an entry point of the group 'coinfer.controllers'. One that cannot be used
    is listed with the reason.
    """
    from artefacts import UsageError
    from controller.registry import SHIPPED, find_controller, installed_controllers

    rows = [_row(entry) for entry in SHIPPED]
    for name, one in installed_controllers().items():
        try:
            if one.fault:
                raise UsageError(f"{one.origin}: {one.fault}")
            rows.append(_row(find_controller(name)))
        except UsageError as error:
            rows.append({"name": name, "package": one.package, "fault": str(error)})
    if json:
        emit_json(rows)
        return
    print_table(
        "controllers",
        ["name", "needs", "runs on a device", "on demand", "package", "what it does"],
        [
            (
                r["name"], ", ".join(r.get("needs", ())), "yes" if r.get("deployable") else "no",
                "yes" if r.get("on_demand") else "no", r["package"],
                r.get("fault") or r["description"],
            )
            for r in rows
        ],
    )  # fmt: skip


def _row(entry: ControllerEntry) -> dict[str, Any]:
    return {
        "name": entry.name, "package": entry.package, "description": entry.description,
        "needs": sorted(entry.needs), "deployable": entry.deployable,
        "on_demand": entry.on_demand, "knows_prices": entry.knows_prices, "colour": entry.colour,
    }  # fmt: skip


def tune(
    scenario: ScenarioOption,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write the values to as well (the cache alone).")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Make values anew that are known already.")
    ] = False,
    device_second: DeviceSecondOption = None,
    megabyte: MegabyteOption = None,
    json: JsonOption = False,
) -> None:
    """Tune the baselines of a scenario on its training traces, and keep the values.

    The plan of 'fixed', that of 'fixed-hedged' and the margin of 'rate-rule' are found by running
    every plan and every margin, which takes minutes. Whatever needs the values finds them from then
    on; what is not tuned yet is tuned when it is first needed.
    """
    from artefacts import ready_folder, write_json
    from controller.registry.tuned import shipped_file
    from experiments.evaluation.tuning import RUNS, Tuning

    setting = setting_of(scenario, device_second, megabyte)
    if out is not None:
        ready_folder(out)
    training = setting.traces("train")
    console.print(f"traces: {training.source}")
    with progress_bar() as bar:
        task = bar.add_task("tune", total=RUNS, note="")
        tuning = Tuning(
            setting, training, again=again,
            progress=lambda what: bar.update(task, advance=1, note=what),
        )  # fmt: skip
        tuning.single_plans()
        found = tuning.margins()
        bar.update(task, completed=RUNS, note="")
    if out is not None:
        write_json(shipped_file(setting, found.key, out), found)
    _report(setting, found, json)


def _report(setting: Setting, found: Tuned, as_json: bool) -> None:
    from controller.planners.fixed import hedging_plans

    plans, hedges = setting.table.plans, hedging_plans(setting)
    fixed = found.fixed_plan(setting)
    rows = [("fixed", str(plans[fixed]), found.single_rewards[fixed])]
    if hedges.any():
        hedged = found.hedged_plan(setting)
        rows.append(("fixed-hedged", str(plans[hedged]), found.single_rewards[hedged]))
    rows.append(("rate-rule", f"margin {found.margin:g}", max(found.margin_rewards)))
    if as_json:
        emit_json(
            {
                "scenario": found.scenario,
                "training": found.training,
                "key": found.key,
                "values": {name: {"value": v, "reward": reward} for name, v, reward in rows},
            }
        )
        return
    print_table(
        f"{found.scenario}: tuned on {found.training}",
        ["controller", "value", "mean reward there"],
        [(name, value, f"{reward:.4f}") for name, value, reward in rows],
    )
