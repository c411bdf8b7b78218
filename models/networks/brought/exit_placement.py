"""Where exits are put into a module that was brought, and the training of their heads."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import torch

from artefacts import ArtefactError, UsageError, digest_bytes, read_json, ready_folder, write_json
from artefacts.owners import temporary_folder
from models.capture.cost import measure_costs
from models.capture.exits import (
    Probe,
    WithExits,
    candidate_points,
    default_head,
    first_reaching,
    linear_points,
    named_points,
    pareto_points,
    probe_points,
)
from models.capture.graph import CapturedModel, Crossing, Cut
from models.data.datasets import Pictures
from models.networks.brought.brought_module import BroughtModule, Listener, PictureUses, ProfileArgs
from models.networks.brought.factories import HeadFactory
from models.networks.brought.trunk_features import HeadsAlone, KeptFeatures, augmentations_that_fit
from models.networks.training import EpochReport, TrainingArgs, exit_accuracies, train
from models.networks.training_data import Normalisation, SmallPictures, plain_batches

CHOSEN = "exits.json"
FORMAT_VERSION = 1
PROBE_POINTS = 16
PROBE_PICTURES = 1000
HEAD_RUNS = 5


class ChosenPoints(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`exits.json`: where exits were put (operations before them), and for what."""

    format_version: int
    wanted: str
    at: tuple[int, ...]
    probes: tuple[tuple[str, float], ...] = ()
    """By the name of a place: what a probe there answers right of the held-back pictures."""


def with_exits(
    folder: Path,
    brought: BroughtModule,
    lesson: PictureUses,
    args: ProfileArgs,
    listener: Listener,
    head: HeadFactory | None,
) -> tuple[tuple[Cut, ...], WithExits]:
    """Where the exits hang, and the module with them, trained.

    `brought` is the module as it came, `lesson` the pictures to learn from, `args` how. `folder`
    keeps checkpoints, `listener` hears of the progress; `head` makes an exit's head (None: the
    default one).
    """
    captured, normalisation, known = brought.captured, brought.normalisation, lesson.known
    seen = digest_bytes(known.x.tobytes() + known.y.tobytes())[:16]
    given = f", pictures {seen}, mean {args.mean}, std {args.std}"
    wanted = f"{args.placed} {args.exits}, {WithExits(captured, ()).identity}{given}"
    points = _kept_points(folder / CHOSEN, wanted, captured)
    if not points:
        points, probes = _points(captured, known, lesson.held, normalisation, args, listener)
        at = tuple(p.at for p in points)
        seen_of = tuple((p.cut.crossings[0].name, p.accuracy) for p in probes)
        write_json(folder / CHOSEN, ChosenPoints(FORMAT_VERSION, wanted, at, seen_of))
    data = SmallPictures(known, lesson.held, 64, args.seed, 0, normalisation)
    return points, _with_heads(captured, points, given, head, data, folder, args, listener)


def _with_heads(
    captured: CapturedModel,
    points: tuple[Cut, ...],
    given: str,
    head: HeadFactory | None,
    data: SmallPictures,
    folder: Path,
    args: ProfileArgs,
    listener: Listener,
) -> WithExits:
    """The model with trained heads; with `joint_epochs` everything is trained after them."""
    classes = int(captured.output.shape[0])
    torch.manual_seed(args.seed)
    heads = None if head is None else [head(p.crossings[0].shape, classes) for p in points]
    whole = WithExits(captured, points, heads)
    own = "" if head is None else f", heads {digest_bytes(repr(whole.heads).encode())[:16]}"
    whole.identity += given + own
    training = TrainingArgs(
        epochs=args.epochs, batch=64, learning_rate=0.1, weight_decay=1e-4, cutout=0,
        exit_weights=(1.0,) * (len(points) + 1), bfloat16=False, seed=args.seed,
    )  # fmt: skip
    _train_heads(whole, training, data, folder, listener)
    if not args.joint_epochs:
        return whole
    listener.stage("everything")
    joint = WithExits(captured, points, list(whole.heads), joint=True)
    joint.identity += given + own + f", after {args.epochs} epochs of heads"
    slower = replace(training, epochs=args.joint_epochs, learning_rate=0.01)
    train(joint, slower, data, folder / "joint.pt", listener.epoch, listener.step)
    return joint


