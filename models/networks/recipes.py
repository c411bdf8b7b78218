"""The networks that `coinfer train-model` makes: pictures, architecture, arguments, by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from artefacts import ArtefactError, UsageError, read_text
from models.capture.lower import lower
from models.codecs import LEARNED
from models.data.datasets import IMAGENETTE_SIDE, cifar10, hold_back, imagenette, imagenette_folder
from models.facts.alexnet import alexnet
from models.facts.branchy import BranchySpec
from models.facts.cards import State
from models.facts.outcomes import Outcomes
from models.networks.bottleneck import BottleneckArgs, lowered_bottleneck, train_bottleneck
from models.networks.judging import LOSSY_CODECS
from models.networks.mobilenet import BranchyMobileNetV2
from models.networks.network import BranchyNetwork, folded_network
from models.networks.publishing import Origin, Signature, publish
from models.networks.training import EpochReport, TrainingArgs, train
from models.networks.training_data import (
    Batch,
    CameraPictures,
    Normalisation,
    SmallPictures,
    TrainingData,
    plain_batches,
)

CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
MOBILENET_WIDTH = 0.75
"""Of the published channels: the widest whose training ends within hours on two cores."""
MOBILENET_ARGS = TrainingArgs(
    epochs=40,
    batch=64,
    learning_rate=0.06,
    weight_decay=1e-4,
    decay_vectors=False,
    exit_weights=(0.4, 0.4, 0.5, 0.5, 1.0),
    label_smoothing=0.1,
    cutout=0,
    bfloat16=False,
    sizes=((20, 80), (12, 112), (8, 144)),
)
CAMERA_CODECS = (
    "int8", "int8c", "int4c", "int8c+zstd", "int4c+zstd",
    "jpeg10", "jpeg20", "jpeg25", "jpeg30", "jpeg35", "jpeg50", "jpeg75",
    "webp10", "webp20", "webp35", "webp50", "webp75", LEARNED,
)  # fmt: skip
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Listener:
    """Who hears how training goes."""

    epoch: Callable[[EpochReport], None]
    step: Progress
    stage: Callable[[str], None]
    squeezed: Callable[[int, float, tuple[float, ...]], None]


def train_alexnet(out: Path, epochs: int | None, seed: int, listener: Listener) -> Outcomes:
    """Edgent's AlexNet on CIFAR-10 (batch normalisation in training, folded before judging).

    `out` is the model's folder, `epochs` how many (None: the recipe's), `seed` that of all that is
    drawn; `listener` hears of the progress.
    """
    pictures, held = hold_back(cifar10("train"), seed)
    test = cifar10("test")
    args = TrainingArgs(seed=seed)
    args = args if epochs is None else replace(args, epochs=epochs)
    torch.manual_seed(seed)
    trained = BranchyNetwork(alexnet(), batch_norm=True)
    data = SmallPictures(pictures, held, args.batch, seed, args.cutout)
    train(trained, args, data, out / "checkpoint.pt", listener.epoch, listener.step)
    normalisation = Normalisation.of(pictures)
    spec, state = folded_network(trained.eval(), normalisation.apply(held.x[:4]))
    listener.stage("outcomes")
    origin = Origin(
        CIFAR10_CLASSES,
        f"CIFAR-10 (Krizhevsky 2009): trained on {len(pictures)} of the 50,000 training pictures, "
        f"{len(held)} held back, tested on {len(test)}",
        f"CIFAR-10 test ({len(test)} pictures)",
        _training(args) | {"batch_normalisation": "after every conv in training, folded into it"},
    )
    return publish(
        out, spec, state, origin, Signature(normalisation.preprocessing), held, test,
        codecs=LOSSY_CODECS, progress=listener.step,
    )  # fmt: skip


def train_mobilenet(out: Path, epochs: int | None, seed: int, listener: Listener) -> Outcomes:
    """MobileNetV2 with five exits on Imagenette: small pictures first, then 144 x 144.

    `out` is the model's folder, `epochs` how many (None: the recipe's), `seed` that of all that is
    drawn; `listener` hears of the progress.
    """
    classes = imagenette_classes()  # a missing file is found before hours of training
    pictures, held = hold_back(imagenette("train", progress=listener.step), seed)
    args = replace(MOBILENET_ARGS, seed=seed)
    if epochs is not None:
        args = replace(args, epochs=epochs, sizes=shortened(args.sizes, epochs))
    torch.manual_seed(seed)
    trained = BranchyMobileNetV2(width=MOBILENET_WIDTH)
    data = CameraPictures(pictures, held, args.batch, seed, args.sizes)
    train(trained, args, data, out / "checkpoint.pt", listener.epoch, listener.step)
    spec, state = lowered_mobilenet(trained, data.normalisation.apply(held.x[:4]))
    listener.stage("bottleneck")
    sides = replace(data, sizes=((1, IMAGENETTE_SIDE),))
    squeezed = BottleneckArgs(seed=seed)
    learned, more, ranges = lowered_bottleneck(
        spec,
        train_bottleneck(
            spec, state, squeezed, sides.epoch, sides.steps, sides.held_back,
            out / "bottleneck.pt", listener.squeezed, listener.step,
        ),
        squeezed,
    )  # fmt: skip
    spec, state = msgspec.structs.replace(spec, bottlenecks=(learned,)), state | more
    listener.stage("outcomes")
    test = imagenette("val", progress=listener.step)
    origin = Origin(
        classes,
        f"Imagenette (Howard; ILSVRC 2015), squashed to 144 x 144: trained on {len(pictures)} of "
        f"the 9,469 training pictures, {len(held)} held back, judged on {len(test)}",
        f"Imagenette validation ({len(test)} pictures)",
        _training(args) | {"width": MOBILENET_WIDTH, "bottleneck": asdict(squeezed)},
    )
    return publish(
        out, spec, state, origin, Signature(data.normalisation.preprocessing), held, test,
        codecs=CAMERA_CODECS, more_ranges={learned.encoder.name: ranges}, progress=listener.step,
    )  # fmt: skip


def lowered_mobilenet(
    trained: BranchyMobileNetV2, samples: Tensor | None = None
) -> tuple[BranchySpec, State]:
    """The trained module as the published network; verified with `samples` too, if given."""
    example = torch.zeros(2, 3, IMAGENETTE_SIDE, IMAGENETTE_SIDE)
    return lower(trained.eval(), example, "mobilenetv2", samples=samples)


RECIPES: dict[str, Callable[[Path, int | None, int, Listener], Outcomes]] = {
    "alexnet": train_alexnet,
    "mobilenetv2": train_mobilenet,
}


def lessons(network: str, seed: int) -> tuple[TrainingData, Callable[[], Iterator[Batch]]]:
    """The data a network of ours was trained on (at full size), and its test pictures' batches.

    `seed` is the one it was trained by: it decides which pictures were held back.
    """
    if network == "alexnet":
        pictures, held = hold_back(cifar10("train"), seed)
        args = TrainingArgs()
        small = SmallPictures(pictures, held, args.batch, seed, args.cutout)
        return small, lambda: plain_batches(cifar10("test"), small.normalisation)
    if network == "mobilenetv2":
        pictures, held = hold_back(imagenette("train"), seed)
        whole = ((1, IMAGENETTE_SIDE),)
        camera = CameraPictures(pictures, held, MOBILENET_ARGS.batch, seed, whole)
        return camera, lambda: plain_batches(imagenette("val"), camera.normalisation, 100)
    raise UsageError(f"network: found '{network}', expected one of {', '.join(RECIPES)}")


def recipe(name: str) -> Callable[[Path, int | None, int, Listener], Outcomes]:
    """How the network called `name` is made; refuses one that is not known."""
    if name not in RECIPES:
        raise UsageError(f"network: found '{name}', expected one of {', '.join(RECIPES)}")
    return RECIPES[name]


def shortened(sizes: tuple[tuple[int, int], ...], epochs: int) -> tuple[tuple[int, int], ...]:
    """A schedule of (epochs, side) cut or stretched to `epochs`, its proportions kept."""
    total, done, begun, made = sum(n for n, _ in sizes), 0, 0, []
    for count, side in sizes:
        begun += count
        upto = round(epochs * begun / total)
        if upto > done:
            made.append((upto - done, side))
        done = upto
    return tuple(made)


def imagenette_classes() -> tuple[str, ...]:
    """The ten classes in the order of the labels."""
    path = imagenette_folder() / "classes.json"
    try:
        names: Any = json.loads(read_text(path, 2**20))
    except ValueError as error:
        raise ArtefactError(path, found=str(error), expected="the classes' names") from None
    try:
        listed = {int(n["label"]): str(n["name"]) for n in names}
    except (TypeError, KeyError, ValueError):
        listed = {}
    if sorted(listed) != list(range(10)):
        raise ArtefactError(
            path, found=str(names)[:60], expected="a list of ten classes with label and name"
        )
    return tuple(listed[k] for k in range(10))


def _training(args: TrainingArgs) -> dict[str, Any]:
    return asdict(args) | {"loss": "weighted sum of every exit's cross-entropy (BranchyNet)"}
