"""A torch module that is not ours, the samples it is judged on, and how it is taken in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from artefacts import UsageError
from models.capture.box_heads import BOX_HEAD_KINDS
from models.capture.graph import CapturedModel
from models.capture.heads import AUTO, HEAD_KINDS
from models.capture.placement import PLACEMENTS, RENAMED
from models.data.datasets import Samples, hold_back, judging_half
from models.facts.judges import NO_BOX
from models.facts.preprocessing import PictureInput
from models.networks.brought.exits.exit_goals import ClassGoal, ExitGoal
from models.networks.training import EpochReport
from models.networks.training_data import PlainSamples, Prepared, SmallPictures, plain_batches

Progress = Callable[[int, int], None]
BOX_VALUES = 5
"""Of a labelled box: class, left, top, right, bottom."""


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
    given: Prepared
    """How raw samples become its input."""
    goal: ExitGoal
    """What exits that are put in are to answer."""

    def batches(self, samples: Samples) -> Iterator[torch.Tensor]:
        """All samples in order, as the model takes them."""
        return (x for x, _ in plain_batches(samples, self.given, 50))

    def lessons(
        self, known: Samples, held: Samples, batch: int, seed: int
    ) -> SmallPictures | PlainSamples:
        """Batches of `batch` samples to train exits on, in an order by `seed`.

        `known` are trained on, `held` are for choices. Pictures of one class are varied: it stays
        the same where they are shifted and mirrored, which boxes do not.
        """
        if isinstance(self.given.preprocessing, PictureInput) and isinstance(self.goal, ClassGoal):
            return SmallPictures(known, held, batch, seed, 0, self.given)
        return PlainSamples(known, held, batch, seed, self.given)


@dataclass(frozen=True, eq=False)
class SampleUses:
    """Samples by use: trained on, held back for choices, judged; and what their labels are."""

    known: Samples
    held: Samples
    judged: Samples
    labelled: bool
    noun: str = "pictures"
    """What the samples are called."""
    generated: bool = False
    """Whether nobody gave any."""

    @classmethod
    def of(
        cls,
        samples: Samples,
        seed: int,
        labelled: bool,
        more: Samples | None = None,
        noun: str = "pictures",
        generated: bool = False,
    ) -> SampleUses:
        """Half of the `samples`, drawn by `seed`, train and choose; the other half judge.

        `more` samples of the same shape train and choose, too, and never judge. `labelled` says
        whether the labels are more than the network's own answers, `noun` what samples are called,
        `generated` whether nobody gave any.
        """
        mine, judged = (samples.take(half) for half in judging_half(samples, seed))
        if more is not None:
            x, y = (_together(*both) for both in ((mine.x, more.x), (mine.y, more.y)))
            mine = Samples(x, y, mine.classes)
        known, held = hold_back(mine, seed)
        if min(len(known), len(held), len(judged)) < 2:
            raise UsageError(f"{noun}: found {len(samples)}, expected 40 or more")
        return cls(known, held, judged, labelled, noun, generated)

    @property
    def described(self) -> str:
        """How many samples there are, and what is right."""
        count = len(self.known) + len(self.held) + len(self.judged)
        if self.labelled:
            return f"{count} labelled {self.noun}"
        made = "generated " if self.generated else ""
        return f"{count} {made}{self.noun}; right = agrees with the model as it was brought"


def _together(mine: npt.NDArray[Any], more: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Both, one behind the other; labels may have other numbers of boxes."""
    if mine.ndim == more.ndim == 3 and mine.shape[2] == more.shape[2] == BOX_VALUES:
        most = max(mine.shape[1], more.shape[1])
        mine, more = (_filled(one, most) for one in (mine, more))
    if mine.shape[1:] != more.shape[1:]:
        raise UsageError(
            f"--train-data: found samples or labels of shape {more.shape[1:]}, expected "
            f"{mine.shape[1:]}, as those of --data are"
        )
    return np.concatenate([mine, more])


def _filled(labels: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
    """Labels (N, M, 5) of `count` boxes each: what a sample has fewer of is none."""
    wide = ((0, 0), (0, count - labels.shape[1]), (0, 0))
    return np.pad(labels, wide, constant_values=NO_BOX)
