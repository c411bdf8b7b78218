"""`coinfer init`: from a torch module to a folder in which everything else starts."""

from __future__ import annotations

import contextlib
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from artefacts import CoinferError
from coinfer.cli.console import emit_json
from coinfer.cli.learning import begun as keeping
from coinfer.cli.learning import profile_options as options
from coinfer.cli.learning.init_questions import Questions, answered, seconds
from coinfer.cli.learning.init_sample import FRAME, sample_name
from coinfer.cli.learning.init_steps import profile_network, write_files, write_profiles
from coinfer.cli.learning.picture_options import CHANNELS_HELP, FIT_HELP
from coinfer.cli.options import JsonOption

if TYPE_CHECKING:
    from coinfer.cli.learning.begun import Begun, Kept
    from models.facts.cards import Model
    from models.facts.profiles import Profile

HELP = "(asked for where none is given and somebody is there to answer)"
NamedModule = Annotated[str, typer.Argument(metavar="MODULE:FACTORY", help="Of a torch model.")]
OutOption = Annotated[
    Path | None, typer.Option(help="Folder for everything (the module's own name).")
]
DataOption = Annotated[str | None, typer.Option(help=options.DATA_HELP)]
AnswersOption = Annotated[str | None, typer.Option(help=options.ANSWERS_HELP)]
JudgeOption = Annotated[str | None, typer.Option(help=options.JUDGE_HELP)]
ConfidenceOption = Annotated[str | None, typer.Option(help=options.CONFIDENCE_HELP)]
HeadKindOption = Annotated[str | None, typer.Option(help=options.HEAD_KIND_HELP)]
TrainDataOption = Annotated[str | None, typer.Option(help=options.TRAIN_DATA_HELP)]
SideOption = Annotated[
    str | None,
    typer.Option(
        "--input", help="Of pictures, HEIGHTxWIDTH; else as of 'coinfer profile --input'."
    ),
]
ClassesOption = Annotated[Path | None, typer.Option(help=options.CLASSES_HELP)]
ExitsOption = Annotated[int | None, typer.Option(min=0, max=16, help="To put into it (5).")]
EpochsOption = Annotated[int | None, typer.Option(min=1, help=f"{options.EPOCHS_HELP} (15)")]
MeanOption = Annotated[str | None, typer.Option(help=options.MEAN_HELP)]
StdOption = Annotated[str | None, typer.Option(help=options.STD_HELP)]
ChannelsOption = Annotated[str | None, typer.Option(help=CHANNELS_HELP)]
FitOption = Annotated[str | None, typer.Option(help=FIT_HELP)]
SeedOption = Annotated[int | None, typer.Option(min=0, help="Of pictures and heads (0).")]
DeviceOption = Annotated[
    str | None, typer.Option(help=f"A name of 'coinfer machines', or this {HELP}.")
]
LinkOption = Annotated[str | None, typer.Option(help=f"3g, lte, wifi or a trace's file {HELP}.")]
FpsOption = Annotated[
    float | None, typer.Option(min=0.01, max=1000.0, help=f"Frames a second {HELP}.")
]
DeadlineOption = Annotated[
    str | None, typer.Option(help=f"How late is too late, as 200ms or 0.2s {HELP}.")
]


def init(
    model: NamedModule,
    out: OutOption = None,
    data: DataOption = None,
    side: SideOption = None,
    classes: ClassesOption = None,
    exits: ExitsOption = None,
    epochs: EpochsOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    channels: ChannelsOption = None,
    fit: FitOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    link: LinkOption = None,
    fps: FpsOption = None,
    deadline: DeadlineOption = None,
    answers: AnswersOption = None,
    judge: JudgeOption = None,
    confidence: ConfidenceOption = None,
    head_kind: HeadKindOption = None,
    train_data: TrainDataOption = None,
    repeats: options.Repeats = 100,
    json: JsonOption = False,
) -> None:
    """Begin with a torch model of your own: exits, profiles, a scenario, two daemons' files.

    It may take pictures, texts, sound or tensors, and answer anything that --answers names. The
    folder then holds everything, and the next three commands are printed. An interrupted
    command goes on where it was when it is given again; other answers about device, link, frames
    and deadline write the scenario anew.
    """
    folder = out or Path(model.partition(":")[0].rpartition(".")[2])
    of_model = {
        "data": data, "input": side, "classes": None if classes is None else str(classes),
        "exits": exits, "epochs": epochs, "mean": mean, "std": std, "seed": seed,
        "channels": channels, "fit": fit, "answers": answers, "judge": judge,
        "confidence": confidence, "head_kind": head_kind, "train_data": train_data,
    }  # fmt: skip
    of_world = {
        "device": device, "link": link, "rate_fps": fps,
        "deadline_s": seconds("--deadline", deadline) if deadline is not None else None,
    }  # fmt: skip
    ask = Questions(sys.stdin.isatty())

    def make(found: Begun | None) -> Begun:
        return answered(model, _given(of_model), _given(of_world), found, ask)

    new = not folder.exists()
    begun = keeping.opened(folder, make)
    kept = keeping.Kept(folder, begun)
    # figures alone stand on standard output
    with contextlib.redirect_stdout(sys.stderr):
        _profile_or_forget(kept, repeats, new=new)
        loaded, profile = write_profiles(kept)
        write_files(kept, loaded, profile)
    _say(kept, loaded, profile, json=json)


