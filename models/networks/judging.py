"""Outcomes of a model: every sample at every exit, under every codec at every device-first cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.cards import Model
from models.codecs import (
    carries_picture,
    decode,
    encode,
    is_exact,
    needs_ranges,
    round_trip,
)
from models.datasets import Pictures
from models.networks.network import BranchyNetwork
from models.outcomes import Key, Outcomes

LOSSY_CODECS = ("int8", "float16")
PACKED_SAMPLES = 256
"""Samples (the first) whose packed bytes are averaged: packing one by one takes its time."""


def judge(
    model: Model,
    pictures: Pictures,
    dataset: str,
    progress: Callable[[int, int], None] = lambda done, total: None,
    batch: int = 500,
    codecs: Sequence[str] = LOSSY_CODECS,
) -> Outcomes:
    """Run all pictures once; what crosses is encoded, decoded and carried on to the exit.

    A cut in the trunk is shared by every exit behind it, so each cut is continued once through
    the trunk rather than once for each exit. Of packed codecs only the bytes are recorded: their
    answers are those of the codec that is packed.
    """
    network = BranchyNetwork(model.spec)
    network.load_folded(model.state)
    network.eval()
    judged = _Judged(model, network, codecs)
    parts: list[tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]] = []
    logits: list[npt.NDArray[np.float16]] = []
    keys: tuple[Key, ...] = ()
    with torch.inference_mode():
        for start in range(0, len(pictures), batch):
            found = judged.answers(pictures.x[start : start + batch])
            keys = tuple(sorted(found))
            parts.append(_rows(found, keys))
            exits = [found[(i, "float32", 0)] for i in range(len(model.spec.exits))]
            logits.append(torch.stack(exits).numpy().astype(np.float16))
            progress(min(start + batch, len(pictures)), len(pictures))
    chosen = np.concatenate([p[0] for p in parts], axis=1)
    sure = np.concatenate([p[1] for p in parts], axis=1)
    right = chosen == pictures.y
    return Outcomes(
        model.digest, dataset, keys, right, sure, chosen, judged.mean_bytes(),
        np.concatenate(logits, axis=1),
    )  # fmt: skip


def _rows(
    found: dict[Key, Tensor], keys: tuple[Key, ...]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    chosen, sure = [], []
    for key in keys:
        best, choice = torch.softmax(found[key], dim=1).max(dim=1)
        chosen.append(choice.numpy().astype(np.uint8))
        sure.append(np.rint(best.numpy() * 255.0).astype(np.uint8))
    return np.stack(chosen), np.stack(sure)


class _Judged:
    """A model's answers to batches of pictures under every codec, and the bytes those took."""

    def __init__(self, model: Model, network: BranchyNetwork, codecs: Sequence[str]) -> None:
        self._model, self._network = model, network
        self._pictures = [c for c in codecs if carries_picture(c) and not is_exact(c)]
        tensors = [c for c in codecs if not carries_picture(c)]
        lossy = [c.removesuffix("+zstd") for c in tensors]
        self._lossy = tuple(dict.fromkeys(c for c in lossy if not is_exact(c)))
        self._packed = [c for c in tensors if c.endswith("+zstd")]
        self._sent: dict[Key, list[int]] = {}

    def mean_bytes(self) -> dict[Key, float]:
        """Mean bytes of every codec whose bytes depend on what it carries."""
        return {key: float(np.mean(sent)) for key, sent in sorted(self._sent.items())}

    def answers(self, pictures: npt.NDArray[np.uint8]) -> dict[Key, Tensor]:
        """Logits by exit, codec and cut."""
        spec, network = self._model.spec, self._network
        found: dict[Key, Tensor] = {}
        trunk = [torch.from_numpy(self._model.normalise(pictures))]
        for layer in spec.trunk:
            trunk.append(network.layer(layer.name)(trunk[-1]))
        for i, exit_spec in enumerate(spec.exits):
            heads = [trunk[exit_spec.after]]
            for layer in exit_spec.head:
                heads.append(network.layer(layer.name)(heads[-1]))
            found[(i, "float32", 0)] = heads[-1]
            for k in range(1, len(exit_spec.head)):
                self._cross_head(i, exit_spec.after + k, heads[k], found)
        for cut in range(len(spec.trunk)):
            for codec in self._lossy:
                if cut > 0 or not needs_ranges(codec):
                    self._continue(self._through(codec, trunk[cut], -1, cut), codec, cut, found)
            if cut > 0:
                behind = [i for i, e in enumerate(spec.exits) if e.after >= cut]
                self._pack(trunk[cut], cut, [i for i in behind if cut < len(spec.branches[i])])
        for codec in self._pictures:
            seen = torch.from_numpy(self._model.normalise(self._sent_pictures(codec, pictures)))
            self._continue(seen, codec, 0, found)
        return found

    def _cross_head(self, exit_: int, cut: int, x: Tensor, found: dict[Key, Tensor]) -> None:
        stop = len(self._model.spec.branches[exit_])
        for codec in self._lossy:
            there = self._through(codec, x, exit_, cut)
            found[(exit_, codec, cut)] = self._network.run_interval(there, exit_, cut, stop)
        self._pack(x, cut, [exit_])

    def _continue(self, x: Tensor, codec: str, cut: int, found: dict[Key, Tensor]) -> None:
        """Carry a decoded trunk tensor to every exit at or behind the cut."""
        network, spec, at = self._network, self._model.spec, cut
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

    def _through(self, codec: str, x: Tensor, branch: int, cut: int) -> Tensor:
        ranges = self._model.ranges_at(branch, cut)
        return torch.from_numpy(round_trip(codec, x.numpy(), ranges))

    def _pack(self, x: Tensor, cut: int, exits: Sequence[int]) -> None:
        for codec in self._packed if exits else ():
            known = self._sent.setdefault((exits[0], codec, cut), [])
            ranges = self._model.ranges_at(exits[0], cut)
            for one in x.numpy()[: max(PACKED_SAMPLES - len(known), 0)]:
                known.append(len(encode(codec, one, ranges).data))
            for i in exits[1:]:
                self._sent[(i, codec, cut)] = known

    def _sent_pictures(self, codec: str, pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        seen = []
        for picture in pictures:
            encoded = encode(codec, picture)
            for i in range(len(self._model.spec.exits)):
                self._sent.setdefault((i, codec, 0), []).append(len(encoded.data))
            seen.append(decode(codec, encoded.meta, encoded.data, picture.shape))
        return np.stack(seen)
