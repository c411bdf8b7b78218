"""How long one core of this machine takes for the network that published benchmarks name."""

from __future__ import annotations

import numpy as np

from models.graphs.anchor import SIDE, anchor_graph
from models.networks.measuring.timing import SYSTEM_CLOCK, Clock, onnx_run

REPEATS, WARMUP = 30, 5


def anchor_s(clock: Clock = SYSTEM_CLOCK) -> float:
    """CPU seconds of MobileNetV2 (1.0, 224 x 224) on one thread of ONNX Runtime.

    The fastest of 30 runs counts, as in the published table. `clock` says what the thread has used:
    another process's turn is not this core's speed.
    """
    run = onnx_run(anchor_graph(), threads=1)
    picture = np.zeros((1, 3, SIDE, SIDE), dtype=np.float32)
    taken = []
    for _ in range(WARMUP + REPEATS):
        begun_s = clock.cpu_s()
        run(picture)
        taken.append(clock.cpu_s() - begun_s)
    return min(taken[WARMUP:])
