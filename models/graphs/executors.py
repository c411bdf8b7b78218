"""Who computes layer intervals and codecs: ONNX Runtime, torch, or either at a profile's pace."""

from __future__ import annotations

import itertools
import threading
import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from artefacts import DependencyError, UsageError, usable_cpus
from artefacts.arrays import Float32s
from models.codecs import Encoded
from models.facts.cards import Model
from models.facts.layers import LayerSpec
from models.facts.profiles import Profile
from models.graphs.coding import decode_at, encode_at
from models.graphs.graph_cache import cached_graph

if TYPE_CHECKING:
    from models.graphs.quantisation import Activations

MOST_SESSIONS = 1024
"""Held at once: an edge sets its own bound."""
PRECISIONS = ("float32", "int8")


class Executor(Protocol):
    """Computes layers [start, stop) of a branch on a batch (N, *shape before layer start)."""

    def run(self, branch: int, start: int, stop: int, x: Float32s) -> Float32s:
        """The tensor after layer `stop` - 1, float32."""

    def encode(self, codec: str, branch: int, cut: int, x: npt.NDArray[Any]) -> Encoded:
        """What crosses before layer `cut`: a tensor (1, ...), or a picture (H, W, 3) uint8."""

    def decode(
        self, codec: str, branch: int, cut: int, meta: Mapping[str, Any], data: bytes
    ) -> Float32s:
        """The batch of one that layer `cut` is given, from the bytes that crossed before it."""


class _Codes(ABC):
    """Codes with a model's codecs; `layer` computes the networks of learned ones."""

    def __init__(self, model: Model) -> None:
        self._model = model

    @abstractmethod
    def layer(self, layer: LayerSpec, x: Float32s) -> Float32s:
        """One layer of the network on a batch."""

    def encode(self, codec: str, branch: int, cut: int, x: npt.NDArray[Any]) -> Encoded:
        """Encode a tensor (1, *shape before layer `cut`), or a picture (H, W, 3) uint8."""
        return encode_at(self._model, self.layer, codec, branch, cut, x)

    def decode(
        self, codec: str, branch: int, cut: int, meta: Mapping[str, Any], data: bytes
    ) -> Float32s:
        """Decode to a batch of one; a picture comes back as the network's input."""
        return decode_at(self._model, self.layer, codec, branch, cut, meta, data)


