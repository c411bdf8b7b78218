"""Every trace of a bank run once from its start, a lane each: what a decider earns on it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from artefacts.arrays import Bools, Floats
from envs.records import StepResult
from envs.simulator import Simulator


def earned(simulator: Simulator, step: Callable[[Bools], StepResult], frames: int) -> Floats:
    """Mean reward per frame (L,) of at most `frames` frames of trace k by lane k.

    `step` is given which lanes still run and steps the simulator. With the answers' accuracies in
    place of single samples' luck.
    """
    setting, lanes = simulator.setting, simulator.lanes
    alive = np.ones(lanes, dtype=np.bool_)
    phase = simulator.rng.random(lanes) * simulator.interval_s
    loading = setting.device.model_loading_s if setting.closed_loop else 0.0
    simulator.place(alive, np.arange(lanes), phase + loading)
    total, count = np.zeros(lanes), np.zeros(lanes)
    for _ in range(frames):
        result = step(alive)
        included = alive & ~result.ended if setting.closed_loop else alive
        total += np.where(included, simulator.mean_reward(result), 0.0)
        count += included
        alive = alive & ~result.ended
        if not alive.any():
            break
        simulator.now_s = np.where(alive, simulator.now_s, 0.0)
    return np.asarray(total / np.maximum(count, 1.0))
