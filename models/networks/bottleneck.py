"""A learned bottleneck at one cut: encoder on the device, decoder on the edge, the rest frozen.

Trained by distillation (Hinton et al. 2015): behind the decoder every exit should say what it says
without one. The latent is bounded and rounded to its levels in training, with gradients passed
straight through (Bengio et al. 2013), so that what is trained is what crosses the wire.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from artefacts import UsageError
from models.capture.lower import lower_stretch
from models.codecs import Ranges
from models.facts.branchy import BottleneckSpec, BranchySpec
from models.facts.cards import State, model_digest
from models.facts.layers import LayerSpec, Shape
from models.networks.checkpoints import resume, save_checkpoint
from models.networks.network import BranchyNetwork

TOP = 6.0
"""The latent lies in [0, TOP], as behind a ReLU6."""
Batches = Callable[[int], Iterator[tuple[Tensor, Tensor]]]


@dataclass(frozen=True, slots=True)
class BottleneckArgs:
    """How a bottleneck is made and trained."""

    cut: int = 3
    """Trunk layers on the device before the encoder."""
    channels: int = 16
    """Of the latent, whose sides are half the tensor's."""
    bits: int = 4
    """Of every value of the latent: 4 or 8."""
    hidden: int = 64
    """Channels inside encoder and decoder."""
    epochs: int = 12
    """Passes over the training pictures."""
    learning_rate: float = 2e-3
    """Peak of Adam's cosine schedule."""
    temperature: float = 2.0
    """Of the distilled distributions."""
    feature_weight: float = 0.3
    """Of the decoded tensor's relative squared error beside the exits' divergences."""
    seed: int = 0
    """Of initialisation, order and augmentation."""


def _block(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    ]


def encoder(shape: Shape, args: BottleneckArgs) -> nn.Module:
    """(C, H, W) to a latent (channels, H / 2, W / 2) within [0, TOP]."""
    return nn.Sequential(
        *_block(shape[0], args.hidden, 3, 2), nn.ReLU6(),
        *_block(args.hidden, args.channels, 1), nn.ReLU6(),
    )  # fmt: skip


def decoder(shape: Shape, args: BottleneckArgs) -> nn.Module:
    """The latent back to (C, H, W): the edge has time for three convolutions."""
    return nn.Sequential(
        *_block(args.channels, 2 * args.hidden, 3), nn.ReLU6(),
        *_block(2 * args.hidden, 2 * args.hidden, 3), nn.ReLU6(),
        *_block(2 * args.hidden, 4 * shape[0], 1),
        nn.PixelShuffle(2),
    )  # fmt: skip


def rounded(latent: Tensor, bits: int) -> Tensor:
    """The latent at its levels; the gradient passes as if it had not been rounded."""
    levels = 2**bits - 1
    at = torch.round(latent * (levels / TOP)) * (TOP / levels)
    passed: Tensor = latent + (at - latent).detach()
    return passed


class Bottleneck(nn.Module):
    """Encoder, rounding, decoder."""

    def __init__(self, shape: Shape, args: BottleneckArgs) -> None:
        super().__init__()
        if len(shape) != 3 or shape[1] % 2 or shape[2] % 2:
            raise UsageError(
                f"bottleneck: found a tensor of shape {shape} at cut {args.cut}, expected "
                "(channels, even height, even width)"
            )
        self.encoder, self.decoder, self._bits = (
            encoder(shape, args),
            decoder(shape, args),
            args.bits,
        )

    def forward(self, x: Tensor) -> Tensor:
        """What the edge goes on with for a batch (N, C, H, W) at the cut."""
        found: Tensor = self.decoder(rounded(self.encoder(x), self._bits))
        return found


