"""How long a decision takes: a measurement in, sensing, features, policy, a plan out."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from controller.interface import Controller, FrameResult, Measurement, Situation

WARMUP = 200
REFERENCE_SIDE = 64


class DecideRow(msgspec.Struct, frozen=True):
    """A controller's decision: microseconds, and as a ratio to one multiplication of two 64 x 64
    float32 matrices timed in the same run; bytes by which the process grew over the decisions.
    """

    controller: str
    decisions: int
    median_us: float
    p95_us: float
    ratio: float
    grown_bytes: int


def decide_row(
    controller: Controller,
    deadline_s: float,
    interval_s: float,
    decisions: int,
    seed: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> DecideRow:
    """Give it a made-up stream: a measurement for every frame, results as they would come.

    `controller` makes `decisions`, a frame every `interval_s` with `deadline_s`, both in seconds;
    `seed` draws the rates, `clock` gives seconds.
    """
    rng = np.random.default_rng(seed)
    rates = np.exp(np.cumsum(rng.normal(0.0, 0.05, 4096)) + np.log(2e6))
    a = rng.normal(size=(REFERENCE_SIDE, REFERENCE_SIDE)).astype(np.float32)
    controller.reset()
    times, reference = np.empty(min(decisions, 20_000)), np.empty(1000)
    for k in range(len(reference)):
        begun = clock()
        a @ a
        reference[k] = clock() - begun
    before = 0
    for k in range(-WARMUP, decisions):
        frame, now = k + WARMUP, (k + WARMUP) * interval_s
        rate = float(rates[k % len(rates)])
        situation = Situation(now, frame, deadline_s, 0.01 * (k % 3), 1000 * (k % 2), 0.03)
        if k == 0:
            before = _resident_bytes()
        begun = clock()
        controller.observe(Measurement(now - 0.01, 4000, 32000.0 / rate))
        plan = controller.decide(situation)
        spent = clock() - begun
        if k >= 0:
            times[k % len(times)] = spent
        controller.record(FrameResult(frame, plan, now + 0.05, 0.05, 0, k % 4 != 0))
    median, p95 = np.quantile(times, [0.5, 0.95])
    return DecideRow(
        controller.name,
        decisions,
        1e6 * float(median),
        1e6 * float(p95),
        float(median / np.median(reference)),
        _resident_bytes() - before,
    )


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()
