"""Exits put into a model that has none: where, which head, and the branchy network that results.

The trunk stays what it was, operation by operation: only what is added is trained, and the last
exit gives to the last bit what the model gave.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from artefacts import UsageError
from models.capture.graph import CapturedModel, Crossing, Cut
from models.capture.heads import head_of_kind, kinds_for

Batch = tuple[Tensor, Tensor]
NEAR_END = 0.95
"""Share of a network's compute, time or memory from which on a place is as dear as the end, and no
exit is put there unasked: what it could save is within what one machine's timings differ by from
run to run, while the end answers better.
"""


def candidate_points(model: CapturedModel) -> tuple[Cut, ...]:
    """Cuts that an exit can hang at: one float32 tensor, made inside the model.

    Of several cuts that the same tensor crosses the first stands.
    """
    found: dict[str, Cut] = {}
    for cut in model.carried_cuts:
        crossing = cut.crossings[0]
        inside = crossing.name not in (model.input.name, model.output.name)
        if inside and crossing.dtype is torch.float32 and crossing.shape:
            found.setdefault(crossing.name, cut)
    return tuple(found.values())


def named_points(model: CapturedModel, names: Sequence[str]) -> tuple[Cut, ...]:
    """The points behind which the tensors of these names cross, in the model's order."""
    points = {p.crossings[0].name: p for p in candidate_points(model)}
    for name in names:
        if name not in points:
            known = ", ".join(points)
            raise UsageError(
                f"exit after '{name}': found no such place in '{model.name}', expected some of "
                f"{known or 'none: no single float32 tensor crosses anywhere'}"
            )
    return tuple(sorted({points[name] for name in names}, key=lambda p: p.at))


@dataclass(frozen=True, slots=True)
class Probe:
    """What a briefly trained linear probe says of a point: held-back accuracy, and the cost."""

    cut: Cut
    accuracy: float
    cost: float


def first_reaching(probes: Sequence[Probe], accuracies: Sequence[float]) -> tuple[Cut, ...]:
    """For each accuracy the first of `probes` that reaches it; none for what none reaches.

    `probes` stand in the order of the network. A place that two accuracies come to counts once.
    """
    found = [
        next((p.cut for p in probes if p.accuracy >= least), None) for least in sorted(accuracies)
    ]
    return tuple(dict.fromkeys(cut for cut in found if cut is not None))


def pareto_points(probes: Sequence[Probe], count: int, whole_cost: float = 0.0) -> tuple[Cut, ...]:
    """At most `count` points on the front of accuracy against cost, spread along it.

    The front first; where it has more points than asked for, those that together dominate the
    greatest area are taken one by one: the area up to `whole_cost` (of the model itself, which is
    what an exit saves), or to the dearest point's where that is more. Points as dear as the model
    (`NEAR_END` of `whole_cost`, where that is given) are left out, unless all are: a network so
    small takes what single operations take, and only its profile can say what an exit saves.
    """
    if whole_cost > 0.0:
        probes = [p for p in probes if p.cost < NEAR_END * whole_cost] or probes
    front = [
        p for p in probes
        if not any(
            (q.accuracy >= p.accuracy and q.cost < p.cost)
            or (q.accuracy > p.accuracy and q.cost <= p.cost)
            for q in probes
        )
    ]  # fmt: skip
    worst = max(whole_cost, *(p.cost for p in probes))
    chosen: list[Probe] = []
    while len(chosen) < min(count, len(front)):
        left = [p for p in front if p not in chosen]
        chosen.append(max(left, key=lambda p: _dominated([*chosen, p], worst)))
    return tuple(p.cut for p in sorted(chosen, key=lambda p: p.cut.at))


def _dominated(points: Sequence[Probe], worst_cost: float) -> float:
    """Area between the staircase of `points` and (no accuracy, `worst_cost`)."""
    area, best = 0.0, 0.0
    ordered = sorted(points, key=lambda p: p.cost)
    for here, after in zip(ordered, [*ordered[1:], None], strict=True):
        best = max(best, here.accuracy)
        area += best * ((worst_cost if after is None else after.cost) - here.cost)
    return area


def probe_points(
    model: CapturedModel,
    points: Sequence[Cut],
    train: Iterable[Batch],
    held_back: Iterable[Batch],
    cost: Callable[[Cut], float],
    ridge: float = 1e-2,
) -> list[Probe]:
    """Held-back accuracy of a linear probe at every point: ridge regression on pooled features.

    One pass over each set, whatever the number of points; no seed, no steps to choose.

    `points` are cuts of `model`. `train` and `held_back` give batches of pictures (N, C, H, W) and
    classes (N,); `cost` gives what an exit at a point takes, in seconds or bytes. `ridge` is the
    weight of the penalty.
    """
    gram: dict[int, Tensor] = {}
    moment: dict[int, Tensor] = {}
    classes = int(model.output.shape[-1])
    for x, y in train:
        target = nn.functional.one_hot(y, classes).double()
        for at, features in _features(model, points, x):
            f = features.double()
            gram[at] = gram.get(at, 0.0) + f.T @ f
            moment[at] = moment.get(at, 0.0) + f.T @ target
    weights = ridge_weights(gram, moment, ridge)
    right, total = dict.fromkeys(weights, 0), 0
    for x, y in held_back:
        total += len(y)
        for at, features in _features(model, points, x):
            right[at] += int(((features.double() @ weights[at]).argmax(1) == y).sum())
    return [Probe(p, right[p.at] / max(total, 1), cost(p)) for p in points]


