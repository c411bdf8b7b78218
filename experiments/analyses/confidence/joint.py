"""Heads trained together with their gates, after JEI-DNN (Regol et al., ICLR 2024).

For every price on compute a set of heads of its own: each epoch weighs a head's cross-entropy by
the gates' probability of stopping there, then the gates are trained anew on the held-back pictures.
The trunk and the last exit stay as they are, so one pass over them serves every price.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from artefacts.arrays import Floats
from experiments.analyses.confidence.gates import PRICES, Gates, train_gates
from experiments.analyses.confidence.records import FORMAT_VERSION, JointPoint, JointRecord
from models.facts.branchy import BranchySpec
from models.facts.cards import Model
from models.facts.confidence import Labels, calibrated, fit_temperature, stopped
from models.networks.checkpoints import resume, save_checkpoint
from models.networks.network import BranchyNetwork
from models.networks.training_data import Batch, TrainingData

GREATEST_GRADIENT = 1.0


@dataclass(frozen=True, slots=True)
class JointArgs:
    """Everything that decides a run."""

    prices: tuple[float, ...] = (0.01, 0.05, 0.15, 0.4, 1.0, 3.0)
    """Of the whole network's compute, in nats of cross-entropy."""
    epochs: int = 4
    """Passes over the training pictures."""
    learning_rate: float = 0.002
    """Of the heads' SGD (momentum 0.9), falling linearly to a tenth."""
    seed: int = 0
    """Of dropout; order and augmentation are the data's."""


class _Heads(nn.Module):
    """The heads of every exit but the last, once for each price."""

    def __init__(self, network: BranchyNetwork, prices: int) -> None:
        super().__init__()
        layers = [[network.layer(x.name) for x in e.head] for e in network.spec.exits[:-1]]
        own = [nn.ModuleList([nn.Sequential(*copy.deepcopy(head)) for head in layers])]
        self.sets = nn.ModuleList([copy.deepcopy(own[0]) for _ in range(prices)])

    def logits(self, k: int, points: list[Tensor], last: Tensor) -> list[Tensor]:
        """Every exit's logits by the heads of price `k`."""
        heads: Any = self.sets[k]
        return [*(head(x) for head, x in zip(heads, points, strict=True)), last]


@dataclass(frozen=True)
class _Judge:
    """One price's temperatures and gates, from the held-back pictures."""

    temperatures: tuple[float, ...]
    gates: Gates
    logits: npt.NDArray[np.float64]

    def scaled(self, logits: npt.NDArray[np.floating]) -> Floats:
        """Calibrated probabilities (E, N, C) of logits."""
        return calibrated(logits, self.temperatures)


def train_jointly(
    model: Model,
    data: TrainingData,
    judged: Callable[[], Iterable[Batch]],
    judged_on: str,
    cost: Floats,
    args: JointArgs,
    checkpoint: Path,
    report: Callable[[int, tuple[JointPoint, ...]], None],
    step: Callable[[int, int], None] = lambda done, total: None,
) -> JointRecord:
    """Train; resumes from `checkpoint`. `cost` (E,): share of the compute up to each exit.

    `judged`: batches of the pictures that figures are of; run once, at the end. `report` is given
    the epoch and every price's point so far (held-back figures; the judged ones are not known yet).

    `model` gives the weights to begin with, `data` the batches; `judged_on` names the pictures of
    `judged`. `args` say how, `step(done, total)` is called after every batch.
    """
    network = BranchyNetwork(model.spec)
    network.load_folded(model.state)
    network.eval().requires_grad_(False)
    torch.manual_seed(args.seed)
    heads = _Heads(network, len(args.prices)).requires_grad_(True)
    optimiser = torch.optim.SGD(heads.parameters(), lr=args.learning_rate, momentum=0.9)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda epoch: 1.0 - 0.9 * min(epoch / args.epochs, 1.0)
    )
    parts = {"heads": heads, "optimiser": optimiser, "schedule": schedule}
    identity = {"args": repr(asdict(args)), "model": model.digest}
    run = _Run(network, heads, optimiser, cost, args)
    first = resume(checkpoint, identity, parts)
    judges, labels = run.judges(data.held_back())
    for epoch in range(first, args.epochs):
        torch.manual_seed(args.seed * 100_003 + epoch)
        for done, (x, y) in enumerate(data.epoch(epoch), 1):
            run.learn(x, y, judges)
            step(epoch * data.steps + done, args.epochs * data.steps)
        schedule.step()
        save_checkpoint(checkpoint, identity, parts, epoch + 1)
        judges, labels = run.judges(data.held_back())
        report(epoch + 1, run.points(judges, labels))
    found, right = run.logits(judged())
    return JointRecord(
        FORMAT_VERSION, model.spec.name, model.digest, judged_on,
        asdict(args) | {"torch": str(torch.__version__)},
        run.judged_points(judges, labels, found, right),
    )  # fmt: skip


