"""`coinfer train-model` and `coinfer profile`, of our networks and of models that are brought."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from coinfer.cli.console import console, emit_json, print_table, progress_bar, say_interrupted
from coinfer.cli.learning import profile_options as options
from coinfer.cli.learning.profile_heads import DISTILLATION, HeadOptions
from coinfer.cli.learning.profile_module import ModuleOptions, TimingOptions, bring
from coinfer.cli.options import JsonOption, TorchThreadsOption

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from models.codecs import Codec
    from models.facts.branchy import BranchySpec
    from models.facts.cards import Model
    from models.facts.profiles import LayerProfile, Profile
    from models.networks.measuring.timing import Executor, ProfilingArgs
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
    head_kind: options.HeadKind = "auto",
    distillation: options.Distillation = DISTILLATION,
    own_blocks: options.OwnBlocks = 0,
    max_latency: options.MaxLatency = "",
    max_device_memory: options.MaxDeviceMemory = "",
    train_data: options.TrainData = None,
    json: options.Json = False,
) -> None:
    """Profile a model layer by layer on this machine, and fit Edgent's regression predictors.

    A torch model that is not ours (MODULE:FACTORY) is captured first, given exits if asked, judged
    on its pictures, and profiled; OUT then holds the model, its profiles and a scenario to go on.
    """
    found = _codecs(codecs)
    named = tuple(c.name for c in found)
    more = HeadOptions(
        head_kind, distillation, own_blocks, max_latency, max_device_memory, train_data
    )
    if ":" in model:
        sized = bool(side) and data is not None and not data.is_dir()
        _refuse_of_brought(executor, bool(grid), reference is not None, sized, found)
        given = ModuleOptions(
            model, out, data, side, classes, exits, tuple(exit_after or ()), exit_accuracy,
            placement, heads, epochs, joint_epochs, mean, std, seed, more,
        )  # fmt: skip
        _brought(given, TimingOptions(threads, repeats, slowdown, codec_slowdown, named), json)
        return
    _refuse("a network of ours", "only a model that is brought is changed and judged", {
        "--data": data is not None, "--input": bool(side), "--exits": bool(exits),
        "--heads": bool(heads), "--joint-epochs": joint_epochs > 0,
        "--classes": classes is not None, "--exit-after": bool(exit_after),
        "--exit-accuracy": bool(exit_accuracy),
    } | more.given)  # fmt: skip
    timing = _Timing(executor, threads, repeats, slowdown, grid, seed, named, codec_slowdown)
    _profile_ours(model, out, reference, reading, timing, json=json)


def _codecs(text: str) -> list[Codec]:
    """Codecs by their names, which stand between commas."""
    from models.codecs import codec_named

    return [codec_named(name.strip()) for name in text.split(",") if name.strip()]


def _brought(given: ModuleOptions, timing: TimingOptions, json: bool) -> None:
    brought = bring(given, timing)
    if json:
        emit_json(brought)


@dataclass(frozen=True, slots=True)
class _Timing:
    """What the command says of how a network of ours is timed."""

    executor: str
    threads: int
    repeats: int
    slowdown: float
    grid: int | None
    seed: int
    codecs: tuple[str, ...]
    codec_slowdown: float | None

    def arguments(self) -> ProfilingArgs:
        """The same, checked."""
        from models.networks.measuring.timing import ProfilingArgs

        return ProfilingArgs(
            executor=cast("Executor", self.executor or "torch"),  # refused there if it is none
            threads=self.threads,
            repeats=self.repeats,
            slowdown=self.slowdown,
            grid=24 if self.grid is None else self.grid,
            seed=self.seed,
            codecs=self.codecs,
            codec_slowdown=self.codec_slowdown,
        )


def _profile_ours(
    model: str, out: Path, reference: str | None, reading: str, timing: _Timing, *, json: bool
) -> None:
    """Profile a network of ours on this machine, or write a published reference of it."""
    from artefacts import ready_file
    from models.facts.cards import load_model
    from models.facts.profiles import write_profile

    loaded = load_model(model)
    ready_file(out)
    if reference is None:
        taken = _measure(loaded, out, timing.arguments())
    else:
        taken = _reference(reference, loaded.spec, reading)
    write_profile(out, taken)
    if json:
        emit_json(taken)
        return
    _print_profile(taken)
    if reference is None:
        _print_predictors(taken)
    else:
        _print_readings(loaded.spec)
    console.print(f"written to {out}")


def _refuse(what: str, why: str, given: Mapping[str, bool]) -> None:
    from artefacts import UsageError

    for option, found in given.items():
        if found:
            raise UsageError(f"{option}: found it given for {what}, expected none ({why})")


OF_OURS_ALONE = {
    "--executor": "it is run on ONNX Runtime",
    "--grid": "its layers are of no kind that a regression knows",
    "--reference": "a reference is of the paper's network",
    "--input": "an npz's pictures have their size; those of a folder are squashed to --input",
    "--codecs": "its latent is trained with a network of ours",
}
"""Why an option is refused beside a model that is brought."""


def _refuse_of_brought(
    executor: str, grid: bool, reference: bool, sized: bool, codecs: Iterable[Codec]
) -> None:
    given = {
        "--executor": executor not in ("", "onnxruntime"), "--grid": grid,
        "--reference": reference, "--input": sized,
    } | {f"--codecs {c.name}": True for c in codecs if c.carries == "latent"}  # fmt: skip
    for option, found in given.items():
        _refuse("a model that is brought", OF_OURS_ALONE[option.split()[0]], {option: found})


def _measure(model: Model, out: Path, args: ProfilingArgs) -> Profile:
    from models.networks.measuring.profiling import profile_model

    with progress_bar() as bar:
        task = bar.add_task("model", total=None, note="")

        def progress(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total)

        try:
            return profile_model(model, out.stem, args, progress)
        except KeyboardInterrupt:
            console.print("interrupted: nothing was written")
            raise typer.Exit(130) from None


def _reference(name: str, spec: BranchySpec, reading: str) -> Profile:
    from artefacts import UsageError
    from models.facts.reference import reference_profile

    if reading not in ("maps", "elements"):
        raise UsageError(f"reading: found '{reading}', expected maps or elements")
    return reference_profile(name, spec, "maps" if reading == "maps" else "elements")


def _layers(profile: Profile) -> Iterable[LayerProfile]:
    named: dict[str, LayerProfile] = {}
    for branch in reversed(profile.branches):  # the trunk first, then the heads
        for layer in branch:
            named.setdefault(layer.name, layer)
    return named.values()


def _print_profile(profile: Profile) -> None:
    print_table(
        f"{profile.name}: {profile.network} on {profile.executor}, {profile.threads} thread(s)",
        [
            "layer",
            "kind",
            "median ms",
            "p95 ms",
            "runs",
            "output",
            "output B",
            "param. B",
            "peak B",
        ],
        [
            (
                layer.name,
                layer.kind,
                f"{1e3 * layer.median_s:.4f}",
                f"{1e3 * layer.p95_s:.4f}",
                layer.samples,
                "x".join(map(str, layer.output_shape)),
                layer.output_bytes,
                layer.parameter_bytes,
                layer.peak_memory_bytes,
            )
            for layer in _layers(profile)
        ],
    )
    print_table(
        "whole branches",
        ["branch", "layers", "median ms", "p95 ms"],
        [
            (
                f"exit {i + 1}",
                len(branch),
                f"{1e3 * profile.interval_s(i, 0, len(branch)):.3f}",
                f"{1e3 * profile.interval_p95_s(i, 0, len(branch)):.3f}",
            )
            for i, branch in enumerate(profile.branches)
        ],
    )
    peak = profile.process_peak_bytes
    remarks = [
        f"model loading {1e3 * profile.model_loading_s:.1f} ms",
        f"peak B: parameters and activations, {profile.memory}",
        f"greatest process memory {peak / 2**20:.0f} MiB" if peak is not None else None,
        profile.emulation,
        f"transcribed, not measured: {profile.transcribed}" if profile.transcribed else None,
    ]
    for remark in remarks:
        if remark:
            print(remark)


def _print_predictors(profile: Profile) -> None:
    if not profile.predictors:
        return

    def share(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:.0f} %"

    print_table(
        "regression: mean absolute percentage error on layers not fitted",
        ["kind", "variables", "fitted", "held out", "error", "R2", "leave one out", "own layers"],
        [
            (
                p.kind,
                " + ".join(p.variables),
                p.layers,
                p.held_out,
                share(p.mape),
                f"{p.r2:.2f}",
                share(p.leave_one_out_mape),
                share(p.own_mape),
            )
            for p in profile.predictors
        ],
    )


def _print_readings(spec: BranchySpec) -> None:
    from models.facts.reference import PAPER_ANCHOR, anchor_gap, whole_branch_s

    maps, elements = whole_branch_s(spec, "maps"), whole_branch_s(spec, "elements")
    print_table(
        "what each reading of conv's x1 gives without transfer, ms",
        ["machine", "reading", *(f"exit {i + 1}" for i in range(len(spec.exits)))],
        [
            (name, reading, *(f"{1e3 * s:.1f}" for s in table[name]))
            for name in maps
            for reading, table in (("maps", maps), ("elements", elements))
        ],
    )
    gap = anchor_gap(spec)
    print_table(
        "the paper's edge-only against Input / B + edge layers",
        ["bandwidth", "paper s", "ours s"],
        [
            (f"{rate_bps / 1e6:g} Mbit/s", f"{paper:.3f}", f"{ours:.3f}")
            for (rate_bps, _), paper, ours in zip(
                PAPER_ANCHOR, gap.paper_s, gap.ours_s, strict=True
            )
        ],
    )
    print(
        f"the paper's two times imply {gap.implied_bytes:,.0f} bytes on the link and "
        f"{1e3 * gap.implied_constant_s:.1f} ms beside it: {100 * gap.excess:.1f} % more than "
        f"{gap.input_bytes:,} bytes; headers are {100 * gap.header_bytes / gap.input_bytes:.1f} %"
    )