def _train_heads(
    whole: WithExits, training: TrainingArgs, data: SmallPictures, folder: Path, listener: Listener
) -> None:
    """Train the heads on what the frozen trunk gave once; where that is too much, through it."""
    checkpoint = ready_folder(folder) / "checkpoint.pt"
    augmentations = augmentations_that_fit(whole, data, training.epochs, folder)
    if augmentations < 1:
        listener.stage("exits")
        train(whole, training, data, checkpoint, listener.epoch, listener.step)
        return
    own: list[float] = []

    def epoch(now: EpochReport) -> None:
        if not own:  # the frozen network's
            own.append(exit_accuracies(whole, data.held_back())[-1])
        listener.epoch(replace(now, accuracies=(*now.accuracies, *own)))

    with temporary_folder("features", folder) as place:
        kept = KeptFeatures(whole, data, place, augmentations)
        kept.progress = listener.step
        listener.stage("features of the trunk")
        alone = replace(training, exit_weights=training.exit_weights[:-1])

        def step(done: int, total: int) -> None:
            listener.stage("exits")
            listener.step(done, total)

        train(HeadsAlone(whole), alone, kept, checkpoint, epoch, step)


def _kept_points(path: Path, wanted: str, captured: CapturedModel) -> tuple[Cut, ...]:
    """The points an interrupted run chose: measured anew they might be others."""
    if not path.exists():
        return ()
    kept = read_json(path, ChosenPoints, version=FORMAT_VERSION)
    if kept.wanted != wanted:
        if (path.parent / "checkpoint.pt").exists():
            raise ArtefactError(
                path,
                found=f"a run for '{kept.wanted[:120]}'",
                expected=f"one for '{wanted[:120]}' (use another --out, or remove the folder)",
            )
        return ()
    return tuple(cut for cut in candidate_points(captured) if cut.at in kept.at)


def _points(
    captured: CapturedModel,
    known: Pictures,
    held: Pictures,
    normalisation: Normalisation,
    args: ProfileArgs,
    listener: Listener,
) -> tuple[tuple[Cut, ...], list[Probe]]:
    """The points, and what probes found (none are asked where places are given by hand)."""
    if args.exit_after:
        return named_points(captured, args.exit_after), []
    listener.stage("costs")
    costs = measure_costs(captured, normalisation.apply(known.x[:1]))
    listener.stage("probes")
    every = candidate_points(captured)
    some = [every[k] for k in np.unique(np.linspace(0, len(every) - 1, PROBE_POINTS).astype(int))]
    few = known.take(np.arange(min(PROBE_PICTURES, len(known))))

    def price(cut: Cut) -> float:
        """Of the trunk up to there and of a head hung there."""
        head_s, head_bytes = _head_price(cut.crossings[0], int(captured.output.shape[0]))
        if args.placement != "pareto-memory":
            return float(costs.seconds[: cut.at].sum()) + head_s
        held = float(costs.parameter_bytes[: cut.at].sum()) + head_bytes
        return held + costs.peak_bytes(0, cut.at)

    probes = probe_points(
        captured,
        some,
        plain_batches(few, normalisation, 50),
        plain_batches(held, normalisation, 50),
        price,
    )
    if args.exit_accuracies:
        return _reaching(probes, args.exit_accuracies), probes
    if args.placement == "linear":
        return linear_points(captured, costs, args.exits), probes
    whole = float(costs.seconds.sum())
    if args.placement == "pareto-memory":
        whole = float(costs.parameter_bytes.sum()) + costs.peak_bytes(0, len(captured))
    return pareto_points(probes, args.exits, whole), probes


def _reaching(probes: list[Probe], accuracies: tuple[float, ...]) -> tuple[Cut, ...]:
    found = first_reaching(probes, accuracies)
    if not found:
        best = max(probes, key=lambda p: p.accuracy)
        raise UsageError(
            f"--exit-accuracy: found no place where a linear probe reaches {min(accuracies):g}, "
            f"expected at most {best.accuracy:.3f}, which one reaches after "
            f"{best.cut.crossings[0].name}"
        )
    return found


def read_probes(folder: Path) -> dict[str, float]:
    """What probes found when the exits of a folder were placed, by the name of a place."""
    path = folder / CHOSEN
    if not path.exists():
        return {}
    return dict(read_json(path, ChosenPoints, version=FORMAT_VERSION).probes)


def _head_price(crossing: Crossing, classes: int) -> tuple[float, int]:
    """(seconds, parameter bytes) of the default head of a tensor, one sample."""
    head = default_head(crossing, classes).eval()
    x, times = torch.zeros(1, *crossing.shape), []
    with torch.inference_mode():
        for _ in range(HEAD_RUNS):
            begun = time.perf_counter()
            head(x)
            times.append(time.perf_counter() - begun)
    return float(np.median(times)), sum(4 * p.numel() for p in head.parameters())
