"""The clairvoyant bound: what a frame is worth at most on a trace that is known.

It knows the traces, not which samples will be right. Nobody reaches it: every frame finds all
resources idle, and in a scenario's world a device that is never slowed and an edge that serves
nobody else. What those cost everybody the optimum says (`experiments.evaluation.optimum`).
"""

from __future__ import annotations

import numpy as np

from artefacts.arrays import Floats
from controller.physics import Resources, TraceBank, run_frames
from controller.scenarios import Setting
from controller.scenarios.rewards import edgent_reward, priced
from traces.trace import BandwidthTrace

BOUND_CHUNK = 4096
FASTEST_SIGMAS = 3.1
"""Log-normal compute times are this much below their median in one case of a thousand."""
SIZES = 8
"""Quantiles of pictures' bytes that the bound takes the mean over."""


def bound_per_frame(
    setting: Setting, trace: BandwidthTrace, arrival_s: Floats, half: str = "report"
) -> Floats:
    """The clairvoyant bound of frames that start at `arrival_s` on `trace` (F,).

    Per frame, with every resource idle and the link's window open: the best of dropping it and of
    every plan, by outcomes averaged over `half`, at compute times that only one draw in a thousand
    undercuts. Where pictures have their own sizes, a plan is worth its mean over them.

    `setting` has the plans, and the outcomes by which they are valued.
    """
    values, _ = clairvoyant_values(setting, trace, arrival_s, half)
    return np.asarray(np.maximum(values.max(axis=1), 0.0))


def clairvoyant_values(
    setting: Setting,
    trace: BandwidthTrace,
    arrival_s: Floats,
    half: str = "report",
    device_backlog_s: float = 0.0,
) -> tuple[Floats, Floats]:
    """Value (F, P) of every plan at every start on the true trace, and the seconds it keeps busy.

    Resources are idle but for `device_backlog_s`; busy is the longer of device and uplink.

    `setting` has the plans, `trace` the rates; frames start at `arrival_s` (F,) in seconds and are
    valued by `half` of the outcomes.
    """
    bank = TraceBank([trace])
    sized = [_clairvoyant(setting, bank, arrival_s, half, device_backlog_s, weight)
             for weight in _weights(setting, half)]  # fmt: skip
    if len(sized) == 1:
        return sized[0]
    values, busy = zip(*sized, strict=True)
    return np.asarray(np.mean(values, axis=0)), np.asarray(np.mean(busy, axis=0))


def _weights(setting: Setting, half: str) -> list[Floats | float]:
    """Bytes of pictures over their mean for every row of the gated table, one array a quantile."""
    rows = setting.rows(half)
    if rows.weights is None or rows.weight_row is None:
        return [1.0]
    weights, shares = rows.weights, (np.arange(SIZES) + 0.5) / SIZES
    quantiles = setting.once(
        f"bytes by quantile, {half}",
        lambda: np.quantile(weights.astype(np.float64), shares, axis=1),
    )
    return [quantile[rows.weight_row] for quantile in quantiles]


def _least(setting: Setting) -> tuple[list[float], list[float]]:
    """Of device and edge: factors on medians that hardly any draw undercuts, and overheads."""
    world, sigmas = setting.scenario.world, setting.rows("report").gate_rows.table.sigmas
    factors = [float(np.exp(-FASTEST_SIGMAS * sigma)) for sigma in sigmas]
    for number, node in enumerate((world.device, world.edge)):
        if node.spread:
            factors[number] = node.spread[0]
    return factors, [world.device.overhead_s, world.edge.overhead_s]


def _clairvoyant(
    setting: Setting,
    bank: TraceBank,
    arrival_s: Floats,
    half: str,
    device_backlog_s: float,
    weight: Floats | float,
) -> tuple[Floats, Floats]:
    """The same on a bank's one trace, where every row's bytes are their mean times `weight`."""
    rows = setting.rows(half)
    table = rows.gate_rows.table
    factors, overheads_s = _least(setting)
    values, busy = [], []
    for begin in range(0, max(len(arrival_s), 1), BOUND_CHUNK):
        start = arrival_s[begin : begin + BOUND_CHUNK]
        shape = (len(start), len(table))
        plan = np.broadcast_to(np.arange(len(table)), shape)
        arrival = np.broadcast_to(start[:, None], shape)
        resources = Resources.idle(shape, topology=setting.topology)
        resources.device_s = arrival + device_backlog_s
        outcome, _ = run_frames(
            table,
            plan,
            arrival,
            resources,
            setting.links(bank.lanes(np.zeros(shape, dtype=np.int64))),
            setting.link_models,
            setting.timing,
            *factors,
            overheads_s=overheads_s,
            weight=weight,
        )
        own = rows.accuracy(plan, np.maximum(outcome.answer_exit, 0), outcome.by_plan)
        if setting.closed_loop:
            value = edgent_reward(own, outcome.latency_s, setting.scenario.frames.deadline_s)
            # an inference that the trace does not finish is not counted, for anybody
            value = np.where(outcome.answered_s <= bank.durations_s[0], value, 0.0)
        else:
            answered = np.where(outcome.answer_exit >= 0, own, 0.0)
            value = priced(setting, answered, outcome.device_s, outcome.bytes_sent)[0]
        values.append(rows.gate_rows.mixed(value, rows.share))
        longer = np.maximum(outcome.device_s + device_backlog_s, outcome.measured_duration_s)
        busy.append(rows.gate_rows.mixed(longer, rows.share))
    return np.concatenate(values), np.concatenate(busy)
