"""What an answer is worth: the paper's closed-loop reward, and the frame stream's.

Planners call `expected_rewards` with a believed bandwidth; the environments call the same reward
functions on what happened. No time or link arithmetic here: that is `controller.physics`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from artefacts.arrays import Floats
from controller.physics import ConstantLink, Resources, run_frames
from controller.plans import all_remote

if TYPE_CHECKING:
    from controller.scenarios.setting import Setting


def edgent_reward(accuracy: Floats, latency_s: Floats, requirement_s: float) -> Floats:
    """Edgent's reward: exp(accuracy) + 1/latency if the step met the requirement, else 0.

    (Li et al., IEEE TWC 2020, section V-C; accuracy a fraction, latency in seconds.)
    """
    met = latency_s <= requirement_s
    safe = np.where(met & (latency_s > 0), latency_s, 1.0)
    return np.where(met, np.exp(accuracy) + 1.0 / safe, 0.0)


def priced(
    setting: Setting, quality: Floats, device_s: Floats, bytes_sent: Floats
) -> tuple[Floats, Floats, Floats]:
    """The frame stream's reward and its two costs: quality minus device seconds and megabytes."""
    prices = setting.prices
    device_cost = prices.device_second * device_s
    byte_cost = prices.megabyte * bytes_sent / 1e6
    return quality - device_cost - byte_cost, device_cost, byte_cost


@dataclass(frozen=True, slots=True)
class Expectation:
    """Of S bandwidths x P plans: expected reward, and what it is made of.

    `answer`: the reward before prices (the expected quality of an answer in time, in a stream);
    `own`: the probability that the plan's own answer is in time; the seconds that device and uplink
    are kept; the bytes sent.
    """

    reward: Floats
    answer: Floats
    own: Floats
    device_s: Floats
    uplink_s: Floats
    bytes_sent: Floats


def expectation(
    setting: Setting,
    bandwidth_bps: Floats,
    device_backlog_s: float = 0.0,
    uplink_backlog_bytes: float = 0.0,
    pace: float = 1.0,
) -> Expectation:
    """What every plan gives at constant bandwidths (S,), one frame on its own.

    `device_backlog_s` and `uplink_backlog_bytes` are what it finds; `pace` is what the device's
    jobs take over its profile.

    Medians of the compute times, accuracies of the outcomes' policy half, resources idle but for
    the backlogs.
    """
    rows = setting.rows("policy")
    table = rows.gate_rows.table
    shape = (len(bandwidth_bps), len(table))
    plan = np.broadcast_to(np.arange(len(table)), shape)
    resources = Resources.idle(shape, topology=setting.topology)
    resources.device_s = np.full(shape, device_backlog_s)
    rate = np.broadcast_to(np.asarray(bandwidth_bps)[:, None], shape)
    link = ConstantLink(rate)
    resources.uplink_s = link.transfer_end(np.zeros(shape), np.full(shape, uplink_backlog_bytes))
    outcome, _ = run_frames(
        table,
        plan,
        np.zeros(shape),
        resources,
        setting.links(link),
        setting.link_models,
        setting.timing,
        pace,
        pace=pace,
        **setting.scenario.world.expected,
    )
    own = rows.accuracy(plan, np.maximum(outcome.answer_exit, 0), outcome.by_plan)
    if setting.closed_loop:
        requirement = setting.scenario.frames.deadline_s
        answer = reward = edgent_reward(own, outcome.latency_s, requirement)
    else:
        answer = np.where(outcome.answer_exit >= 0, own, 0.0)
        reward = priced(setting, answer, outcome.device_s, outcome.bytes_sent)[0]
    parts = (
        reward, answer, outcome.by_plan.astype(np.float64), outcome.device_s,
        outcome.measured_duration_s, outcome.bytes_sent,
    )  # fmt: skip
    return Expectation(*(rows.gate_rows.mixed(part, rows.share) for part in parts))


def reward_scale(setting: Setting) -> float:
    """What makes rewards about 1: those of the closed loop are about 1/latency."""
    if not setting.closed_loop:
        return 1.0
    return float(setting.table.latency_s(np.array(1e7)).min())


