"""`coinfer train-model` and `coinfer profile`, of our networks and of models that are brought."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coinfer.cli.console import console, emit_json, print_table, progress_bar, say_interrupted
from coinfer.cli.learning import profile_options as options
from coinfer.cli.learning.picture_options import (
    RGB,
    SQUASH,
    ChannelsOption,
    FitOption,
    PictureOptions,
)
from coinfer.cli.learning.profile_heads import DISTILLATION, HeadOptions
from coinfer.cli.learning.profile_ours import OursTiming, profile_ours
from coinfer.cli.options import JsonOption, TorchThreadsOption

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from models.networks.recipes import Listener


def train_model(
    out: Annotated[Path, typer.Option(help="Folder for checkpoint, weights, card, outcomes.")],
    network: Annotated[str, typer.Option(help="alexnet or mobilenetv2.")] = "alexnet",
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the training pictures (the recipe's).")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of initialisation, order, augmentation.")] = 0,
    threads: TorchThreadsOption = 2,
    json: JsonOption = False,
) -> None:
    """Train a branchy network jointly; continues from OUT/checkpoint.pt.

    alexnet is trained on CIFAR-10, mobilenetv2 on Imagenette. At the end the test pictures are run
    once, and weights, card and outcomes are written to OUT.
    """
    import torch

    from artefacts import ready_folder
    from models.networks.recipes import recipe

    make = recipe(network)
    ready_folder(out, make=False)
    torch.set_num_threads(threads)
    with progress_bar() as bar:
        task = bar.add_task("pictures", total=None, note="")
        try:
            outcomes = make(out, epochs, seed, _listener(bar, task))
        except KeyboardInterrupt:
            say_interrupted(out / "checkpoint.pt")
            raise typer.Exit(130) from None
    accuracies = [outcomes.accuracy(i) for i in range(outcomes.exits)]
    if json:
        emit_json({"test_accuracies": accuracies, "samples": outcomes.samples, "folder": str(out)})
        return
    print_table(
        f"{network}: accuracy on the {outcomes.samples:,} test pictures",
        ["exit", "accuracy"],
        [(f"exit {i + 1}", f"{100 * a:.2f} %") for i, a in enumerate(accuracies)],
    )


def _listener(bar: Progress, task: TaskID) -> Listener:
    """Shows on a bar how far training is, and every epoch on a line."""
    from models.networks.recipes import Listener
    from models.networks.training import EpochReport

    def step(done: int, total: int) -> None:
        bar.update(task, completed=done, total=total)

    def report(epoch: EpochReport) -> None:
        shares = " ".join(f"{100 * a:.1f}" for a in epoch.accuracies)
        bar.update(task, note=f"epoch {epoch.epoch}/{epoch.epochs} done")
        console.print(
            f"epoch {epoch.epoch}/{epoch.epochs}: loss {epoch.loss:.3f}, "
            f"held-back accuracy by exit {shares} %"
        )

    def squeezed(epoch: int, loss: float, accuracies: tuple[float, ...]) -> None:
        shares = " ".join(f"{100 * a:.1f}" for a in accuracies)
        console.print(
            f"bottleneck, epoch {epoch}: loss {loss:.3f}, held-back accuracy of the exits "
            f"behind it {shares} %"
        )

    def stage(name: str) -> None:
        bar.update(task, description=name, note="")

    return Listener(report, step, stage, squeezed)


def profile(
    out: options.Out,
    model: options.Model = "alexnet",
    reference: options.Reference = None,
    reading: options.Reading = "maps",
    executor: options.Executor = "",
    threads: options.Threads = 1,
    repeats: options.Repeats = 100,
    slowdown: options.Slowdown = 1.0,
    grid: options.Grid = None,
    seed: options.Seed = 0,
    codecs: options.Codecs = "",
    codec_slowdown: options.CodecSlowdown = None,
    data: options.Data = None,
    side: options.Side = "",
    classes: options.Classes = None,
    exits: options.Exits = None,
    exit_after: options.ExitAfter = None,
    exit_accuracy: options.ExitAccuracy = "",
    placement: options.Placement = "linear",
    heads: options.Heads = "",
    epochs: options.Epochs = 15,
    joint_epochs: options.JointEpochs = 0,
    mean: options.Mean = "0,0,0",
    std: options.Std = "1,1,1",
    on_device: options.OnDevice = False,
    head_kind: options.HeadKind = "auto",
    distillation: options.Distillation = DISTILLATION,
    own_blocks: options.OwnBlocks = 0,
    max_latency: options.MaxLatency = "",
    max_device_memory: options.MaxDeviceMemory = "",
    train_data: options.TrainData = None,
    answers: options.Answers = "",
    judge: options.Judge = "",
    confidence: options.Confidence = "",
    channels: ChannelsOption = RGB,
    fit: FitOption = SQUASH,
    json: options.Json = False,
) -> None:
    """Profile a model layer by layer on this machine, and fit Edgent's regression predictors.

    A torch model that is not ours (MODULE:FACTORY) is captured first, given exits if asked, judged
    on its pictures, and profiled; OUT then holds the model, its profiles and a scenario to go on.
    """
    given = Namespace(**locals())  # every option by its name: they are many
    codecs_named = _codecs(codecs)
    if on_device:
        from coinfer.cli.learning.on_device import profile_here

        profile_here(model, out, threads, repeats, codecs_named, json=json)
    elif ":" in model:
        _bring(given, codecs_named)
    else:
        _profile_ours(given, codecs_named)


def _codecs(text: str) -> tuple[str, ...]:
    from models.codecs import codec_named

    return tuple(codec_named(c.strip()).name for c in text.split(",") if c.strip())


def _heads(given: Namespace) -> HeadOptions:
    return HeadOptions(
        given.head_kind, given.distillation, given.own_blocks, given.max_latency,
        given.max_device_memory, given.train_data,
    )  # fmt: skip


def _pictures(given: Namespace) -> PictureOptions:
    return PictureOptions(given.mean, given.std, given.channels, given.fit)


def _bring(given: Namespace, codecs: tuple[str, ...]) -> None:
    """Take in a model that is brought."""
    from coinfer.cli.learning.profile_module import ModuleOptions, TimingOptions, bring
    from coinfer.cli.learning.signature import SignatureOptions
    from models.codecs import codec_named

    _refuse_of_brought({
        "--executor": given.executor not in ("", "onnxruntime"), "--grid": bool(given.grid),
        "--reference": given.reference is not None,
    } | {f"--codecs {c}": True for c in codecs if codec_named(c).carries == "latent"})  # fmt: skip
    module = ModuleOptions(
        given.model, given.out, given.data, given.side, given.classes, given.exits,
        tuple(given.exit_after or ()), given.exit_accuracy, given.placement, given.heads,
        given.epochs, given.joint_epochs, given.seed, _heads(given),
        SignatureOptions(
            given.side, given.answers, given.judge, given.confidence, _pictures(given)
        ),
    )  # fmt: skip
    brought = bring(
        module,
        TimingOptions(given.threads, given.repeats, given.slowdown, given.codec_slowdown, codecs),
    )
    if given.json:
        emit_json(brought)


def _profile_ours(given: Namespace, codecs: tuple[str, ...]) -> None:
    """Time a network of ours; refuse what only a model that is brought has."""
    from artefacts import UsageError
    from models.facts.cards import model_folder

    try:
        model_folder(given.model)
    except UsageError as error:
        raise UsageError(f"{error}, or MODULE:FUNCTION of a model of your own") from None
    _refuse("a network of ours", "only a model that is brought is changed and judged", {
        "--data": given.data is not None, "--input": bool(given.side),
        "--exits": bool(given.exits), "--heads": bool(given.heads),
        "--joint-epochs": given.joint_epochs > 0, "--classes": given.classes is not None,
        "--exit-after": bool(given.exit_after), "--exit-accuracy": bool(given.exit_accuracy),
        "--answers": bool(given.answers), "--judge": bool(given.judge),
        "--confidence": bool(given.confidence),
    } | _heads(given).given | _pictures(given).given)  # fmt: skip
    timing = OursTiming(
        given.executor, given.threads, given.repeats, given.slowdown, given.grid, given.seed,
        codecs, given.codec_slowdown,
    )  # fmt: skip
    profile_ours(given.model, given.out, given.reference, given.reading, timing, json=given.json)


def _refuse(what: str, why: str, given: Mapping[str, bool]) -> None:
    from artefacts import UsageError

    for option, found in given.items():
        if found:
            raise UsageError(f"{option}: found it given for {what}, expected none ({why})")


OF_OURS_ALONE = {
    "--executor": "it is run on ONNX Runtime",
    "--grid": "its layers are of no kind that a regression knows",
    "--reference": "a reference is of the paper's network",
    "--input": "an npz's pictures have their size; those of other forms are made to fit --input",
    "--codecs": "its latent is trained with a network of ours",
}
"""Why an option is refused beside a model that is brought."""


def _refuse_of_brought(given: Mapping[str, bool]) -> None:
    for option, found in given.items():
        _refuse("a model that is brought", OF_OURS_ALONE[option.split()[0]], {option: found})
