"""A torch model that is not ours becomes one that coinfer plans over: captured and judged.

The model itself is not trained: what is trained are the exits put into it. Where there are no
labels its own answers stand in for them, and every accuracy is then an agreement with it.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

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
from models.capture.lower import lower
from models.datasets import Pictures, hold_back
from models.networks.feeds import Normalisation, SmallPictures, plain_batches
from models.networks.publishing import Origin, publish
from models.networks.training import EpochReport, TrainingArgs, train
from models.outcomes import Outcomes, class_type
from models.pictures import agreement_labels, generated_pictures

PLACEMENTS = ("linear", "pareto", "pareto-memory")
GENERATED = 600
MOST_CLASSES = 65_536
CHOSEN = "exits.json"
FORMAT_VERSION = 1
PROBE_POINTS = 16
PROBE_PICTURES = 1000
HEAD_RUNS = 5
CODECS = ("int8", "int8c", "int4c", "int4c+zstd", "uint8", "jpeg35", "jpeg75")
Progress = Callable[[int, int], None]
HeadFactory = Callable[[tuple[int, ...], int], nn.Module]


@dataclass(frozen=True, slots=True)
class AdoptionArgs:
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


def _imported(what: str, named: str) -> Any:
    """What `package.module:name` names; the working folder is looked in too."""
    module_name, _, factory = named.partition(":")
    if not module_name or not factory.isidentifier():
        raise UsageError(f"{what}: found '{named}', expected PACKAGE.MODULE:FACTORY")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return getattr(importlib.import_module(module_name), factory)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{what} '{named}': found no module '{error.name}', expected PACKAGE.MODULE:FACTORY "
            "that can be imported from here"
        ) from None
    except AttributeError:
        raise UsageError(
            f"{what} '{named}': found no '{factory}' in '{module_name}', expected a function or "
            "class"
        ) from None
    except Exception as error:  # whatever the user's module raises while it is imported
        raise UsageError(
            f"{what} '{named}': importing '{module_name}' failed: {type(error).__name__}: {error}"
        ) from None


def load_factory(named: str) -> nn.Module:
    """The module that `package.module:factory` makes."""
    found = _imported("model", named)
    factory = named.partition(":")[2]
    try:
        made = found() if callable(found) and not isinstance(found, nn.Module) else found
    except Exception as error:  # whatever the user's factory raises
        raise UsageError(
            f"model '{named}': '{factory}()' failed: {type(error).__name__}: {error}"
        ) from None
    if not isinstance(made, nn.Module):
        raise UsageError(
            f"model '{named}': found a {type(made).__name__}, expected a torch.nn.Module"
        )
    return made.eval()


def load_head(named: str) -> HeadFactory:
    """`package.module:factory`, a function of (shape, classes) that gives an exit's head."""
    factory = _imported("heads", named)
    if not callable(factory):
        raise UsageError(
            f"heads '{named}': found a {type(factory).__name__}, expected a function of "
            "(shape of one sample's tensor, classes)"
        )

    def checked(shape: tuple[int, ...], classes: int) -> nn.Module:
        try:
            head = factory(shape, classes)
            with torch.inference_mode():
                scores = head.eval()(torch.zeros(2, *shape))
            found = tuple(scores.shape)
        except Exception as error:  # whatever the user's function and module raise
            raise UsageError(
                f"heads '{named}' for a tensor of shape {shape}: failed with "
                f"{type(error).__name__}: {error}"
            ) from None
        if found != (2, classes):
            raise UsageError(
                f"heads '{named}' for a tensor of shape {shape}: found an output of shape "
                f"{found}, expected (2, {classes}) for a batch of two"
            )
        if not bool(torch.isfinite(scores).all()):
            raise UsageError(
                f"heads '{named}' for a tensor of shape {shape}: found scores that are not finite "
                "numbers, expected class scores"
            )
        made: nn.Module = head
        return made

    return checked


