"""`coinfer train-generalist` and `coinfer adapt`: one policy over many scenarios, and one of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from coinfer.cli.console import console, progress_bar
from coinfer.cli.learning.options import (
    MostDeviceOption,
    MostMegabyteOption,
    OutOption,
    ThreadsOption,
)
from coinfer.cli.learning.progress import bars, interruptible, say
from coinfer.cli.options import (
    DeviceSecondOption,
    JsonOption,
    MegabyteOption,
    ScenarioOption,
)
from coinfer.cli.scenario import prices_of, trained_setting, usual_out


def train_generalist(
    out: Annotated[Path, typer.Option(help="Its folder.")] = Path("runs/generalist"),
    frames: Annotated[int, typer.Option(min=0, help="Frames of experience.")] = 1_500_000,
    settings: Annotated[int, typer.Option(min=1, help="Random scenarios to train over.")] = 32,
    seed: Annotated[int, typer.Option(min=0, help="Of the scenarios and the training.")] = 0,
    threads: ThreadsOption = 1,
    json: JsonOption = False,
) -> None:
    """Train one policy over random devices, links, deadlines, frame rates and prices."""
    import torch

    from artefacts import ready_folder
    from controller.policies.generalist import save_generalist
    from experiments.learning.randomised import GENERALIST, train_generalist

    out = ready_folder(out)
    torch.set_num_threads(threads)
    args = replace(GENERALIST, frames=frames, seed=seed)
    with interruptible() as stopped, progress_bar() as bar:
        shown = bars(bar, f"train over {settings} scenarios", frames)
        made = train_generalist(
            args, settings, shown.report, stopped, shown.planning, shown.judging
        )  # fmt: skip
        interrupted = stopped()
    save_generalist(out, made)
    record = made.card.training
    figures = {
        "generalist": str(out),
        "interrupted": interrupted,
        "validation_reward": record["validation_reward"],
        "validation_reward_of_planning": record["validation_reward_of_planning"],
    }
    say("generalist", figures, json)


def adapt(
    scenario: ScenarioOption,
    out: OutOption = None,
    generalist: Annotated[Path | None, typer.Option(help="Its folder (the shipped one).")] = None,
    device_second: DeviceSecondOption = None,
    megabyte: MegabyteOption = None,
    most_device_second: MostDeviceOption = 0.0,
    most_megabyte: MostMegabyteOption = 0.0,
    json: JsonOption = False,
) -> None:
    """Make a policy for a scenario of the generalist by planning: no training, no traces."""
    from artefacts import ready_folder
    from controller.policies import SHIPPED_GENERALIST
    from controller.policies.generalist import load_generalist
    from controller.policies.network import save_policy
    from experiments.learning.tasks import price_grids

    made = load_generalist(generalist or SHIPPED_GENERALIST)
    prices = prices_of(device_second, megabyte)
    setting = trained_setting(scenario, prices, most_device_second, most_megabyte)
    grids = price_grids(setting, most_device_second, most_megabyte)
    out = ready_folder(out or usual_out(scenario, setting))
    with progress_bar() as bar:
        task = bar.add_task(f"planning for {setting.scenario.name}", total=100, note="")
        policy = made.adapted(
            setting, *grids, progress=lambda share: bar.update(task, completed=round(100 * share))
        )
    save_policy(out, policy)
    outside, beyond = made.outside(policy, setting), made.beyond(setting)
    for line in beyond:
        console.print(f"unlike what the generalist was trained for: {line}")
    for line in outside:
        console.print(f"beyond the generalist's training, the robust planner will decide: {line}")
    figures = {
        "policy": str(out), "plans": len(policy.card.plans), "beyond": list(beyond),
        "outside": list(outside),
    }  # fmt: skip
    say(f"policy of {setting.scenario.name}", figures, json)
