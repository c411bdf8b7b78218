"""ONNX Runtime as an executor, in float32 or int8."""

from __future__ import annotations

import itertools
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from artefacts import UsageError
from artefacts.arrays import Float32s
from models.executors.interface import CodingExecutor, check_shape
from models.facts.cards import Model
from models.facts.layers import LayerSpec
from models.graphs.graph_cache import cached_graph

if TYPE_CHECKING:
    from models.graphs.quantisation import Activations

MOST_SESSIONS = 1024
"""Held at once: an edge sets its own bound."""
PRECISIONS = ("float32", "int8")


class OnnxExecutor(CodingExecutor):
    """ONNX Runtime on the CPU; a session per interval, made at first use or by warm.

    `precision` 'int8' needs the model's `activations.json` (see `models.graphs.quantisation`). At
    `seams` (trunk layers) intervals are run piece by piece: the same layers are then held once,
    however many intervals they are in, for some microseconds a piece. Of more than `most` sessions,
    or of more than `most_bytes` of weights in them, the one used longest ago goes.
    """

    def __init__(
        self,
        model: Model,
        threads: int = 1,
        precision: str = "float32",
        seams: Collection[int] = (),
        most: int = MOST_SESSIONS,
        most_bytes: float = math.inf,
    ) -> None:
        from models.graphs.onnx_runtime import onnxruntime

        super().__init__(model)
        self._seams = sorted(set(seams))
        self._runtime = onnxruntime
        self._options = onnxruntime.SessionOptions()
        self._options.intra_op_num_threads = threads
        self._options.inter_op_num_threads = 1
        self._options.log_severity_level = 4
        # sessions stand side by side: threads that wait in a loop would take each other's cores,
        # and an arena of its own for each takes more memory than the weights
        self._options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._options.add_session_config_entry("session.use_env_allocators", "1")
        _share_arena(onnxruntime)
        self._sessions: OrderedDict[Any, Any] = OrderedDict()
        self._most, self._most_bytes = most, most_bytes
        self._bytes: dict[Any, int] = {}
        """Weights that each session holds."""
        self._lock = threading.Lock()
        if precision not in PRECISIONS:
            raise UsageError(f"precision: found '{precision}', expected {' or '.join(PRECISIONS)}")
        self._activations: Activations | None = None
        if precision == "int8":
            from models.graphs.quantisation import read_activations

            self._activations = read_activations(model)

    def warm(self, branch: int, start: int, stop: int) -> None:
        """Make an interval's session and run it once."""
        shape = self.model.spec.shapes[branch][start]
        self.run(branch, start, stop, np.zeros((1, *shape), dtype=np.float32))

    def run(self, branch: int, start: int, stop: int, x: Float32s) -> Float32s:
        """Compute the interval; an empty one gives `x` back. See `Executor.run`."""
        if start == stop:
            return x
        check_shape(self.model, branch, start, x)
        after = self.model.spec.exits[branch].after
        inside = [s for s in self._seams if start < s < stop and s <= after]
        for a, b in itertools.pairwise([start, *inside, stop]):
            session = self._session(branch, a, b)
            try:
                (x,) = session.run(None, {"x": np.ascontiguousarray(x)})
            except Exception as error:  # ONNX Runtime's own, of which it has a dozen kinds
                where = f"exit {branch + 1}, layers [{a}, {b})"
                raise UsageError(f"{where}: cannot be run on this input ({_said(error)})") from None
        return np.asarray(x, dtype=np.float32)

    def layer(self, layer: LayerSpec, x: Float32s) -> Float32s:
        """One layer alone, by its own session."""
        shapes = (x.shape[1:], layer.output_shape(x.shape[1:]))

        def graph() -> bytes:
            from models.graphs.onnx_graph import (
                chain_model,  # graphs on disk need no onnx in memory
            )

            return chain_model(layer.name, [layer], shapes, self.model.parameters)

        session = self._made(layer.name, graph)
        return np.asarray(session.run(None, {"x": np.ascontiguousarray(x)})[0], dtype=np.float32)

    def _session(self, branch: int, start: int, stop: int) -> Any:
        model, seen = self.model, self._activations
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

        size = model.spec.interval_bytes(*key)
        return self._made(key, lambda: cached_graph(model.digest, name, graph), size)

    def _made(self, key: Any, graph: Callable[[], bytes], size: int = 0) -> Any:
        with self._lock:
            if key not in self._sessions:
                while self._sessions and self._full(size):
                    gone, _ = self._sessions.popitem(last=False)
                    del self._bytes[gone]
                self._sessions[key] = self._session_of(graph())
                self._bytes[key] = size
            self._sessions.move_to_end(key)
            return self._sessions[key]

    def _full(self, more_bytes: int) -> bool:
        """Whether a further session of so many bytes would be one too many."""
        held = sum(self._bytes.values())
        return len(self._sessions) >= self._most or held + more_bytes > self._most_bytes

    def _session_of(self, graph: bytes) -> Any:
        """A session, or a `UsageError` where the card's operations make none."""
        try:
            return self._runtime.InferenceSession(
                graph, self._options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's own, of which it has a dozen kinds
            raise UsageError(
                f"network '{self.model.spec.name}': found operations that cannot be run "
                f"({_said(error)}), expected those of a capture"
            ) from None


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


@lru_cache(maxsize=1)
def _share_arena(runtime: Any) -> None:
    """One arena for every session of the process that asks for it."""
    place = runtime.OrtMemoryInfo(
        "Cpu", runtime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, runtime.OrtMemType.DEFAULT
    )
    # grows by what is asked for, not by powers of two
    runtime.create_and_register_allocator(place, runtime.OrtArenaCfg(0, 1, -1, -1))