@dataclass(frozen=True)
class _Run:
    network: BranchyNetwork
    heads: _Heads
    optimiser: torch.optim.Optimizer
    cost: Floats
    args: JointArgs

    def learn(self, x: Tensor, y: Tensor, judges: list[_Judge]) -> None:
        """One step of every price's heads; the gates stand still."""
        self.heads.train()
        points, last = self._trunk(x)
        loss = torch.zeros(())
        for k, judge in enumerate(judges):
            logits = self.heads.logits(k, points, last)
            seen = np.stack([one.detach().numpy() for one in logits])
            share = torch.from_numpy(judge.gates.shares(judge.scaled(seen))).float()
            for one, weight in zip(logits[:-1], share, strict=False):
                crossed = nn.functional.cross_entropy(one, y, reduction="none")
                loss = loss + (weight * crossed).mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for own in self.heads.sets:
            # heads without normalisation fall apart where all of a batch's weight is theirs
            torch.nn.utils.clip_grad_norm_(own.parameters(), GREATEST_GRADIENT)
        self.optimiser.step()

    def judges(self, batches: Iterable[Batch]) -> tuple[list[_Judge], Labels]:
        """Temperatures and gates of every price, trained on the held-back pictures."""
        logits, labels = self.logits(batches)
        found = []
        for price, own in zip(self.args.prices, logits, strict=True):
            temperatures = tuple(fit_temperature(one, labels) for one in own)
            p = calibrated(own, temperatures)
            found.append(_Judge(temperatures, train_gates(p, labels, self.cost, price), own))
        return found, labels

    def logits(self, batches: Iterable[Batch]) -> tuple[list[npt.NDArray[np.float64]], Labels]:
        """Of every price (E, N, C), and the classes (N,)."""
        self.heads.eval()
        found: list[list[npt.NDArray[np.float64]]] = [[] for _ in self.args.prices]
        labels = []
        with torch.no_grad():
            for x, y in batches:
                points, last = self._trunk(x)
                for k, own in enumerate(found):
                    stacked = torch.stack(self.heads.logits(k, points, last))
                    own.append(stacked.double().numpy())
                labels.append(y.numpy())
        return [np.concatenate(own, axis=1) for own in found], np.concatenate(labels)

    def points(self, judges: list[_Judge], labels: Labels) -> tuple[JointPoint, ...]:
        """Where every price's heads and gates are, on the held-back pictures."""
        return tuple(
            self._point(price, price, judge, judge.gates, (judge.logits, labels), None)
            for price, judge in zip(self.args.prices, judges, strict=True)
        )

    def judged_points(
        self,
        judges: list[_Judge],
        labels: Labels,
        found: list[npt.NDArray[np.float64]],
        right: Labels,
    ) -> tuple[JointPoint, ...]:
        """Every price's heads with gates of every price in `PRICES`, on the judged pictures too."""
        made = []
        for k, judge in enumerate(judges):
            p = judge.scaled(judge.logits)
            for price in PRICES:
                gates = train_gates(p, labels, self.cost, price)
                known = (judge.logits, labels)
                made.append(
                    self._point(self.args.prices[k], price, judge, gates, known, (found[k], right))
                )
        return tuple(made)

    def _point(
        self,
        price: float,
        gate_price: float,
        judge: _Judge,
        gates: Gates,
        known: tuple[npt.NDArray[np.float64], Labels],
        judged: tuple[npt.NDArray[np.float64], Labels] | None,
    ) -> JointPoint:
        logits, labels = judged or known
        exits = tuple(float(a) for a in (logits.argmax(axis=-1) == labels).mean(axis=1))
        return JointPoint(
            price, gate_price, judge.temperatures, *self._stopped(judge, gates, *known),
            *self._stopped(judge, gates, logits, labels), exits,
        )  # fmt: skip

    def _stopped(
        self, judge: _Judge, gates: Gates, logits: npt.NDArray[np.float64], labels: Labels
    ) -> tuple[float, float]:
        right = logits.argmax(axis=-1) == labels
        return stopped(gates.ends(judge.scaled(logits)), right, self.cost)

    def _trunk(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """The tensors at every early exit's point, and the last exit's logits."""
        spec: BranchySpec = self.network.spec
        points, at, last = [], 0, len(spec.exits) - 1
        with torch.no_grad():
            for exit_spec in spec.exits[:-1]:
                x = self.network.run_interval(x, last, at, exit_spec.after)
                at = exit_spec.after
                points.append(x)
            return points, self.network.run_interval(x, last, at, len(spec.branches[last]))


def report_half(batches: Iterator[Batch], index: npt.NDArray[np.int64]) -> Iterator[Batch]:
    """Of batches in order, the samples at `index` (ascending)."""
    start = 0
    for x, y in batches:
        mine = index[(index >= start) & (index < start + len(y))] - start
        start += len(y)
        if len(mine):
            yield x[mine], y[mine]