def _profile_or_forget(kept: Kept, repeats: int, *, new: bool) -> None:
    """Profile the network; a `new` folder goes where the answers could not be meant."""
    try:
        profile_network(kept, repeats)
    except CoinferError:
        if new:
            kept.forget_nothing_made()
        raise


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def commands(kept: Kept) -> tuple[str, ...]:
    """The next three commands, as a shell takes them."""
    from coinfer.cli.learning.scenario_file import LINKS

    out, link = kept.out, kept.begun.world.link
    compare = [
        "coinfer", "compare", "--scenario", str(out / "scenario.toml"), "--frames", "200",
        "--controllers", "device-only,edge-only,robust",
    ]  # fmt: skip
    if link not in LINKS:
        compare += ["--traces", link]
    return tuple(
        shlex.join(command)
        for command in (
            compare,
            ["coinfer", "edge", "--config", str(out / "edge.toml")],
            ["coinfer", "device", "--config", str(out / "device.toml")],
        )
    )


def _times(named: str, device: Profile) -> list[str]:
    """What exits take on a device that is not this machine: the table above has this one's."""
    if device.transcribed is None:
        return []
    every = (device.interval_s(i, 0, len(b)) for i, b in enumerate(device.branches))
    took_ms = ", ".join(f"{1e3 * seconds:.1f}" for seconds in every)
    return [f"On {named} the exits take {took_ms} ms, by a published factor."]


def _asking(out: Path, model: Model) -> str:
    """The command that asks the daemon with the folder's own sample."""
    name = sample_name(model)
    if name != FRAME:
        return shlex.join(["coinfer", "ask", str(out / name), "--deadline-ms", "1000"])
    frame = shlex.quote(f"@{out / FRAME}")
    return (
        f"curl -H 'Content-Type: image/jpeg' --data-binary {frame} "
        "'localhost:8700/infer?deadline_ms=1000'"
    )


def _say(kept: Kept, model: Model, device: Profile, *, json: bool) -> None:
    from coinfer.cli.learning.first_scenario import frames_of
    from models.facts.outcomes import read_outcomes

    outcomes = read_outcomes(kept.out / "outcomes.npz")
    asking = _asking(kept.out, model)
    if json:
        emit_json({
            "folder": str(kept.out), "scenario": str(kept.out / "scenario.toml"),
            "accuracies": [outcomes.accuracy(i) for i in range(outcomes.exits)],
            "device_s": [device.interval_s(i, 0, len(b)) for i, b in enumerate(device.branches)],
            "device": device.transcribed or "measured", "classes": list(model.card.classes),
            "commands": list(commands(kept)), "ask": asking,
        })  # fmt: skip
        return
    rate, deadline_s = frames_of(kept.begun.world, device)
    lines = [
        *_times(kept.begun.world.device, device),
        f"{kept.out}: {rate:g} frames/s, each to be answered within {1e3 * deadline_s:g} ms. The "
        "folder has the network, its exits' accuracies, profiles, scenario.toml, edge.toml and "
        "device.toml.",
        "Next:",
        *(f"  {command}" for command in commands(kept)),
        "While the last two run, each in a terminal of its own, a frame is answered:",
        f"  {asking}",
    ]
    for line in lines:
        print(line)
