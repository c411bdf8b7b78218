"""`coinfer train`, `train-generalist` and `adapt`."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coinfer.cli.console import console, progress_bar
from coinfer.cli.learning.from_records import (
    check_alone,
    refuse_beside_records,
    train_on_records,
)
from coinfer.cli.learning.progress import bars, interruptible, say
from coinfer.cli.options import JsonOption, ScenarioOption
from coinfer.cli.scenario import say_samples
from coinfer.cli.trace_files import LeftOut, OwnScaleOption, own_traces

if TYPE_CHECKING:
    from controller.scenarios import Setting
    from experiments.learning.tasks import Data
    from experiments.learning.training import TrainArgs

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
TracesOption = Annotated[
    list[Path] | None,
    typer.Option(help="Files or folders to train on, every fifth for choices (the split's)."),
]
FramesOption = Annotated[
    int, typer.Option(min=0, help="Frames of experience, in whole rollouts; 0: planning alone.")
]
ValidationFramesOption = Annotated[
    int, typer.Option(min=1, help="Of every validation log, each time it is judged.")
]
LeaveOutOption = Annotated[
    str, typer.Option(help="A test log: train on the training logs and all other test logs.")
]
GeneratedOption = Annotated[
    int, typer.Option(min=0, help="Generated traces of the family beside the real ones.")
]
CurriculumOption = Annotated[
    float,
    typer.Option(min=0.0, help="Draw traces more often where rules are ahead by this much."),
]
TensorBoardOption = Annotated[
    Path | None, typer.Option(help="Folder of TensorBoard's files (none are written).")
]
TrainedScenarioOption = Annotated[
    str,
    typer.Option("--scenario", help="A shipped name or a .toml file (with --from: the records')."),
]
FromOption = Annotated[
    Path | None,
    typer.Option(
        "--from", help="Records that a device has kept: go on from its policy, and judge both."
    ),
]
StartOption = Annotated[
    Path | None, typer.Option(help="With --from: the policy to go on from (the shipped one).")
]


def train(
    scenario: TrainedScenarioOption = "",
    out: OutOption = None,
    frames: FramesOption = 400_000,
    seed: Annotated[int | None, typer.Option(min=0, help="Instead of the scenario's.")] = None,
    threads: ThreadsOption = 1,
    algorithm: Annotated[str, typer.Option(help="ppo or dqn.")] = "ppo",
    most_device_second: MostDeviceOption = 0.0,
    most_megabyte: MostMegabyteOption = 0.0,
    validation_frames: ValidationFramesOption = 4000,
    traces: TracesOption = None,
    scale: OwnScaleOption = None,
    leave_out: LeaveOutOption = "",
    generated: GeneratedOption = 0,
    curriculum: CurriculumOption = 0.0,
    tensorboard: TensorBoardOption = None,
    records: FromOption = None,
    policy: StartOption = None,
    json: JsonOption = False,
) -> None:
    """Plan, then train by PPO or DQN; Ctrl-C keeps the best policy so far, and ends it there."""
    import torch

    from artefacts import UsageError
    from controller.scenarios import load_setting, read_scenario
    from experiments.learning.tasks import price_grids
    from experiments.learning.training import TrainArgs

    if algorithm not in ("ppo", "dqn"):
        raise UsageError(f"--algorithm: found '{algorithm}', expected ppo or dqn")
    torch.set_num_threads(threads)
    if records is not None:
        others = {
            "--traces": traces, "--scale": scale, "--leave-out": leave_out,
            "--generated": generated, "--curriculum": curriculum, "--tensorboard": tensorboard,
            "--most-device-second": most_device_second, "--most-megabyte": most_megabyte,
            "--algorithm dqn": algorithm != "ppo",
        }  # fmt: skip
        refuse_beside_records(others)
        train_on_records(records, scenario, policy, out, frames, seed, validation_frames, json)
        return
    check_alone(scenario, policy)
    setting = load_setting(read_scenario(scenario))
    args = TrainArgs(
        frames=frames, seed=setting.scenario.seeds.train if seed is None else seed,
        algorithm="dqn" if algorithm == "dqn" else "ppo", most_device_second=most_device_second,
        most_megabyte=most_megabyte, generated=generated, curriculum=curriculum,
        validation_frames=validation_frames,
    )  # fmt: skip
    # refused before there is a folder
    price_grids(setting, most_device_second, most_megabyte)
    _check_tensorboard(tensorboard)
    say_samples(setting.outcomes)
    left_out = LeftOut()
    data = _data(setting, traces, scale, leave_out, left_out)
<<<<<<< HEAD
    out = out or Path("runs") / "policies" / setting.scenario.name
    say(f"policy of {setting.scenario.name}", _trained(setting, args, data, out, tensorboard), json)
=======
    out = out or _usual_out(scenario, setting.scenario.name)
    _say(
        f"policy of {setting.scenario.name}", _trained(setting, args, data, out, tensorboard), json
    )
>>>>>>> 583ee47b4bcf1ff1cd6ba7ad863d8afa6e823da0
    left_out.end()


def _usual_out(scenario: str, name: str) -> Path:
    """Where the scenario's policy is looked for, or a place among others of that kind."""
    from artefacts import UsageError
    from controller.policies import beside_scenario
    from controller.policies.network import has_policy, read_card

    beside = beside_scenario(scenario)
    if beside is None:
        return Path("runs") / "policies" / name
    if has_policy(beside) and (other := read_card(beside).scenario) != name:
        raise UsageError(
            f"--out: found the policy of scenario '{other}' in '{beside}', expected a folder for "
            f"that of '{name}'"
        )
    return beside


