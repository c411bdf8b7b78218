"""Outcomes of a model: every sample at every exit, under every codec at every device-first cut."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.cards import Model
from models.codecs import round_trip
from models.datasets import Pictures
from models.networks.network import BranchyNetwork
from models.outcomes import Key, Outcomes

LOSSY_CODECS = ("int8", "float16")


def judge(
    model: Model,
    pictures: Pictures,
    dataset: str,
    progress: Callable[[int, int], None] = lambda done, total: None,
    batch: int = 500,
) -> Outcomes:
    """Run all pictures once; a cut's tensor is encoded, decoded and carried on to the exit.

    A cut in the trunk is shared by every exit behind it, so each cut is continued once through
    the trunk rather than once for each exit.
    """
    network = BranchyNetwork(model.spec)
    network.load_folded(model.state)
    network.eval()
    parts: list[tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]] = []
    keys: tuple[Key, ...] = ()
    with torch.inference_mode():
        for start in range(0, len(pictures), batch):
            x = torch.from_numpy(model.normalise(pictures.x[start : start + batch]))
            found = _answers(network, x)
            keys = tuple(sorted(found))
            parts.append(_rows(found, keys))
            progress(min(start + batch, len(pictures)), len(pictures))
    chosen = np.concatenate([p[0] for p in parts], axis=1)
    sure = np.concatenate([p[1] for p in parts], axis=1)
    return Outcomes(model.digest, dataset, keys, chosen == pictures.y, sure, chosen)


def _rows(
    found: dict[Key, Tensor], keys: tuple[Key, ...]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    chosen, sure = [], []
    for key in keys:
        best, choice = torch.softmax(found[key], dim=1).max(dim=1)
        chosen.append(choice.numpy().astype(np.uint8))
        sure.append(np.rint(best.numpy() * 255.0).astype(np.uint8))
    return np.stack(chosen), np.stack(sure)


def _answers(network: BranchyNetwork, x: Tensor) -> dict[Key, Tensor]:
    spec = network.spec
    found: dict[Key, Tensor] = {}
    trunk = [x]
    for layer in spec.trunk:
        trunk.append(network.layer(layer.name)(trunk[-1]))
    for i, exit_spec in enumerate(spec.exits):
        heads = [trunk[exit_spec.after]]
        for layer in exit_spec.head:
            heads.append(network.layer(layer.name)(heads[-1]))
        found[(i, "float32", 0)] = heads[-1]
        for codec in LOSSY_CODECS:
            for k in range(1, len(exit_spec.head)):
                cut = exit_spec.after + k
                x_cut = _through(codec, heads[k])
                found[(i, codec, cut)] = network.run_interval(x_cut, i, cut, len(spec.branches[i]))
    for codec in LOSSY_CODECS:
        for cut in range(len(spec.trunk)):
            _continue(network, _through(codec, trunk[cut]), codec, cut, found)
    return found


def _continue(
    network: BranchyNetwork, x: Tensor, codec: str, cut: int, found: dict[Key, Tensor]
) -> None:
    """Carry a decoded trunk tensor to every exit at or behind the cut."""
    spec, at = network.spec, cut
    for i, exit_spec in enumerate(spec.exits):
        if exit_spec.after < cut:
            continue
        for layer in spec.trunk[at : exit_spec.after]:
            x = network.layer(layer.name)(x)
        at = exit_spec.after
        head = x
        for layer in exit_spec.head:
            head = network.layer(layer.name)(head)
        if cut < len(spec.branches[i]):
            found[(i, codec, cut)] = head


def _through(codec: str, x: Tensor) -> Tensor:
    return torch.from_numpy(round_trip(codec, x.numpy()))
