"""What every plan of a table earns when it is used alone for every frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from artefacts.arrays import Floats
from controller.physics import TraceBank
from controller.scenarios import Setting
from envs.simulator import Simulator
from traces.trace import BandwidthTrace


def best_single(
    setting: Setting,
    traces: Sequence[BandwidthTrace],
    half: str,
    *,
    max_frames: int | None = None,
) -> int:
    """The plan that earns most when used for every frame of `traces` (each plan is run).

    `setting` has the plans; they are judged on `half` of the outcomes and `max_frames` of each
    trace (None: all).
    """
    return int(np.argmax(single_plan_rewards(setting, traces, half, max_frames=max_frames)))


def single_plan_rewards(
    setting: Setting,
    traces: Sequence[BandwidthTrace],
    half: str,
    *,
    max_frames: int | None = None,
) -> Floats:
    """Mean reward per frame of every plan of the table, used alone on all `traces`.

    Each plan on each trace is a lane of one batched run: no controller is asked.

    `setting` has the plans; they are judged on `half` of the outcomes and `max_frames` of each
    trace (None: all).
    """
    bank = TraceBank(traces)
    plans, lanes = len(setting.table), len(setting.table) * len(traces)
    rng = np.random.default_rng(setting.scenario.seeds.evaluate)
    simulator = Simulator(setting, bank, lanes, half, rng)
    everyone = np.ones(lanes, dtype=np.bool_)
    plan = np.repeat(np.arange(plans), len(traces))
    loading = setting.device.model_loading_s if setting.closed_loop else 0.0
    simulator.place(everyone, np.tile(np.arange(len(traces)), plans), np.full(lanes, loading))
    alive, totals, counts = everyone, np.zeros(plans), np.zeros(plans)
    frame = 0
    while alive.any() and (max_frames is None or frame < max_frames):
        result = simulator.step(plan)
        included = alive & ~result.ended if setting.closed_loop else alive
        totals += np.bincount(plan, np.where(included, simulator.mean_reward(result), 0.0), plans)
        counts += np.bincount(plan, included, plans)
        alive = alive & ~result.ended
        simulator.now_s = np.where(alive, simulator.now_s, 0.0)
        frame += 1
    return np.asarray(totals / np.maximum(counts, 1))
