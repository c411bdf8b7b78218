"""A torch module that is not ours, the pictures it is judged on, and how it is taken in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from artefacts import UsageError
from artefacts.printing import first_of
from models.capture.box_heads import BOX_HEAD_KINDS
from models.capture.graph import CapturedModel
from models.capture.heads import AUTO, HEAD_KINDS
from models.capture.modules import answers
from models.capture.placement import PLACEMENTS, RENAMED
from models.data.datasets import Pictures, hold_back, judging_half
from models.data.labels import MOST_CLASSES
from models.networks.brought.class_names import class_names
from models.networks.brought.exits.exit_goals import ClassGoal, ExitGoal, RowGoal
from models.networks.training import EpochReport
from models.networks.training_data import (
    Normalisation,
    PlainSamples,
    Prepared,
    SmallPictures,
    plain_batches,
)

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ProfileArgs:
    """How a model is taken in."""

    exits: int = 0
    """Exits to put into it, beside its own end."""
    placement: str = "linear"
    """Where: by marks on the compute, or on the front of accuracy against latency or memory."""
    epochs: int = 15
    """Passes over the training pictures for the exits' heads."""
    joint_epochs: int = 0
    """Passes over them afterwards in which everything is trained, the model itself too."""
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """What the model expects subtracted from pictures in [0, 1]."""
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """What it expects them divided by."""
    exit_after: tuple[str, ...] = ()
    """Names of the tensors that exits hang at, in the place of `exits` and `placement`."""
    exit_accuracies: tuple[float, ...] = ()
    """Exits hang where probes first reach these, in the place of the same."""
    seed: int = 0
    """Of the split of the pictures, the heads and the generated pictures."""
    classes: tuple[str, ...] = ()
    """Names of its classes in the order of the scores (the pictures', or 'class 0' and so on)."""
    head_kind: str = AUTO
    """The kind of the exits' heads, or 'auto': measured at every exit."""
    distillation: float = 0.5
    """Share of the heads' loss that is their distance from the network's own answers."""
    own_blocks: int = 0
    """Blocks before each exit that it has a trained copy of."""
    fewer: bool = False
    """Whether fewer `exits` will do where there are not so many places."""
    most_seconds: float | None = None
    """That trunk and head of an exit may take for one sample on this machine."""
    most_bytes: float | None = None
    """That weights and activations up to an exit and its head may take."""

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        object.__setattr__(self, "placement", RENAMED.get(self.placement, self.placement))
        kinds = tuple(dict.fromkeys((AUTO, *HEAD_KINDS, *BOX_HEAD_KINDS)))
        if self.head_kind not in kinds:
            raise UsageError(f"--head-kind: found '{self.head_kind}', expected {', '.join(kinds)}")
        if not 0.0 <= self.distillation <= 1.0:
            raise UsageError(f"--distillation: found {self.distillation}, expected 0 to 1")
        if self.placement not in PLACEMENTS:
            raise UsageError(
                f"placement: found '{self.placement}', expected {', '.join(PLACEMENTS)}"
            )
        ways = {
            "--exits": self.exits, "--exit-after": self.exit_after,
            "--exit-accuracy": self.exit_accuracies,
        }  # fmt: skip
        if len(given := [name for name, value in ways.items() if value]) > 1:
            raise UsageError(f"{given[0]}: found it beside {given[1]}, expected one of them")
        if not all(s > 0 for s in self.std):
            raise UsageError(f"std: found {self.std}, expected three numbers above zero")

    @property
    def with_exits(self) -> bool:
        """Whether exits are put in at all."""
        return bool(self.exits or self.exit_after or self.exit_accuracies)

    @property
    def placed(self) -> str:
        """How the places of exits are chosen, in a word or by name."""
        if self.exit_accuracies:
            return f"reaching {', '.join(map(str, self.exit_accuracies))}"
        return f"after {', '.join(self.exit_after)}" if self.exit_after else self.placement


@dataclass(frozen=True, slots=True)
class Listener:
    """Who hears how it goes."""

    stage: Callable[[str], None]
    step: Progress
    epoch: Callable[[EpochReport], None]


