"""`coinfer train`, `train-generalist` and `adapt`."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from coinfer.cli.console import console, progress_bar
from coinfer.cli.learning.from_records import (
    check_alone,
    refuse_beside_records,
    train_on_records,
)
from coinfer.cli.learning.options import (
    MostDeviceOption,
    MostMegabyteOption,
    OutOption,
    ThreadsOption,
)
from coinfer.cli.learning.progress import bars, interruptible, say
from coinfer.cli.options import DeviceSecondOption, JsonOption, MegabyteOption
from coinfer.cli.scenario import prices_of, say_samples, trained_setting, usual_out
from coinfer.cli.trace_files import LeftOut, OwnScaleOption, own_traces

if TYPE_CHECKING:
    from controller.scenarios import Setting
    from experiments.learning.tasks import Data
    from experiments.learning.training_args import TrainArgs

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
    frames: FramesOption = 2_500_000,
    seed: Annotated[int | None, typer.Option(min=0, help="Instead of the scenario's.")] = None,
    threads: ThreadsOption = 1,
    algorithm: Annotated[str, typer.Option(help="ppo or dqn.")] = "ppo",
    device_second: DeviceSecondOption = None,
    megabyte: MegabyteOption = None,
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
    """Plan, then train by PPO or DQN; Ctrl-C keeps the best policy so far, and ends it there.

    A policy serves the prices that it was made for, or all up to the greatest that are named.
    """
    import torch

    from experiments.learning.training_args import TrainArgs

    torch.set_num_threads(threads)
    prices = prices_of(device_second, megabyte)
    if records is not None:
        others = {
            "--traces": traces, "--scale": scale, "--leave-out": leave_out,
            "--generated": generated, "--curriculum": curriculum, "--tensorboard": tensorboard,
            "--most-device-second": most_device_second, "--most-megabyte": most_megabyte,
            "--algorithm dqn": algorithm != "ppo",
        }  # fmt: skip
        refuse_beside_records(others)
        train_on_records(
            records, scenario, policy, out, frames, seed, validation_frames, prices, json
        )
        return
    check_alone(scenario, policy)
    setting = trained_setting(scenario, prices, most_device_second, most_megabyte)
    args = TrainArgs(
        frames=frames, seed=setting.scenario.seeds.train if seed is None else seed,
        algorithm=_algorithm(algorithm), most_device_second=most_device_second,
        most_megabyte=most_megabyte, generated=generated, curriculum=curriculum,
        validation_frames=validation_frames,
    )  # fmt: skip
    _check_tensorboard(tensorboard)
    say_samples(setting.outcomes)
    left_out = LeftOut()
    data = _data(setting, traces, scale, leave_out, left_out)
    out = out or usual_out(scenario, setting)
    say(f"policy of {setting.scenario.name}", _trained(setting, args, data, out, tensorboard), json)
    left_out.end()


def _algorithm(text: str) -> Literal["ppo", "dqn"]:
    from artefacts import UsageError

    if text not in ("ppo", "dqn"):
        raise UsageError(f"--algorithm: found '{text}', expected ppo or dqn")
    return "dqn" if text == "dqn" else "ppo"


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
        shown = bars(bar, f"train {setting.scenario.name}", args.frames)
        policy = train_policy(
            setting, args, shown.report, stopped, shown.planning, data, tensorboard,
            judging=shown.judging,
        )  # fmt: skip
        interrupted = stopped()
    # no map of an older policy beside a new one
    (out / "map.json").unlink(missing_ok=True)
    save_policy(out, policy)
    console.print(f"kept in {out}; its configuration map is made and judged")
    record = policy.card.training
    # at several prices it was judged by more than what the map is judged by
    one_price = not (args.most_device_second or args.most_megabyte)
    with progress_bar() as bar:
        task = bar.add_task("configuration map", total=100, note="")
        made, loss = distil(
            setting, policy, data, args.validation_frames,
            lambda share: bar.update(task, completed=round(100 * share)),
            record["validation_reward"] if one_price else None,
        )  # fmt: skip
    write_map(out / "map.json", made)
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
