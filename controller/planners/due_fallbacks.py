"""Whether the fallback of the frame before is still due when a frame arrives, in planning.

A device that keeps time for it lets a job that would run into it wait. Planning takes a state of
the queue apart by it (`controller.planners.queue_values`); the physics do the rest
(`controller.physics.kept`). Where fallbacks of more frames than one may be due at once, planning
does not follow them: each counts as the device's next job.
"""

from __future__ import annotations

import numpy as np

from artefacts.arrays import Ints
from controller.physics import Resources
from controller.scenarios import Setting


def fallback_due_s(setting: Setting) -> float:
    """How long after its arrival a frame's fallback is begun; inf where no plan has one."""
    table, timing = setting.table, setting.timing
    longest_s = np.max(table.columns.rescue_p95_s, initial=0.0)
    if timing.deadline_s is None or longest_s <= 0:
        return np.inf
    return float(timing.deadline_s - longest_s - timing.rescue_margin_s)


def fallbacks_due(setting: Setting) -> int:
    """Of how many frames before planning follows whether their fallbacks are due: 0 or 1."""
    return int(1 <= fallback_due_s(setting) / setting.interval_s < 2)


def resources_before(setting: Setting, shape: tuple[int, ...]) -> Resources:
    """Idle resources, of which the second half of the last axis but one keeps time for a fallback.

    Where planning does not follow fallbacks that axis is of length 1, and no time is kept. `shape`
    is that of the lanes.
    """
    followed = fallbacks_due(setting)
    resources = Resources.idle(shape, topology=setting.topology, kept=2 * followed)
    if followed:
        table, interval_s = setting.table, setting.interval_s
        longest = int(np.argmax(np.where(np.isfinite(table.rescue_s), table.rescue_s, 0.0)))
        seconds, pause_s = float(table.rescue_s[longest]), float(table.rescue_pause_s[longest])
        begin_s = fallback_due_s(setting) - interval_s
        latest_s = setting.scenario.frames.deadline_s - seconds - interval_s
        # answers come, on average, in the middle between two arrivals
        parts = begin_s, latest_s, interval_s / 2, seconds, pause_s
        kept = np.broadcast_to(np.arange(2)[:, None] > 0, shape)
        resources.kept.keep(kept, *(np.full(shape, part) for part in parts))
    return resources


def due_next(setting: Setting, after: Resources) -> Ints | int:
    """0 or 1: whether the frame that comes an interval later finds the fallback of this one due.

    `after` are the resources behind this frame, which arrived at 0.
    """
    if not fallbacks_due(setting):
        return 0
    interval_s, newest_s, over_s = setting.interval_s, after.kept.begin_s[-1], after.kept.over_s[-1]
    due = (newest_s > interval_s) & (newest_s < np.inf) & (over_s > interval_s)
    return np.asarray(due, dtype=np.int64)