def _check_tensorboard(folder: Path | None) -> None:
    """A folder for TensorBoard's files needs the package that writes them."""
    from artefacts import ready_folder, without_package

    if folder is None:
        return
    if importlib.util.find_spec("tensorboard") is None:
        raise without_package("--tensorboard", "tensorboard", "train")
    ready_folder(folder)


def _trained(
    setting: Setting, args: TrainArgs, data: Data, out: Path, tensorboard: Path | None
) -> dict[str, Any]:
    """Train, write the policy and the map distilled from it; the figures that are printed."""
    from artefacts import ready_folder
    from controller.planners.configuration_map import write_map
    from controller.policies.network import save_policy
    from experiments.learning.distillation import distil
    from experiments.learning.training import train_policy

    out = ready_folder(out)
    console.print(f"traces: {data.train.source}")
    with interruptible() as stopped, progress_bar() as bar:
        report, planning = bars(bar, f"train {setting.scenario.name}", args.frames)
        policy = train_policy(setting, args, report, stopped, planning, data, tensorboard)
        interrupted = stopped()
    # no map of an older policy beside a new one
    (out / "map.json").unlink(missing_ok=True)
    save_policy(out, policy)
    console.print(f"kept in {out}; its configuration map is made and judged")
    made, loss = distil(setting, policy, data, args.validation_frames)
    write_map(out / "map.json", made)
    record = policy.card.training
    seen = record["frames_seen"]
    return {
        "policy": str(out),
        "interrupted": interrupted,
        "kept": f"what was learnt after {seen} frames"
        if seen
        else "planning alone: nothing learnt was ahead of it on the validation traces",
        "validation_reward": record["validation_reward"],
        "validation_reward_of_planning": record["validation_reward_of_planning"],
        "distilled_map_validation_reward": loss.map_reward,
        "distilled_map_loss": loss.policy_reward - loss.map_reward,
    }


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
        report, planning = bars(bar, f"train over {settings} scenarios", frames)
        made = train_generalist(args, settings, report, stopped, planning)
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
    most_device_second: MostDeviceOption = 0.0,
    most_megabyte: MostMegabyteOption = 0.0,
    json: JsonOption = False,
) -> None:
    """Make a policy for a scenario of the generalist by planning: no training, no traces."""
    from artefacts import ready_folder
    from controller.policies import SHIPPED_GENERALIST
    from controller.policies.generalist import load_generalist
    from controller.policies.network import save_policy
    from controller.scenarios import load_setting, read_scenario
    from experiments.learning.tasks import price_grids

    made = load_generalist(generalist or SHIPPED_GENERALIST)
    setting = load_setting(read_scenario(scenario))
    grids = price_grids(setting, most_device_second, most_megabyte)
    out = ready_folder(out or _usual_out(scenario, setting.scenario.name))
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


def _data(
    setting: Setting,
    paths: list[Path] | None,
    scale: float | None,
    leave_out: str,
    left_out: LeftOut,
) -> Data:
    from artefacts import UsageError
    from experiments.learning.tasks import Data

    if paths and leave_out:
        raise UsageError("--leave-out: found it beside --traces, expected one of them")
    if scale is not None and not paths:
        raise UsageError("--scale: found it alone, expected --traces with it")
    if leave_out:
        return Data.leaving_out(setting, leave_out)
    if not paths:
        return Data.of(setting)
    return Data.held_out(own_traces(setting, paths, scale, left_out))
