"""A torch model that is not ours becomes one that coinfer plans over: captured and judged.

The model itself is not trained: what is trained are the exits put into it. Where there are no
labels its own answers stand in for them, and every accuracy is then an agreement with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from artefacts import ArtefactError, UsageError, digest_bytes, read_json, write_json
from models.capture.cost import measure_costs
from models.capture.exits import (
    WithExits,
    candidate_points,
    default_head,
    linear_points,
    pareto_points,
    probe_points,
)
from models.capture.export import capture
from models.capture.graph import CapturedModel, Crossing, Cut
from models.capture.lower import State, lower_verified
from models.capture.modules import answers, unwrapped
from models.capture.verification import allowed, verify_answers
from models.data.datasets import Pictures, hold_back
from models.data.pictures import agreement_labels, generated_pictures
from models.facts.branchy import BranchySpec
from models.facts.outcomes import Outcomes
from models.networks.factories import MOST_CLASSES, HeadFactory
from models.networks.publishing import Origin, publish
from models.networks.training import EpochReport, TrainingArgs, train
from models.networks.training_data import Normalisation, SmallPictures, plain_batches

PLACEMENTS = ("linear", "pareto", "pareto-memory")
GENERATED = 600
SAMPLES = 4
"""Pictures that every stretch is verified with, beside made-up samples."""
CHOSEN = "exits.json"
FORMAT_VERSION = 1
PROBE_POINTS = 16
PROBE_PICTURES = 1000
HEAD_RUNS = 5
CODECS = ("int8", "int8c", "int4c", "int4c+zstd", "uint8", "jpeg35", "jpeg75")
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ProfileArgs:
    """How a model is taken in."""

    exits: int = 0
    """Exits to put into it, beside its own end."""
    placement: str = "linear"
    """Where: evenly spaced in compute, or on the front of accuracy against latency or memory."""
    epochs: int = 15
    """Passes over the training pictures for the exits' heads."""
    joint_epochs: int = 0
    """Passes over them afterwards in which everything is trained, the model itself too."""
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """What the model expects subtracted from pictures in [0, 1]."""
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """What it expects them divided by."""
    seed: int = 0
    """Of the split of the pictures, the heads and the generated pictures."""

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        if self.placement not in PLACEMENTS:
            raise UsageError(
                f"placement: found '{self.placement}', expected {', '.join(PLACEMENTS)}"
            )
        if not all(s > 0 for s in self.std):
            raise UsageError(f"std: found {self.std}, expected three numbers above zero")