class OnnxExecutor(_Codes):
    """ONNX Runtime on the CPU; a session per interval, made at first use or by warm.

    `precision` 'int8' needs the model's `activations.json` (see `models.graphs.quantisation`). At
    `seams` (trunk layers) intervals are run piece by piece: the same layers are then held once,
    however many intervals they are in, for some microseconds a piece. Of more than `most` sessions
    the one used longest ago goes.
    """

    def __init__(
        self,
        model: Model,
        threads: int = 1,
        precision: str = "float32",
        seams: Collection[int] = (),
        most: int = MOST_SESSIONS,
    ) -> None:
        from models.graphs.onnx_runtime import onnxruntime

        super().__init__(model)
        self._seams = sorted(set(seams))
        self._runtime = onnxruntime
        self._options = onnxruntime.SessionOptions()
        self._options.intra_op_num_threads = threads
        self._options.inter_op_num_threads = 1
        self._options.log_severity_level = 3
        # sessions stand side by side: threads that wait in a loop would take each other's cores,
        # and an arena of its own for each takes more memory than the weights
        self._options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._options.add_session_config_entry("session.use_env_allocators", "1")
        _share_arena(onnxruntime)
        self._sessions: OrderedDict[Any, Any] = OrderedDict()
        self._most = most
        self._lock = threading.Lock()
        if precision not in PRECISIONS:
            raise UsageError(f"precision: found '{precision}', expected {' or '.join(PRECISIONS)}")
        self._activations: Activations | None = None
        if precision == "int8":
            from models.graphs.quantisation import read_activations

            self._activations = read_activations(model)

    def warm(self, branch: int, start: int, stop: int) -> None:
        """Make an interval's session and run it once."""
        shape = self._model.spec.shapes[branch][start]
        self.run(branch, start, stop, np.zeros((1, *shape), dtype=np.float32))

    def run(self, branch: int, start: int, stop: int, x: Float32s) -> Float32s:
        """Compute the interval; an empty one gives `x` back."""
        if start == stop:
            return x
        _check_shape(self._model, branch, start, x)
        after = self._model.spec.exits[branch].after
        inside = [s for s in self._seams if start < s < stop and s <= after]
        for a, b in itertools.pairwise([start, *inside, stop]):
            (x,) = self._session(branch, a, b).run(None, {"x": np.ascontiguousarray(x)})
        return np.asarray(x, dtype=np.float32)

    def layer(self, layer: LayerSpec, x: Float32s) -> Float32s:
        """One layer alone, by its own session."""
        shapes = (x.shape[1:], layer.output_shape(x.shape[1:]))

        def graph() -> bytes:
            from models.graphs.onnx_graph import (
                chain_model,  # graphs on disk need no onnx in memory
            )

            return chain_model(layer.name, [layer], shapes, self._model.parameters)

        session = self._made(layer.name, graph)
        return np.asarray(session.run(None, {"x": np.ascontiguousarray(x)})[0], dtype=np.float32)

    def _session(self, branch: int, start: int, stop: int) -> Any:
        model, seen = self._model, self._activations
        if stop <= model.spec.exits[branch].after:
            branch = len(model.spec.exits) - 1  # the trunk is every branch's
        key = (branch, start, stop)
        where = f"exit{branch + 1}-{start}-{stop}"
        name = f"float32-{where}" if seen is None else f"int8-{seen.digest[:12]}-{where}"

        def graph() -> bytes:
            if seen is None:
                from models.graphs.onnx_graph import interval_model

                return interval_model(model.spec, model.parameters, *key)
            from models.graphs.quantisation import quantised_interval

            return quantised_interval(model, seen, *key)

        return self._made(key, lambda: cached_graph(model.digest, name, graph))

    def _made(self, key: Any, graph: Callable[[], bytes]) -> Any:
        with self._lock:
            if key not in self._sessions:
                self._sessions[key] = self._runtime.InferenceSession(
                    graph(), self._options, providers=["CPUExecutionProvider"]
                )
                if len(self._sessions) > self._most:
                    self._sessions.popitem(last=False)
            self._sessions.move_to_end(key)
            return self._sessions[key]


class TorchExecutor(_Codes):
    """torch on the CPU; imported only when made.

    torch has one number of threads in a process: `threads` sets it (None: leaves it as it is).
    """

    def __init__(self, model: Model, threads: int | None = None) -> None:
        try:
            import torch

            from models.networks.network import BranchyNetwork
        except ModuleNotFoundError as error:
            raise DependencyError(
                f"executor 'torch': found no package '{error.name}', expected pip install -e "
                "'.[torch]' in coinfer's folder"
            ) from None
        super().__init__(model)
        if threads is not None:
            torch.set_num_threads(threads)
        self._torch = torch
        self._network = BranchyNetwork(model.spec)
        self._network.load_folded(model.parameters)
        self._network.eval()

    def warm(self, branch: int, start: int, stop: int) -> None:
        """Run an interval once."""
        shape = self._model.spec.shapes[branch][start]
        self.run(branch, start, stop, np.zeros((1, *shape), dtype=np.float32))

    def layer(self, layer: LayerSpec, x: Float32s) -> Float32s:
        """One layer alone."""
        with self._torch.inference_mode():
            y = self._network.layer(layer.name)(self._torch.from_numpy(np.array(x)))
        return np.asarray(y.numpy(), dtype=np.float32)

    def run(self, branch: int, start: int, stop: int, x: Float32s) -> Float32s:
        """Compute the interval."""
        _check_shape(self._model, branch, start, x)
        with self._torch.inference_mode():
            y = self._network.run_interval(self._torch.from_numpy(x), branch, start, stop)
        return np.asarray(y.numpy(), dtype=np.float32)


