"""The heads of exits that were put into a module: which kind each is, and their training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from artefacts import digest_bytes, ready_folder
from artefacts.owners import temporary_folder
from models.capture.exits import WithExits
from models.capture.graph import CapturedModel, Cut
from models.capture.heads import AUTO
from models.capture.own_blocks import OwnBlocks, blocks_before
from models.networks.brought.brought_module import Listener, ProfileArgs
from models.networks.brought.exit_goals import ExitGoal
from models.networks.brought.factories import HeadFactory
from models.networks.brought.head_choice import choose, measured, said
from models.networks.brought.trunk_features import HeadsAlone, KeptFeatures, augmentations_that_fit
from models.networks.training import TrainingArgs, train
from models.networks.training_data import PlainSamples, SmallPictures

LEAST_PATIENCE = 5


@dataclass(frozen=True, slots=True)
class HeadRun:
    """What heads are made for and trained on."""

    captured: CapturedModel
    points: tuple[Cut, ...]
    """The places of the exits."""
    given: str
    """The pictures and how they are scaled, in words that tell runs apart."""
    head: HeadFactory | None
    """The user's own; None: a kind of ours."""
    data: SmallPictures | PlainSamples
    folder: Path
    args: ProfileArgs
    network_s: Callable[[], float]
    """Seconds of the whole network, one sample, on this machine; measured when it is asked for."""
    goal: ExitGoal
    """What the exits are to answer."""

    @property
    def leaves(self) -> tuple[Cut, ...]:
        """Where the exits leave the trunk: before the blocks that they have for themselves."""
        return blocks_before(self.captured, self.points, self.args.own_blocks)

    def made(self, kinds: Sequence[str]) -> list[nn.Module]:
        """New heads, one an exit, of these kinds (an empty name: the user's own head)."""
        classes = int(self.captured.output.shape[0])
        heads = []
        for point, leave, kind in zip(self.points, self.leaves, kinds, strict=True):
            crossing = point.crossings[0]
            if self.head is not None:
                head = self.head(crossing.shape, classes)
            elif kind == DEFAULT:
                head = self.goal.usual_head(crossing)
            else:
                head = self.goal.head(kind, crossing)
            if leave.at < point.at:
                head = nn.Sequential(OwnBlocks(self.captured, leave, point), head)
            heads.append(head)
        return heads

    @property
    def kinds(self) -> list[tuple[str, ...]]:
        """The kinds that come into question at every exit."""
        kind = self.args.head_kind
        if self.head is not None:
            return [("own",)] * len(self.points)
        if kind == AUTO:
            return [self.goal.kinds(p.crossings[0]) for p in self.points]
        return [(kind,)] * len(self.points)

    @property
    def training(self) -> TrainingArgs:
        """How the heads are trained."""
        epochs = self.args.epochs
        return TrainingArgs(
            epochs=epochs, batch=64, learning_rate=self.goal.learning_rate, weight_decay=1e-4,
            cutout=0, exit_weights=(1.0,) * (len(self.points) + 1), bfloat16=False,
            seed=self.args.seed, distillation=self.args.distillation,
            patience=max(LEAST_PATIENCE, epochs // 4),
        )  # fmt: skip


DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class ChosenHeads:
    """The kind of every exit's head, and why."""

    kinds: tuple[str, ...]
    why: tuple[str, ...]


def trained(
    run: HeadRun,
    listener: Listener,
    kept: ChosenHeads | None,
    keep: Callable[[ChosenHeads], None],
) -> WithExits:
    """The module with trained heads; with `joint_epochs` everything is trained after them.

    `run` says of what and how; `listener` hears of the progress. `kept` are the kinds that an
    interrupted run chose; otherwise they are chosen here and given to `keep`.
    """
    bare = _whole(run, [nn.Identity() for _ in run.points], "")
    augmentations = augmentations_that_fit(bare, run.data, run.args.epochs, run.folder)
    ready_folder(run.folder)
    with temporary_folder("features", run.folder) as place:
        features = KeptFeatures(bare, run.data, place, augmentations) if augmentations > 0 else None
        if features is not None:
            features.progress = _heard(listener, "features of the trunk")
        if kept is None:
            kept = _chosen(run, bare, features, listener)
            keep(kept)
        torch.manual_seed(run.args.seed)
        whole = _whole(run, run.made(kept.kinds), repr(kept.kinds))
        _train_heads(whole, run, features, listener)
    if not run.args.joint_epochs:
        return whole
    listener.stage("everything")
    joint = WithExits(run.captured, run.leaves, list(whole.heads), joint=True)
    joint.identity += f"{_identity(run, whole)}, after {run.args.epochs} epochs of heads"
    slower = replace(
        run.training, epochs=run.args.joint_epochs, learning_rate=0.01, distillation=0.0,
        keep_start=True,
    )  # fmt: skip
    checkpoint = run.folder / "joint.pt"
    train(joint, slower, run.data, checkpoint, listener.epoch, listener.step)
    return joint


def _heard(listener: Listener, stage: str) -> Callable[[int, int], None]:
    """What is called with the steps of a stage that is done, and of all; it says the stage, too."""

    def step(done: int, total: int) -> None:
        listener.stage(stage)
        listener.step(done, total)

    return step


def _whole(run: HeadRun, heads: list[nn.Module], kinds: str) -> WithExits:
    whole = WithExits(run.captured, run.leaves, heads)
    whole.identity += _identity(run, whole) + kinds
    return whole


def _identity(run: HeadRun, whole: WithExits) -> str:
    return f"{run.given}, heads {digest_bytes(repr(whole.heads).encode())[:16]}"


def _chosen(
    run: HeadRun,
    bare: WithExits,
    features: KeptFeatures | None,
    listener: Listener,
) -> ChosenHeads:
    """The kinds of the heads: measured where several come into question and features are kept."""
    kinds = run.kinds
    if all(len(of_exit) == 1 for of_exit in kinds):
        named = tuple(of_exit[0] for of_exit in kinds)
        return ChosenHeads(named, tuple(f"head {kind}, as given" for kind in named))
    if features is None:
        why = "the usual head: the trunk's features are too large to be kept and measured on"
        return ChosenHeads((DEFAULT,) * len(kinds), (why,) * len(kinds))
    torch.manual_seed(run.args.seed)
    columns = [[of_exit[min(k, len(of_exit) - 1)] for of_exit in kinds] for k in range(8)]
    made = [run.made(column) for column in columns[: max(map(len, kinds))]]
    heads = [[made[k][i] for k in range(len(of_exit))] for i, of_exit in enumerate(kinds)]

    found = measured(
        bare, kinds, heads, features, run.training, _heard(listener, "kinds of heads"),
        run.goal.marking,
    )  # fmt: skip
    network_s = run.network_s()
    best = [choose(candidates, network_s) for candidates in found]
    return ChosenHeads(
        tuple(c[k].kind for c, k in zip(found, best, strict=True)),
        tuple(said(c, k, network_s) for c, k in zip(found, best, strict=True)),
    )


def _train_heads(
    whole: WithExits, run: HeadRun, features: KeptFeatures | None, listener: Listener
) -> None:
    """Train the heads on what the frozen trunk gave once; where that is too much, through it."""
    checkpoint = run.folder / "checkpoint.pt"

    step = _heard(listener, "exits")
    if features is None:
        train(whole, run.training, run.data, checkpoint, listener.epoch, step, run.goal.marking)
    else:
        alone = HeadsAlone(whole)
        train(alone, run.training, features, checkpoint, listener.epoch, step, run.goal.marking)
