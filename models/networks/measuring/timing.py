"""Timing the computations of a model: arguments, clocks, chains of runs, the two executors.

Two executors are timed alike: torch, and ONNX Runtime with one session a layer. This module knows
neither what a profile is nor what a regression is. torch is imported where it computes.

A weaker device is emulated by arithmetic: a run counts for the greater of its wall time and
`slowdown` times its thread CPU time, which is what a runtime gives that pads every computation with
sleep. Nothing sleeps here, since a sleep overshoots by more than a small layer takes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from artefacts import UsageError
from artefacts.arrays import Floats
from models.facts.cards import Model

Executor = Literal["torch", "onnxruntime"]
EXECUTORS: tuple[Executor, ...] = ("torch", "onnxruntime")
Run = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class ProfilingArgs:
    """How a profile is taken."""

    executor: Executor = "torch"
    """What computes: torch (eager) or onnxruntime."""
    threads: int = 1
    """Threads of one computation; fixed while measuring, restored afterwards."""
    repeats: int = 100
    """Timed runs of every layer and every branch."""
    warmup: int = 10
    """Runs before the first timed one."""
    slowdown: float = 1.0
    """A device this many times slower is emulated; 1 measures the machine as it is."""
    grid: int = 24
    """Generated layers of each kind that the regression is fitted on; 0 fits nothing."""
    held_out: int = 8
    """Generated layers of each kind kept out of the fit, which judge it."""
    seed: int = 0
    """Of inputs and generated layers."""
    codecs: tuple[str, ...] = ()
    """Wire codecs whose encoding and decoding is timed at every cut."""
    codec_slowdown: float | None = None
    """The same for codecs, where it differs: byte-wise code loses less on a small core than wide
    vector arithmetic does."""

    def __post_init__(self) -> None:
        """Refuse counts and factors that mean nothing."""
        least = (
            ("executor", self.executor, self.executor in EXECUTORS, "torch or onnxruntime"),
            ("threads", self.threads, self.threads >= 1, "1 or more"),
            ("repeats", self.repeats, self.repeats >= 1, "1 or more"),
            ("warmup", self.warmup, self.warmup >= 0, "0 or more"),
            ("slowdown", self.slowdown, 1.0 <= self.slowdown < float("inf"), "1 or more"),
            (
                "codec_slowdown",
                self.codec_slowdown,
                self.codec_slowdown is None or 1.0 <= self.codec_slowdown < float("inf"),
                "1 or more",
            ),
            ("grid", self.grid, self.grid == 0 or self.grid >= 4, "0, or 4 and more"),
            ("held_out", self.held_out, self.held_out >= 1, "1 or more"),
        )
        for name, found, fits, expected in least:
            if not fits:
                raise UsageError(f"profile: found {name} = {found}, expected {expected}")
        if self.slowdown > 1.0 and self.threads > 1:
            raise UsageError(
                f"profile: found slowdown = {self.slowdown:g} with {self.threads} threads, "
                "expected 1 thread (the CPU time of one thread is what is multiplied)"
            )


class Clock(Protocol):
    """Seconds on the wall and seconds of this thread's CPU; tests bring their own."""

    def wall_s(self) -> float:
        """Seconds that have passed."""

    def cpu_s(self) -> float:
        """CPU seconds this thread has used."""


class _SystemClock:
    def wall_s(self) -> float:
        return time.perf_counter()

    def cpu_s(self) -> float:
        return time.thread_time()


SYSTEM_CLOCK: Clock = _SystemClock()


def chain_times(
    runs: list[Run], x: Any, args: ProfilingArgs, clock: Clock = SYSTEM_CLOCK
) -> Floats:
    """Seconds of every run of a chain, each fed what the one before gave: (repeats, runs).

    The chain goes round as a whole, so that every layer finds the caches as its forerunner left
    them; a layer run a hundred times on end would find its own input in the nearest one.

    `runs` are called in turn, the first with `x`; `args` say how often, `clock` gives seconds.
    """
    times = np.empty((args.repeats, len(runs)))
    for turn in range(-args.warmup, args.repeats):
        value = x
        for k, run in enumerate(runs):
            cpu, wall = clock.cpu_s(), clock.wall_s()
            value = run(value)
            wall, cpu = clock.wall_s() - wall, clock.cpu_s() - cpu
            if turn >= 0:
                times[turn, k] = wall if args.slowdown == 1.0 else max(wall, args.slowdown * cpu)
    return times


@contextmanager
def pinned_threads(count: int) -> Iterator[None]:
    """Compute on `count` threads inside the block, and on as many as before after it."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Runner(Protocol):
    """A model made ready to run by one executor."""

    def input(self, x: npt.NDArray[np.float32]) -> Any:
        """The executor's own form of an input batch."""

    def layers(self, branch: int) -> list[Run]:
        """One run for each layer of a branch."""

    def interval(self, branch: int, start: int, stop: int) -> Run:
        """One run for layers [start, stop) of a branch."""


class _TorchRunner:
    def __init__(self, model: Model) -> None:
        from models.networks.network import BranchyNetwork

        self._network = BranchyNetwork(model.spec)
        self._network.load_folded(model.state)
        self._network.eval()

    def input(self, x: npt.NDArray[np.float32]) -> Any:
        import torch

        return torch.from_numpy(x)

    def layers(self, branch: int) -> list[Run]:
        return [self._network.layer(s.name) for s in self._network.spec.branches[branch]]

    def interval(self, branch: int, start: int, stop: int) -> Run:
        return lambda x: self._network.run_interval(x, branch, start, stop)


class _OnnxRunner:
    def __init__(self, model: Model, threads: int, arena: bool) -> None:
        self._model, self._threads, self._arena = model, threads, arena

    def input(self, x: npt.NDArray[np.float32]) -> Any:
        return x

    def layers(self, branch: int) -> list[Run]:
        count = len(self._model.spec.branches[branch])
        return [self.interval(branch, k, k + 1) for k in range(count)]

    def interval(self, branch: int, start: int, stop: int) -> Run:
        from models.graphs.onnx_graph import interval_model

        graph = interval_model(self._model.spec, self._model.state, branch, start, stop)
        return onnx_run(graph, self._threads, arena=self._arena)


def onnx_run(graph: bytes, threads: int, *, arena: bool = True) -> Run:
    """A run of a serialised ONNX model with one input and one output on `threads` threads.

    Without an `arena` every tensor is given back when it is spent (to see what a run needs).
    """
    from models.graphs.onnx_runtime import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = options.enable_mem_pattern = arena
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(x: Any) -> Any:
        return session.run(None, {name: x})[0]

    return run


def runner(model: Model, executor: Executor, threads: int, *, arena: bool = True) -> Runner:
    """`model` made ready by an executor (torch's threads are set by `pinned_threads`).

    `executor` is 'torch' or 'onnx', on `threads`; without `arena` ONNX Runtime keeps no memory
    between two runs.
    """
    return _TorchRunner(model) if executor == "torch" else _OnnxRunner(model, threads, arena)
