"""A captured model: its operations in order, and everywhere the order can be cut.

`torch.export` gives the operations of an `nn.Module` in one order that respects every dependency.
A cut at k severs that order before operation k; what an earlier operation made and a later one
needs must cross it. Parameters and buffers never cross: both ends of a split hold the weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx

from artefacts import UsageError
from models.capture.dataflow import LEAST_RATIO

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Crossing:
    """One tensor that crosses a cut: its name, one sample's shape, its type and bytes."""

    name: str
    shape: Shape
    dtype: torch.dtype

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample as it is (no codec)."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Cut:
    """Before operation `at` (0: the input, the number of operations: the end) these cross."""

    at: int
    crossings: tuple[Crossing, ...]

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample that cross."""
        return sum(c.sample_bytes for c in self.crossings)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: its name in the graph, the operator, and where in the model it stands."""

    name: str
    operator: str
    module: str


class CapturedModel:
    """The operations of a model, runnable as a whole or by interval [start, stop).

    `run` takes the tensors that cross at `start`, by name, and gives those that cross at `stop`;
    the operations are the same, in the same order, whatever the interval, so a split gives
    exactly what the whole gives on the same machine.
    """

    def __init__(
        self,
        name: str,
        nodes: tuple[fx.Node, ...],
        constants: Mapping[str, Tensor],
        entry: fx.Node,
        result: fx.Node,
        trainable: frozenset[str] = frozenset(),
    ) -> None:
        self.name, self.trainable = name, trainable
        self._nodes, self._constants = nodes, dict(constants)
        self._entry, self._result = entry, result
        self._at = {entry: -1} | {node: k for k, node in enumerate(nodes)}
        self._last_use = self._last_uses()

    def __len__(self) -> int:
        return len(self._nodes)

    @property
    def constants(self) -> Mapping[str, Tensor]:
        """Parameters, buffers and constants by name; `trainable` says which are parameters."""
        return self._constants

    def with_constants(self, changed: Mapping[str, Tensor]) -> CapturedModel:
        """The same operations on other weights (shared, not copied)."""
        merged = self._constants | dict(changed)
        return CapturedModel(
            self.name, self._nodes, merged, self._entry, self._result, self.trainable
        )

    def begin(self, x: Tensor) -> dict[fx.Node, Any]:
        """The values before operation 0, for `step`."""
        return {self._entry: _checked(self.name, self.input, {self._entry.name: x})}

    def reads(self, at: int) -> list[str]:
        """Names of the constants that operation `at` reads."""
        return [n.name for n in self._nodes[at].all_input_nodes if n.name in self._constants]

    def step(self, at: int, values: dict[fx.Node, Any], batch: int) -> Any:
        """Compute operation `at` from the values before it; what it gives, kept there if needed."""
        node = self._nodes[at]
        given = values[node] = _call(node, values, self._constants, batch)
        for done in self._spent(at):
            values.pop(done, None)
        return given

    @cached_property
    def operations(self) -> tuple[Operation, ...]:
        """What is computed, in order."""
        return tuple(Operation(n.name, str(n.target), _module_of(n)) for n in self._nodes)

    @property
    def input(self) -> Crossing:
        """What crosses at 0."""
        return _crossing(self._entry)

    @property
    def output(self) -> Crossing:
        """What crosses at the end."""
        return _crossing(self._result)

    @cached_property
    def cuts(self) -> tuple[Cut, ...]:
        """Every place where the order can be cut, the two ends included.

        Not between an operation that gives several tensors at once and their taking apart, nor
        where a tensor is alive that does not keep the samples of a batch apart (folded windows, a
        recurrent layer's steps first).
        """
        found = []
        for at in range(len(self) + 1):
            live = self._live(at)
            if all(self._apart(n) for n in live):
                crossings = [_crossing(n) for n in live]
                found.append(Cut(at, tuple(sorted(crossings, key=lambda c: -c.sample_bytes))))
        return tuple(found)

    @cached_property
    def carried_cuts(self) -> tuple[Cut, ...]:
        """Cuts that one tensor crosses, or one and such as are made of small ones alone (a mask):
        the first of a cut's crossings is what exits hang at.
        """
        return tuple(cut for cut in self.cuts if self._is_carried(cut))

    def _is_carried(self, cut: Cut) -> bool:
        if len(cut.crossings) == 1:
            return True
        # lowering folds a padding into the convolution behind it: what then crosses is the tensor
        # that was padded, and it is that one which must be the greater
        carried = self._source(self._node(cut.crossings[0].name))
        others = {self._source(self._node(c.name)) for c in cut.crossings[1:]}
        beside = sum(_crossing(node).sample_bytes for node in others)
        return beside * LEAST_RATIO <= _crossing(carried).sample_bytes

    def _source(self, node: fx.Node) -> fx.Node:
        """The smallest value that this one is made of, and of nothing else of the input."""
        best = node
        while node is not self._entry:
            made = {s for s in node.all_input_nodes if s in self._made_of_input and not is_size(s)}
            weights = [self._constants.get(s.name) for s in node.all_input_nodes]
            if len(made) != 1 or any(w is not None and w.dim() > 1 for w in weights):
                break
            node = made.pop()
            smaller = self._apart(node) and _crossing(node).sample_bytes
            if smaller and smaller < _crossing(best).sample_bytes:
                best = node
        return best

    def cut(self, at: int) -> Cut:
        """The cut before operation `at`; refuses a place where there is none."""
        for cut in self.cuts:
            if cut.at == at:
                return cut
        raise UsageError(
            f"model '{self.name}': found cut {at}, expected one of "
            f"{_ranges(c.at for c in self.cuts)} (0 to {len(self)})"
        )

    def run(self, start: int, stop: int, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Operations [start, stop) on a batch; tensors by name in and out (see `Cut`)."""
        if not 0 <= start <= stop <= len(self):
            raise UsageError(
                f"model '{self.name}': found operations [{start}, {stop}), expected an interval "
                f"within [0, {len(self)})"
            )
        values: dict[fx.Node, Any] = {}
        for crossing in self.cut(start).crossings:
            values[self._node(crossing.name)] = _checked(self.name, crossing, tensors)
        batch = next(iter(values.values())).shape[0]
        for at in range(start, stop):
            self.step(at, values, batch)
        return {c.name: values[self._node(c.name)] for c in self.cut(stop).crossings}

    def whole(self, x: Tensor) -> Tensor:
        """The model's output for a batch."""
        return self.run(0, len(self), {self._entry.name: x})[self._result.name]

    # -- liveness --------------------------------------------------------------------------------

    def _last_uses(self) -> dict[fx.Node, int]:
        last: dict[fx.Node, int] = {self._result: len(self._nodes)}
        for at, node in enumerate(self._nodes):
            for source in node.all_input_nodes:
                if source in self._at:
                    last[source] = max(last.get(source, -1), at)
        return last

    def _live(self, at: int) -> list[fx.Node]:
        """Values made before operation `at` of the input, and needed from it on."""
        made = [self._entry, *self._nodes[:at]]
        return [n for n in made if n in self._made_of_input and self._last_use.get(n, -2) >= at]

    @cached_property
    def _made_of_input(self) -> frozenset[fx.Node]:
        """What depends on the samples. The rest (of weights, of the batch's size) either end of a
        cut makes for itself.
        """
        found = {self._entry}
        for node in self._nodes:
            if any(s in found for s in node.all_input_nodes if not is_size(s)):
                found.add(node)
        return frozenset(found)

    @property
    def uses_input(self) -> bool:
        """Whether what comes out is made of the samples at all."""
        return self._result in self._made_of_input

    @property
    def keeps_samples(self) -> bool:
        """Whether what comes out keeps the samples apart."""
        return self._apart(self._result)

    def _apart(self, node: fx.Node) -> bool:
        """Whether a value is one tensor, the samples first and every other size fixed."""
        value = node.meta["val"]
        if not isinstance(value, Tensor) or value.dim() < 1:
            return False
        batch = self._entry.meta["val"].shape[0]
        first = str(value.shape[0]) == str(batch)
        return first and not any(isinstance(s, torch.SymInt) for s in value.shape[1:])

    @cached_property
    def _ends(self) -> dict[int, list[fx.Node]]:
        ends: dict[int, list[fx.Node]] = {}
        for node, at in self._last_use.items():
            ends.setdefault(at, []).append(node)
        return ends

    def _spent(self, at: int) -> list[fx.Node]:
        """Values that nothing needs after operation `at`: their memory is let go."""
        return self._ends.get(at, [])

    def _node(self, name: str) -> fx.Node:
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, fx.Node]:
        return {node.name: node for node in self._at}