def train_bottleneck(
    spec: BranchySpec,
    weights: State,
    args: BottleneckArgs,
    batches: Batches,
    steps: int,
    held_back: Callable[[], Iterator[tuple[Tensor, Tensor]]],
    checkpoint: Path,
    report: Callable[[int, float, tuple[float, ...]], None],
    step: Callable[[int, int], None] = lambda done, total: None,
) -> Bottleneck:
    """Train at `args.cut`; resumes from `checkpoint`. `batches(epoch)` gives normalised pictures.

    `report(epoch, loss, held-back accuracy of every exit behind the cut)`.

    `spec` and `weights` are the network's, which stay as they are. `steps` is the batches of an
    epoch; `held_back` gives (pictures, classes) that choose; `step(done, total)` is called after
    every batch.
    """
    network = BranchyNetwork(spec)
    network.load_folded(weights)
    network.eval().requires_grad_(False)
    shape = spec.shapes[-1][args.cut]
    torch.manual_seed(args.seed)
    bottleneck = Bottleneck(shape, args)
    optimiser = torch.optim.Adam(bottleneck.parameters(), lr=args.learning_rate)
    total = steps * args.epochs
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda done: 0.5 * (1.0 + math.cos(math.pi * min(done / total, 1.0)))
    )
    parts = {"network": bottleneck, "optimiser": optimiser, "schedule": schedule}
    identity = {"args": asdict(args), "model": model_digest(spec, weights)}
    for epoch in range(resume(checkpoint, identity, parts), args.epochs):
        bottleneck.train()
        torch.manual_seed(args.seed * 100_003 + epoch)
        losses = []
        for done, (x, _) in enumerate(batches(epoch), 1):
            with torch.no_grad():
                tensor = network.run_interval(x, len(spec.exits) - 1, 0, args.cut)
                taught = exits_behind(network, tensor, args.cut)
            seen = bottleneck(tensor)
            loss = args.feature_weight * (seen - tensor).square().mean() / tensor.square().mean()
            for said, right in zip(exits_behind(network, seen, args.cut), taught, strict=True):
                loss = loss + _divergence(said, right, args.temperature)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            losses.append(float(loss.detach()))
            step(epoch * steps + done, total)
        save_checkpoint(checkpoint, identity, parts, epoch + 1)
        report(
            epoch + 1,
            float(np.mean(losses)),
            accuracies(network, bottleneck, args.cut, held_back()),
        )
    return bottleneck.eval()


def exits_behind(network: BranchyNetwork, x: Tensor, cut: int) -> list[Tensor]:
    """Logits of every exit that leaves at or behind trunk layer `cut`, from the tensor there."""
    found, at = [], cut
    for i, exit_spec in enumerate(network.spec.exits):
        if exit_spec.after < cut:
            continue
        x = network.run_interval(x, len(network.spec.exits) - 1, at, exit_spec.after)
        at = exit_spec.after
        found.append(network.run_interval(x, i, at, len(network.spec.branches[i])))
    return found


def accuracies(
    network: BranchyNetwork,
    bottleneck: Bottleneck,
    cut: int,
    pictures: Iterator[tuple[Tensor, Tensor]],
) -> tuple[float, ...]:
    """Share of pictures that every exit behind the bottleneck answers correctly.

    `network` is run with `bottleneck` before layer `cut`; `pictures` gives normalised pictures (N,
    C, H, W) and classes (N,).
    """
    bottleneck.eval()
    right = np.zeros(sum(e.after >= cut for e in network.spec.exits))
    count = 0
    with torch.inference_mode():
        for x, y in pictures:
            tensor = network.run_interval(x, len(network.spec.exits) - 1, 0, cut)
            said = exits_behind(network, bottleneck(tensor), cut)
            right = right + np.array([int((s.argmax(1) == y).sum()) for s in said])
            count += len(y)
    return tuple(float(r) for r in right / max(count, 1))


def lowered_bottleneck(
    spec: BranchySpec, trained: Bottleneck, args: BottleneckArgs
) -> tuple[BottleneckSpec, State, Ranges]:
    """The trained bottleneck as layers of the published network, and its latent's ranges."""
    shape, after = spec.shapes[-1][args.cut], spec.crossing(-1, args.cut)
    latent = (args.channels, shape[1] // 2, shape[2] // 2)
    layers: list[LayerSpec] = []
    state: State = {}
    for part, given in ((trained.encoder, shape), (trained.decoder, latent)):
        name = f"bottleneck.{after}.{'decoder' if layers else 'encoder'}"
        layer, weights = lower_stretch(part, torch.zeros(2, *given), name)
        layers.append(layer)
        state |= weights
    ends = np.zeros((2, args.channels), dtype=np.float32)
    ranges = Ranges(ends, ends + np.float32(TOP))
    return BottleneckSpec(args.cut, layers[0], layers[1], args.bits), state, ranges


def _divergence(said: Tensor, right: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence of softened distributions, times the temperature squared."""
    return temperature**2 * functional.kl_div(
        functional.log_softmax(said / temperature, dim=1),
        functional.log_softmax(right / temperature, dim=1),
        reduction="batchmean", log_target=True,
    )  # fmt: skip