def read_pictures(path: Path) -> Pictures:
    """Labelled pictures from an npz with `x` uint8 (N, H, W, 3) and whole numbers `y` (N,)."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            x, y = archive["x"], archive["y"]
    except FileNotFoundError:
        raise ArtefactError(path, found="no such file", expected="an npz of pictures") from None
    except Exception as error:  # zipfile, zlib and numpy raise a dozen kinds for a damaged file
        raise ArtefactError(
            path, found=f"{type(error).__name__}: {error}", expected="an npz with arrays x and y"
        ) from None
    if x.ndim != 4 or x.shape[3] != 3 or x.dtype != np.uint8:
        raise ArtefactError(
            path, field="x", found=f"{x.dtype} {x.shape}", expected="uint8 (N, H, W, 3)"
        )
    whole = y.shape == (len(x),) and y.dtype.kind in "iu" and y.min(initial=0) >= 0
    if not whole or y.max(initial=0) >= MOST_CLASSES:
        raise ArtefactError(
            path,
            field="y",
            found=f"{y.dtype} {y.shape}",
            expected=f"classes 0 to {MOST_CLASSES - 1}, ({len(x)},)",
        )
    return Pictures(x, y.astype(class_type(int(y.max(initial=0)) + 1)))


def adopt(
    folder: Path,
    module: nn.Module,
    name: str,
    pictures: Pictures | None,
    side: tuple[int, int],
    args: AdoptionArgs,
    listener: Listener,
    head: HeadFactory | None = None,
    codecs: tuple[str, ...] = CODECS,
) -> Outcomes:
    """Write the model's folder (weights, ranges, card, outcomes); gives the outcomes.

    Half of the pictures, by seed, train and choose; the other half judge, once. `head` makes the
    exits' heads (`default_head` where it is not given). `codecs` are what may cross a cut.
    """
    normalisation = Normalisation(args.mean, args.std)
    example = torch.zeros(2, 3, *side)
    listener.stage("capture")
    captured = capture(module, example, name)
    if len(captured.output.shape) != 1 or captured.output.dtype != torch.float32:
        shape = ", ".join(map(str, ("N", *captured.output.shape)))
        raise UsageError(
            f"model '{name}': found an output of shape ({shape}) in {captured.output.dtype}, "
            "expected class scores (N, classes) in float32"
        )
    classes = int(captured.output.shape[0])
    if not 1 < classes <= MOST_CLASSES:
        raise UsageError(
            f"model '{name}': found {classes} classes, expected 2 to {MOST_CLASSES} (outcomes keep "
            "a class in two bytes at most)"
        )
    if pictures is not None and int(pictures.y.max(initial=0)) >= classes:
        raise UsageError(
            f"pictures: found class {int(pictures.y.max())}, expected 0 to {classes - 1} (what "
            f"model '{name}' tells apart)"
        )
    lower(module, example, name)  # what cannot be cut is told before hours of training
    labelled = pictures is not None
    if pictures is not None:
        _check_scores(captured, normalisation.apply(pictures.x[:2]))
    if pictures is None:
        pictures = _generated(captured, side, normalisation, args.seed)
    order = np.random.default_rng(args.seed).permutation(len(pictures))
    middle = len(pictures) // 2
    # in the order drawn: whoever takes the first few takes some of every class
    mine, judged = (pictures.take(o) for o in (order[:middle], order[middle:]))
    known, held = hold_back(mine, args.seed)
    if min(len(known), len(held), len(judged)) < 2:
        raise UsageError(f"pictures: found {len(pictures)}, expected 40 or more")
    whole: nn.Module = module
    points: tuple[Cut, ...] = ()
    if args.exits:
        seen = digest_bytes(known.x.tobytes() + known.y.tobytes())[:16]
        given = f", pictures {seen}, mean {args.mean}, std {args.std}"
        wanted = f"{args.placement} {args.exits}, {WithExits(captured, ()).identity}{given}"
        points = _kept_points(folder / CHOSEN, wanted, captured)
        if not points:
            points = _points(captured, known, held, normalisation, args, listener)
            at = tuple(p.at for p in points)
            write_json(folder / CHOSEN, ChosenPoints(FORMAT_VERSION, wanted, at))
        whole = _with_heads(
            captured, points, given, head, SmallPictures(known, held, 64, args.seed, 0,
            normalisation), folder, args, listener,
        )  # fmt: skip
    listener.stage("lowering")
    spec, state = lower(whole, example, name)
    what = f"{len(pictures)} labelled pictures"
    if not labelled:
        what = f"{len(pictures)} generated pictures; right = agrees with the model itself"
    origin = Origin(
        tuple(f"class {k}" for k in range(spec.classes)),
        f"a model that was brought; its exits were trained on {len(known)} of {what}",
        f"{len(judged)} of {what}",
        {
            "exits_at": [p.crossings[0].name for p in points],
            "placement": args.placement if args.exits else None,
            "epochs": args.epochs if args.exits else 0,
            "joint_epochs": args.joint_epochs if args.exits else 0,
            "labelled": labelled,
            "seed": args.seed,
        },
    )
    listener.stage("outcomes")
    return publish(
        folder, spec, state, origin, normalisation, held, judged,
        codecs=codecs, progress=listener.step,
    )  # fmt: skip


def _with_heads(
    captured: CapturedModel,
    points: tuple[Cut, ...],
    given: str,
    head: HeadFactory | None,
    feed: SmallPictures,
    folder: Path,
    args: AdoptionArgs,
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


def _check_scores(captured: CapturedModel, x: torch.Tensor) -> None:
    with torch.inference_mode():
        scores = captured.whole(x)
    if not bool(torch.isfinite(scores).all()):
        raise UsageError(
            f"model '{captured.name}': found scores that are not finite numbers, expected class "
            "scores for pictures scaled by --mean and --std"
        )


def _generated(
    captured: CapturedModel, side: tuple[int, int], normalisation: Normalisation, seed: int
) -> Pictures:
    made = generated_pictures(GENERATED, np.random.default_rng(seed), max(side))
    made = np.ascontiguousarray(made[:, : side[0], : side[1]])
    _check_scores(captured, normalisation.apply(made[:2]))

    def logits(x: npt.NDArray[np.uint8]) -> npt.NDArray[np.floating]:
        with torch.inference_mode():
            found: npt.NDArray[np.floating] = captured.whole(normalisation.apply(x)).numpy()
        return found

    return Pictures(made, agreement_labels(made, logits, 50))


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
    args: AdoptionArgs,
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