@dataclass(frozen=True, eq=False)
class BroughtModule:
    """The module as it was brought (unwrapped), what was captured of it, and what it takes."""

    name: str
    module: nn.Module
    captured: CapturedModel
    normalisation: Normalisation | Prepared
    rows: RowGoal | None = None
    """What exits are to answer where that is no class."""

    @property
    def goal(self) -> ExitGoal:
        """What exits that are put in are to answer."""
        return self.rows or ClassGoal(int(self.captured.output.shape[-1]))

    @property
    def example(self) -> torch.Tensor:
        """A batch of two empty pictures."""
        return torch.zeros(2, *self.captured.input.shape)

    def batches(self, pictures: Pictures) -> Iterator[torch.Tensor]:
        """All pictures in order, as the model takes them."""
        return (x for x, _ in plain_batches(pictures, self.normalisation, 50))

    def lessons(
        self, known: Pictures, held: Pictures, batch: int, seed: int
    ) -> SmallPictures | PlainSamples:
        """Batches of `batch` samples to train exits on, in an order by `seed`.

        `known` are trained on (pictures are varied), `held` are for choices.
        """
        given = self.normalisation
        if isinstance(given, Prepared):
            return PlainSamples(known, held, batch, seed, given)
        return SmallPictures(known, held, batch, seed, 0, given)

    def scores(self, x: npt.NDArray[np.uint8]) -> npt.NDArray[np.floating]:
        """The module's own scores of pictures (N, H, W, 3): nothing exported, nothing captured."""
        found: npt.NDArray[np.floating] = answers(self.module, self.normalisation.apply(x))[
            0
        ].numpy()
        return found


@dataclass(frozen=True, eq=False)
class PictureUses:
    """Pictures by use: trained on, held back for choices, judged; and what their labels are."""

    known: Pictures
    held: Pictures
    judged: Pictures
    labelled: bool

    @classmethod
    def of(
        cls, pictures: Pictures, seed: int, labelled: bool, more: Pictures | None = None
    ) -> PictureUses:
        """Half of the `pictures`, drawn by `seed`, train and choose; the other half judge.

        `more` pictures of the same size train and choose, too, and never judge. `labelled` says
        whether the labels are more than the network's own answers.
        """
        mine, judged = (pictures.take(half) for half in judging_half(pictures, seed))
        if more is not None:
            if more.x.shape[1:] != pictures.x.shape[1:]:
                raise UsageError(
                    f"--train-data: found pictures of {more.x.shape[2]} x {more.x.shape[1]}, "
                    f"expected {pictures.x.shape[2]} x {pictures.x.shape[1]}, the size of --data"
                )
            labels = np.concatenate([mine.y, more.y])
            mine = Pictures(np.concatenate([mine.x, more.x]), labels, mine.classes)
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


def names_of_classes(
    brought: BroughtModule, pictures: Pictures | None, args: ProfileArgs
) -> tuple[str, ...]:
    """Names in the order of the scores: those that were given, the pictures', the module's own.

    () where nobody has any.
    """
    names = args.classes or (pictures.classes if pictures is not None else ())
    own = class_names(brought.module)
    return own if not names and len(own) == brought.captured.output.shape[-1] else names


def check_classes(
    captured: CapturedModel, pictures: Pictures | None, names: tuple[str, ...]
) -> None:
    """Refuse a module that gives no class scores, and labels and `names` that do not fit them."""
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
    if names and len(names) != classes:
        raise UsageError(
            f"classes: found {len(names)} names ({first_of(names, 3)}), expected {classes}, "
            f"what model '{captured.name}' tells apart (--classes FILE names them all)"
        )
    if pictures is not None and int(pictures.y.max(initial=0)) >= classes:
        raise UsageError(
            f"pictures: found class {int(pictures.y.max())}, expected 0 to {classes - 1} (what "
            f"model '{captured.name}' tells apart)"
        )


def check_scores(brought: BroughtModule, x: npt.NDArray[np.uint8]) -> None:
    """Refuse a module whose scores of pictures (N, H, W, 3) are not finite numbers."""
    if not np.isfinite(brought.scores(x)).all():
        raise UsageError(
            f"model '{brought.name}': found scores that are not finite numbers, expected class "
            "scores for pictures scaled by --mean and --std"
        )