class PacedExecutor:
    """Another executor, padded so that every interval takes what a profile says.

    It lets this machine stand in for the profile's (a Raspberry Pi 3, say). An interval that takes
    longer here than there is not shortened; `overruns` counts those.
    """

    SPIN_S = 0.0005

    def __init__(
        self,
        inner: Executor,
        profile: Profile,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._inner, self._profile = inner, profile
        self._clock, self._sleep = clock, sleep
        self.overruns = 0

    def run(self, branch: int, start: int, stop: int, x: Float32s) -> Float32s:
        """Compute, then wait until the profile's median for this interval has passed."""
        began = self._clock()
        result = self._inner.run(branch, start, stop, x)
        self._wait(began + self._profile.interval_s(branch, start, stop), counts=start != stop)
        return result

    def encode(self, codec: str, branch: int, cut: int, x: npt.NDArray[Any]) -> Encoded:
        """Encode, then wait until the profile's median for it has passed."""
        began = self._clock()
        result = self._inner.encode(codec, branch, cut, x)
        seconds = self._profile.encode_s(codec, self._profile.crossing(branch, cut))
        self._wait(began + seconds, counts=seconds > 0)
        return result

    def decode(
        self, codec: str, branch: int, cut: int, meta: Mapping[str, Any], data: bytes
    ) -> Float32s:
        """Decode, then wait until the profile's median for it has passed."""
        began = self._clock()
        result = self._inner.decode(codec, branch, cut, meta, data)
        seconds = self._profile.decode_s(codec, self._profile.crossing(branch, cut))
        self._wait(began + seconds, counts=seconds > 0)
        return result

    def _wait(self, until: float, *, counts: bool) -> None:
        if self._clock() > until:
            self.overruns += counts
            return
        # sleep overshoots by what the scheduler likes; the last half millisecond is spun
        while (left := until - self._clock()) > 0:
            if left > self.SPIN_S:
                self._sleep(left - self.SPIN_S)


def make_executor(
    name: str,
    model: Model,
    threads: int | None = None,
    seams: Collection[int] = (),
    most: int = MOST_SESSIONS,
) -> OnnxExecutor | TorchExecutor:
    """An executor by name: 'onnx', 'onnx-int8' or 'torch'.

    It computes on `threads`, or on half of the processors that this process may use.
    """
    threads = max(1, usable_cpus() // 2) if threads is None else threads
    if name in ("onnx", "onnx-int8"):
        precision = "int8" if name == "onnx-int8" else "float32"
        return OnnxExecutor(model, threads, precision, seams, most)
    if name == "torch":
        return TorchExecutor(model, threads)
    raise UsageError(f"executor: found '{name}', expected onnx, onnx-int8 or torch")


@lru_cache(maxsize=1)
def _share_arena(runtime: Any) -> None:
    """One arena for every session of the process that asks for it."""
    place = runtime.OrtMemoryInfo(
        "Cpu", runtime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, runtime.OrtMemType.DEFAULT
    )
    # grows by what is asked for, not by powers of two
    runtime.create_and_register_allocator(place, runtime.OrtArenaCfg(0, 1, -1, -1))


def softmax_answer(logits: Float32s, temperature: float = 1.0) -> tuple[int, float]:
    """Class and greatest softmax probability of one sample's logits (1, classes).

    `temperature`: the exit's (`Model.temperatures`); with it, 0.8 sure is right 8 times in 10.
    """
    row = (logits[0] - logits[0].max()) / temperature
    weights = np.exp(row)
    best = int(np.argmax(row))
    return best, float(weights[best] / weights.sum())


def _check_shape(model: Model, branch: int, start: int, x: Float32s) -> None:
    model.spec.interval(branch, start, start)
    expected = model.spec.shapes[branch][start]
    if x.ndim < 1 or tuple(x.shape[1:]) != expected:
        raise UsageError(
            f"exit {branch + 1}, layer {start}: found a batch of shape {tuple(x.shape)}, "
            f"expected (N, {', '.join(map(str, expected))})"
        )