def ridge_weights(
    gram: dict[int, Tensor], moment: dict[int, Tensor], ridge: float
) -> dict[int, Tensor]:
    """Weights (F, V) of a ridge regression at every point.

    By the features' products `gram` (F, F), those with what is predicted `moment` (F, V), and the
    penalty's weight `ridge`.
    """
    weights = {}
    for at, g in gram.items():
        # each feature is penalised by its own power, so that their scales do not matter
        power = g.diagonal().clamp_min(1e-12)
        weights[at] = torch.linalg.solve(g + torch.diag(ridge * power), moment[at])
    return weights


def _features(
    model: CapturedModel, points: Sequence[Cut], x: Tensor
) -> Iterable[tuple[int, Tensor]]:
    """(point, pooled features with a constant 1) of one batch, the trunk computed once."""
    with torch.inference_mode():
        at, tensors = 0, {model.input.name: x}
        for point in points:
            tensors = model.run(at, point.at, tensors)
            at = point.at
            value = tensors[point.crossings[0].name]
            found = pooled(value)
            yield at, torch.cat([found, torch.ones(len(found), 1)], dim=1)


def pooled(value: Tensor) -> Tensor:
    """(N, C): mean over the picture of (N, C, H, W), over the tokens of (N, T, D)."""
    if value.dim() == 4:
        return value.mean(dim=(2, 3))
    return value.mean(dim=1) if value.dim() == 3 else value.flatten(1)


def default_head(crossing: Crossing, classes: int) -> nn.Module:
    """A small head for (C, H, W), (T, D) or (D,): looks around once, pools, decides."""
    return head_of_kind("conv" if "conv" in kinds_for(crossing) else "linear", crossing, classes)


class WithExits(nn.Module):
    """A captured model with exits: `forward` gives the logits of every exit, the model's own last.

    The trunk's weights are frozen unless `joint`; normalisations in it keep their statistics.
    """

    def __init__(
        self,
        model: CapturedModel,
        points: Sequence[Cut],
        heads: Sequence[nn.Module] | None = None,
        *,
        joint: bool = False,
    ) -> None:
        super().__init__()
        if sorted({p.at for p in points}) != [p.at for p in points]:
            raise UsageError(
                f"exits of '{model.name}': found points {[p.at for p in points]}, expected them "
                "in order and apart"
            )
        classes = int(model.output.shape[-1])
        if heads is None:
            heads = [default_head(p.crossings[0], classes) for p in points]
        if len(heads) != len(points):
            raise UsageError(f"heads: found {len(heads)}, expected {len(points)} (one a point)")
        weights = {
            # what is trained is a copy: the module that was captured stays what it was
            name: nn.Parameter(
                model.constants[name].clone() if joint else model.constants[name],
                requires_grad=joint,
            )
            for name in sorted(model.trainable)
        }
        self.trunk_weights = nn.ParameterDict(weights)
        self.model = model.with_constants(weights)
        self.points, self.heads, self.joint = tuple(points), nn.ModuleList(heads), joint
        self.exit_count = len(points) + 1
        # another memory layout takes other kernels, which round otherwise
        self.channels_last = joint
        # heads on a trunk that stays learn each by itself
        self.apart = () if joint else self.heads
        self.identity = (
            f"{model.name}, {len(model)} operations, exits at {[p.at for p in points]}, "
            f"{'jointly' if joint else 'heads only'}, weights {_digest(model)}"
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Logits (N, classes) of every exit for a batch (N, ...)."""
        logits: list[Tensor] = []
        at, tensors = 0, {self.model.input.name: x}
        for point, head in zip(self.points, self.heads, strict=True):
            tensors = self._trunk(at, point.at, tensors)
            at = point.at
            logits.append(head(tensors[point.crossings[0].name]))
        return [*logits, self._trunk(at, len(self.model), tensors)[self.model.output.name]]

    def _trunk(self, start: int, stop: int, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        with torch.set_grad_enabled(self.joint and torch.is_grad_enabled()):
            return self.model.run(start, stop, tensors)


def _digest(model: CapturedModel) -> str:
    """What tells one model's weights from another's of the same architecture."""
    digest = hashlib.sha256()
    for name in sorted(model.constants):
        digest.update(name.encode())
        digest.update(model.constants[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