HEADROOM = 0.8
"""How full a steadily fed queue may be. Chosen on the validation logs of the camera scenarios: the
robust planner earns 0.809 of an answer at 1.0, 0.865 at 0.9 and at 0.8 (lte), 0.840 to 0.856 (3g).
"""


def expected_rewards(
    setting: Setting, bandwidth_bps: Floats, device_backlog_s: float = 0.0, pace: float = 1.0
) -> Floats:
    """Expected reward per frame of every plan used for a whole stream: an array (S, P).

    A plan that keeps the device or the uplink busy for longer than `HEADROOM` of a frame can serve
    only that share of the frames, and is worth only that share: compute times vary, and a queue
    that is full on average is never empty. `pace`: what the device's jobs take over its profile.
    """
    found = expectation(setting, bandwidth_bps, device_backlog_s, pace=pace)
    if setting.closed_loop:
        return found.reward
    busy_s = np.maximum(np.maximum(found.device_s, found.uplink_s), 1e-9)
    return np.asarray(found.reward * np.minimum(HEADROOM * setting.interval_s / busy_s, 1.0))


SHORTLIST_BANDWIDTHS = 96
SHORTLIST_BACKLOGS = 8
BUSY_PRICES = (0.0, 1.0, 3.0, 10.0)
"""Prices of a second of device or uplink time, in correct answers, for the shortlist."""


def shortlist(setting: Setting) -> list[int]:
    """Plans that are the best choice in some situation, or that Algorithm 1 could choose.

    Algorithm 1 takes an exit's fastest plan, so the fastest of every exit at every bandwidth stays,
    and so does every exit on the device. Situations: bandwidths from 10 kbit/s to 100 Mbit/s,
    device backlogs up to the deadline, and prices on device and uplink time (what a busy resource
    takes from the next frame), on a grid of 96 bandwidths and 8 backlogs. The others are the best
    choice at none of these points, and would only slow learning down. Plans that hedge stay too
    where they are the best of their kind.
    """
    bandwidths = np.geomspace(1e4, 1e8, SHORTLIST_BANDWIDTHS)
    deadline_s = setting.scenario.frames.deadline_s
    backlogs = [0.0] if setting.closed_loop else np.linspace(0.0, deadline_s, SHORTLIST_BACKLOGS)
    prices = [0.0] if setting.closed_loop else BUSY_PRICES
    chosen = set(np.flatnonzero(setting.table.local & ~setting.table.gated).tolist())
    latency = setting.table.latency_s(bandwidths, setting.scenario.link.rtt_s)
    for exit_ in np.unique(setting.table.exit):
        for allowed in (setting.table.faithful, True):
            ranked = (setting.table.exit == exit_) & ~setting.table.gated
            mine = np.flatnonzero(ranked & allowed)
            if len(mine):
                chosen.update(mine[latency[:, mine].argmin(axis=1)].tolist())
    for backlog in backlogs:
        found = expectation(setting, bandwidths, float(backlog))
        for device_price in prices:
            for uplink_price in prices:
                value = found.reward - device_price * found.device_s - uplink_price * found.uplink_s
                best = value.argmax(axis=1)
                # where nothing is worth its price, no plan is the answer
                chosen.update(int(k) for k in best[value.max(axis=1) > 0])
    return sorted(chosen | _edge_only(setting, chosen) | _hedged(setting, bandwidths))


def _hedged(setting: Setting, bandwidths: Floats) -> set[int]:
    """The hedged plans that serve a whole stream best at some bandwidth.

    Judged idle, a hedge looks better the longer it computes; what it takes from the next frames
    shows only where every frame hedges. Without these there would be no rival that hedges well.
    """
    hedged = np.flatnonzero([plan.hedge for plan in setting.table.plans])
    if not len(hedged):
        return set()
    return set(hedged[expected_rewards(setting, bandwidths)[:, hedged].argmax(axis=1)].tolist())


def _edge_only(setting: Setting, chosen: set[int]) -> set[int]:
    """The most accurate plan on the edge alone, where no situation chose one: a rival to show."""
    table = setting.table
    whole = np.array([all_remote(setting.spec, p) for p in table.plans])
    remote = np.flatnonzero(whole & ~table.gated)
    if not len(remote) or chosen & set(remote.tolist()):
        return set()
    return {int(max(remote, key=lambda k: (table.accuracy[k], -table.up_bytes[k])))}