def _checked(model: str, crossing: Crossing, tensors: Mapping[str, Tensor]) -> Tensor:
    tensor = tensors.get(crossing.name)
    wanted = ", ".join(map(str, crossing.shape))
    if tensor is None:
        raise UsageError(
            f"model '{model}': found tensors {sorted(tensors)}, expected '{crossing.name}' "
            f"(N, {wanted})"
        )
    if tuple(tensor.shape[1:]) != crossing.shape or tensor.dtype != crossing.dtype:
        raise UsageError(
            f"model '{model}', tensor '{crossing.name}': found {tensor.dtype} of shape "
            f"{tuple(tensor.shape)}, expected {crossing.dtype} (N, {wanted})"
        )
    return tensor


def _crossing(node: fx.Node) -> Crossing:
    value = node.meta["val"]
    return Crossing(node.name, tuple(int(s) for s in value.shape[1:]), value.dtype)


def is_size(node: fx.Node) -> bool:
    """Whether a node is arithmetic on the batch's size: no operation, either end does it itself."""
    return isinstance(node.meta.get("val"), torch.SymInt | int)


def _call(
    node: fx.Node, values: dict[fx.Node, Any], constants: Mapping[str, Tensor], batch: int
) -> Any:
    def value_of(source: fx.Node) -> Any:
        if source in values:
            return values[source]
        if source.name in constants:
            return constants[source.name]
        # all that is left is made of the weights and of the batch's size
        if source.target is torch.ops.aten.sym_size.int:
            return batch
        return _call(source, values, constants, batch)

    args = fx.map_arg(node.args, value_of)
    kwargs = fx.map_arg(node.kwargs, value_of)
    target: Any = node.target
    return target(*args, **kwargs)


def _module_of(node: fx.Node) -> str:
    stack = node.meta.get("nn_module_stack") or {}
    return str(list(stack.values())[-1][0]) if stack else ""


def _ranges(numbers: Iterable[int]) -> str:
    """Numbers as ranges: 0-3, 7."""
    parts: list[list[int]] = []
    for n in numbers:
        if parts and n == parts[-1][1] + 1:
            parts[-1][1] = n
        else:
            parts.append([n, n])
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in parts)
