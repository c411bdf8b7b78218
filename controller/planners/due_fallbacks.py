"""Whether the fallback of the frame before is still due when a frame arrives, in planning.

A device that keeps time for it lets a job that would run into it wait. One that cannot wait takes
the frame's answer away, unless the edge's comes. So planning takes a state of the queue apart
(`controller.planners.queue_values`): nothing is due (`NONE`), the edge's answer will come before
(`SPARE`), nothing else answers (`ALONE`). The physics do the rest (`controller.physics.kept`).
Where fallbacks of more frames than one may be due at once, planning does not follow them: each
counts as the device's next job.
"""

from __future__ import annotations

import numpy as np

from artefacts.arrays import Ints
from controller.physics import Resources
from controller.scenarios import Setting

NONE, SPARE, ALONE = range(3)
"""States of the fallback of the frame before, as planning knows them."""


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


def fallback_states(setting: Setting) -> int:
    """How many states planning takes a state of the queue apart into: 3, or 1."""
    return 1 + ALONE * fallbacks_due(setting)


def resources_before(setting: Setting, shape: tuple[int, ...]) -> Resources:
    """Idle resources, whose last axis but one has the states of the fallback of the frame before.

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
        state = np.broadcast_to(np.arange(1 + ALONE)[:, None], shape)
        # answers come, on average, in the middle between two arrivals
        over_s = np.where(state == ALONE, latest_s + seconds, interval_s / 2)
        costs_s = np.full(shape, seconds), np.full(shape, pause_s)
        begins = np.full(shape, begin_s), np.full(shape, latest_s)
        resources.kept.keep(state != NONE, *begins, over_s, *costs_s)
        rescue = table.columns.rescue
        assert rescue is not None  # or none could be due
        resources.kept.exit[-1] = np.where(state == ALONE, rescue.exit[longest], -1)
    return resources


def due_next(setting: Setting, after: Resources) -> Ints | int:
    """The state of this frame's fallback that the one which comes an interval later finds.

    `after` are the resources behind this frame, which arrived at 0.
    """
    if not fallbacks_due(setting):
        return 0
    interval_s, newest_s, over_s = setting.interval_s, after.kept.begin_s[-1], after.kept.over_s[-1]
    due = (newest_s > interval_s) & (newest_s < np.inf) & (over_s > interval_s)
    return np.where(due, np.where(after.kept.exit[-1] >= 0, ALONE, SPARE), NONE)