class ChosenPoints(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`exits.json`: where exits were put (operations before them), and for what."""

    format_version: int
    wanted: str
    at: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told how it goes."""

    stage: Callable[[str], None]
    step: Progress
    epoch: Callable[[EpochReport], None]


@dataclass(frozen=True, eq=False)
class _Brought:
    """The module as it was brought (unwrapped), what was captured of it, and what it takes."""

    name: str
    module: nn.Module
    captured: CapturedModel
    normalisation: Normalisation

    @property
    def example(self) -> torch.Tensor:
        """A batch of two empty pictures."""
        return torch.zeros(2, *self.captured.input.shape)

    def batches(self, pictures: Pictures) -> Iterator[torch.Tensor]:
        """All pictures in order, as the model takes them."""
        return (x for x, _ in plain_batches(pictures, self.normalisation, 50))

    def scores(self, x: npt.NDArray[np.uint8]) -> npt.NDArray[np.floating]:
        """The module's own scores of pictures (N, H, W, 3): nothing exported, nothing captured."""
        found: npt.NDArray[np.floating] = answers(self.module, self.normalisation.apply(x))[
            0
        ].numpy()
        return found


@dataclass(frozen=True, eq=False)
class _Lesson:
    """Pictures by use: trained on, held back for choices, judged; and what their labels are."""

    known: Pictures
    held: Pictures
    judged: Pictures
    labelled: bool

    @classmethod
    def of(cls, pictures: Pictures, seed: int, labelled: bool) -> _Lesson:
        """Half of the pictures, by seed, train and choose; the other half judge."""
        order = np.random.default_rng(seed).permutation(len(pictures))
        middle = len(pictures) // 2
        # in the order drawn: whoever takes the first few takes some of every class
        mine, judged = (pictures.take(o) for o in (order[:middle], order[middle:]))
        known, held = hold_back(mine, seed)
        if min(len(known), len(held), len(judged)) < 2:
            raise UsageError(f"pictures: found {len(pictures)}, expected 40 or more")
        return cls(known, held, judged, labelled)

    @property
    def described(self) -> str:
        """How many pictures there are, and what is right."""
        count = len(self.known) + len(self.held) + len(self.judged)
        if self.labelled:
            return f"{count} labelled pictures"
        return f"{count} generated pictures; right = agrees with the model as it was brought"


def adopt(
    folder: Path,
    module: nn.Module,
    name: str,
    pictures: Pictures | None,
    side: tuple[int, int],
    args: ProfileArgs,
    listener: Listener,
    head: HeadFactory | None = None,
    codecs: tuple[str, ...] = CODECS,
) -> Outcomes:
    """Write the model's folder (weights, ranges, card, outcomes); gives the outcomes.

    Half of the pictures, by seed, train and choose; the other half judge, once. `head` makes the
    exits' heads (`default_head` where it is not given). `codecs` are what may cross a cut. What is
    written has been held against the torch module; `UsageError` where it is not that module.
    """
    listener.stage("capture")
    module = unwrapped(module, name)
    captured = capture(module, torch.zeros(2, 3, *side), name)
    brought = _Brought(name, module, captured, Normalisation(args.mean, args.std))
    _check_classes(captured, pictures)
    given = _generated(side, args.seed) if pictures is None else pictures.x
    _check_scores(brought, given[:2])
    # what cannot be cut, or not rightly, is told before hours of training
    samples = brought.normalisation.apply(given[:SAMPLES])
    spec, state, found = lower_verified(module, brought.example, name, samples=samples)
    labelled = pictures is not None
    if pictures is None:
        pictures = Pictures(given, agreement_labels(given, brought.scores, 50))
    lesson = _Lesson.of(pictures, args.seed, labelled)
    verify_answers(spec, state, module, brought.batches(lesson.judged), allowed(found))
    points: tuple[Cut, ...] = ()
    if args.exits:
        points, whole = _with_exits(folder, brought, lesson, args, listener, head)
        listener.stage("lowering")
        spec, state = _lowered(brought, whole, lesson, args)
    listener.stage("outcomes")
    return publish(
        folder, spec, state, _origin(spec, points, lesson, args), brought.normalisation,
        lesson.held, lesson.judged, codecs=codecs, progress=listener.step,
    )  # fmt: skip


def _check_classes(captured: CapturedModel, pictures: Pictures | None) -> None:
    """Refuse a module that gives no class scores, and labels that it knows no class for."""
    if len(captured.output.shape) != 1 or captured.output.dtype != torch.float32:
        shape = ", ".join(map(str, ("N", *captured.output.shape)))
        raise UsageError(
            f"model '{captured.name}': found an output of shape ({shape}) in "
            f"{captured.output.dtype}, expected class scores (N, classes) in float32"
        )
    classes = int(captured.output.shape[0])
    if not 1 < classes <= MOST_CLASSES:
        raise UsageError(
            f"model '{captured.name}': found {classes} classes, expected 2 to {MOST_CLASSES} "
            "(outcomes keep a class in two bytes at most)"
        )
    if pictures is not None and int(pictures.y.max(initial=0)) >= classes:
        raise UsageError(
            f"pictures: found class {int(pictures.y.max())}, expected 0 to {classes - 1} (what "
            f"model '{captured.name}' tells apart)"
        )


def _lowered(
    brought: _Brought, whole: WithExits, lesson: _Lesson, args: ProfileArgs
) -> tuple[BranchySpec, State]:
    """The network that is published: what `whole` computes, in every stretch; and its last exit,
    on every picture that judges, what the module computes.

    Joint training changes the weights of the model itself: the last exit is then held against what
    was trained, and no longer answers as the module that was brought.
    """
    samples = brought.normalisation.apply(lesson.judged.x[:SAMPLES])
    spec, state, found = lower_verified(whole, brought.example, brought.name, samples=samples)
    right = whole if args.joint_epochs else brought.module
    verify_answers(spec, state, right, brought.batches(lesson.judged), allowed(found))
    return spec, state


def _origin(
    spec: BranchySpec, points: tuple[Cut, ...], lesson: _Lesson, args: ProfileArgs
) -> Origin:
    what = lesson.described
    return Origin(
        tuple(f"class {k}" for k in range(spec.classes)),
        f"a model that was brought; its exits were trained on {len(lesson.known)} of {what}",
        f"{len(lesson.judged)} of {what}",
        {
            "exits_at": [p.crossings[0].name for p in points],
            "placement": args.placement if args.exits else None,
            "epochs": args.epochs if args.exits else 0,
            "joint_epochs": args.joint_epochs if args.exits else 0,
            "labelled": lesson.labelled,
            "seed": args.seed,
        },
    )


def _with_exits(
    folder: Path,
    brought: _Brought,
    lesson: _Lesson,
    args: ProfileArgs,
    listener: Listener,
    head: HeadFactory | None,
) -> tuple[tuple[Cut, ...], WithExits]:
    """Where the exits hang, and the module with them, trained."""
    captured, normalisation, known = brought.captured, brought.normalisation, lesson.known
    seen = digest_bytes(known.x.tobytes() + known.y.tobytes())[:16]
    given = f", pictures {seen}, mean {args.mean}, std {args.std}"
    wanted = f"{args.placement} {args.exits}, {WithExits(captured, ()).identity}{given}"
    points = _kept_points(folder / CHOSEN, wanted, captured)
    if not points:
        points = _points(captured, known, lesson.held, normalisation, args, listener)
        at = tuple(p.at for p in points)
        write_json(folder / CHOSEN, ChosenPoints(FORMAT_VERSION, wanted, at))
    feed = SmallPictures(known, lesson.held, 64, args.seed, 0, normalisation)
    return points, _with_heads(captured, points, given, head, feed, folder, args, listener)


def _with_heads(
    captured: CapturedModel,
    points: tuple[Cut, ...],
    given: str,
    head: HeadFactory | None,
    feed: SmallPictures,
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
    listener.stage("exits")
    train(whole, training, feed, folder / "checkpoint.pt", listener.epoch, listener.step)
    if not args.joint_epochs:
        return whole
    listener.stage("everything")
    joint = WithExits(captured, points, list(whole.heads), joint=True)
    joint.identity += given + own + f", after {args.epochs} epochs of heads"
    slower = replace(training, epochs=args.joint_epochs, learning_rate=0.01)
    train(joint, slower, feed, folder / "joint.pt", listener.epoch, listener.step)
    return joint


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


def _check_scores(brought: _Brought, x: npt.NDArray[np.uint8]) -> None:
    if not np.isfinite(brought.scores(x)).all():
        raise UsageError(
            f"model '{brought.name}': found scores that are not finite numbers, expected class "
            "scores for pictures scaled by --mean and --std"
        )


def _generated(side: tuple[int, int], seed: int) -> npt.NDArray[np.uint8]:
    made = generated_pictures(GENERATED, np.random.default_rng(seed), max(side))
    return np.ascontiguousarray(made[:, : side[0], : side[1]])


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


def _points(
    captured: CapturedModel,
    known: Pictures,
    held: Pictures,
    normalisation: Normalisation,
    args: ProfileArgs,
    listener: Listener,
) -> tuple[Cut, ...]:
    listener.stage("costs")
    costs = measure_costs(captured, normalisation.apply(known.x[:1]))
    if args.placement == "linear":
        return linear_points(captured, costs, args.exits)
    listener.stage("probes")
    every = candidate_points(captured)
    some = [every[k] for k in np.unique(np.linspace(0, len(every) - 1, PROBE_POINTS).astype(int))]
    few = known.take(np.arange(min(PROBE_PICTURES, len(known))))

    def price(cut: Cut) -> float:
        """Of the trunk up to there and of a head hung there."""
        head_s, head_bytes = _head_price(cut.crossings[0], int(captured.output.shape[0]))
        if args.placement == "pareto":
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
    whole = float(costs.seconds.sum())
    if args.placement == "pareto-memory":
        whole = float(costs.parameter_bytes.sum()) + costs.peak_bytes(0, len(captured))
    return pareto_points(probes, args.exits, whole)
