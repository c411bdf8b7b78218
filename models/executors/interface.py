"""What an executor is: it computes layer intervals and codecs; and what their answers mean."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol

import numpy.typing as npt

from artefacts import UsageError
from artefacts.arrays import Float32s
from models.codecs import Encoded
from models.facts.cards import Model
from models.facts.layers import LayerSpec
from models.graphs.coding import decode_at, encode_at


class Executor(Protocol):
    """Computes layers [start, stop) of a branch on a batch (N, *shape before layer start)."""

    def run(self, branch: int, start: int, stop: int, x: Float32s) -> Float32s:
        """The tensor after layer `stop` - 1, float32.

        `branch` is the exit, from 0; `x` is a float32 batch (N, *shape before layer `start`).
        """

    def encode(self, codec: str, branch: int, cut: int, x: npt.NDArray[Any]) -> Encoded:
        """What crosses before layer `cut`: a tensor (1, ...), or one raw sample.

        `codec` is a name, `branch` the exit, from 0; `x` is the tensor, or the sample as the
        model's preprocessing takes it.
        """

    def decode(
        self, codec: str, branch: int, cut: int, meta: Mapping[str, Any], data: bytes
    ) -> Float32s:
        """The batch of one that layer `cut` is given, from the bytes that crossed before it.

        `codec` is a name, `branch` the exit, from 0. `data` are the bytes, `meta` what came with
        them; both may come from anybody.
        """


class CodingExecutor(ABC):
    """Codes with a model's codecs; `layer` computes the networks of learned ones."""

    def __init__(self, model: Model) -> None:
        self.model = model

    @abstractmethod
    def layer(self, layer: LayerSpec, x: Float32s) -> Float32s:
        """One layer of the network on a batch."""

    def encode(self, codec: str, branch: int, cut: int, x: npt.NDArray[Any]) -> Encoded:
        """Encode a tensor (1, *shape before layer `cut`), or one raw sample.

        See `Executor.encode`.
        """
        return encode_at(self.model, self.layer, codec, branch, cut, x)

    def decode(
        self, codec: str, branch: int, cut: int, meta: Mapping[str, Any], data: bytes
    ) -> Float32s:
        """Decode to a batch of one; a raw sample comes back as the network's input.

        See `Executor.decode`.
        """
        return decode_at(self.model, self.layer, codec, branch, cut, meta, data)


def check_shape(model: Model, branch: int, start: int, x: Float32s) -> None:
    """Refuse a batch `x` that is not of the shape before layer `start` of branch `branch`.

    `model` says which that is.
    """
    model.spec.interval(branch, start, start)
    expected = model.spec.shapes[branch][start]
    if x.ndim < 1 or tuple(x.shape[1:]) != expected:
        raise UsageError(
            f"exit {branch + 1}, layer {start}: found a batch of shape {tuple(x.shape)}, "
            f"expected (N, {', '.join(map(str, expected))})"
        )
