"""A frame's way beyond the device and back: uplinks, other nodes' CPUs, downlinks, slot by slot.

What is not sent by the deadline is cancelled between two chunks, but what the kernel already holds
is still owed to the link. Another node computes whatever has reached it whole. TCP's window grows
on uplinks; replies are short and come back on a window that requests have opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from artefacts.arrays import Bools, Floats, Ints
from controller.physics.kept import KeptTimes
from controller.physics.links import Link, LinkModel
from controller.physics.resources import Resources
from controller.physics.table import PlanTable, SlotCosts


@dataclass(frozen=True, slots=True)
class Upload:
    """What an upload did: when it ended (inf: never), when its link is free, what was measured.

    Bytes sent are on the wire, the payload's those of the message itself that arrived, in
    `duration_s`; `window_bytes` is TCP's afterwards. `cancelled`: begun, and not ended in time.
    """

    end_s: Floats
    free_s: Floats
    sent_bytes: Floats
    payload_bytes: Floats
    duration_s: Floats
    window_bytes: Floats
    complete: Bools
    cancelled: Bools


@dataclass(frozen=True, slots=True)
class Varied:
    """How frames differ from what the table says, as of `run_frames`.

    `noise` multiplies seconds, one a node; `overheads_s` are seconds more of each; `others_s` what
    others have asked of the first beyond the device; `weight` multiplies bytes.
    """

    noise: Sequence[Floats | float]
    overheads_s: Sequence[Floats | float] = ()
    others_s: Floats | float = 0.0
    weight: Floats | float = 1.0


class Trip:
    """One frame a lane beyond the device; `run` first, then `after`."""

    def __init__(
        self,
        table: PlanTable,
        plan: Ints,
        resources: Resources,
        link: Link | Sequence[Link],
        model: LinkModel | Sequence[LinkModel],
        limit: Floats | float,
        varied: Varied,
    ) -> None:
        """`limit`: the frames' deadlines (inf in the closed loop).

        `table`, `plan` (*lanes) and `resources` are the frames'; `link` and `model` one of every
        link; `varied` is what differs from the table.
        """
        self._varied = varied
        self.links = link if isinstance(link, Sequence) else (link,)
        self.models = (model,) if isinstance(model, LinkModel) else model
        self._table, self._plan, self._before = table, plan, resources
        self._limit = limit
        # rows are replaced, never written to: the resources before stay as they are
        self.reached_s: Floats = resources.device_s
        """When what crosses has arrived whole at the first node beyond the device (inf: never)."""
        self.served_s: Floats = resources.device_s
        """When that node begins with it; neither means anything before `run`."""
        self._served = False
        self._free_s: list[Floats] = list(resources.free_s)
        self._window_bytes: list[Floats] = list(resources.window_bytes)

    def run(self, handed_s: Floats) -> tuple[Floats, Upload]:
        """Send what is handed over at `handed_s` (inf: nothing is).

        Gives when the reply is back on the device, and what the upload on the first link did.
        """
        at_s, first = handed_s, None
        self.reached_s = self.served_s = handed_s
        there: Bools | None = None
        for part in self._table.columns.between:
            uses = None if part.uses is None else part.uses.take(self._plan)
            begin_s = at_s if uses is None else np.where(uses, at_s, np.inf)
            if part.slot.kind == "up":
                up = self._upload(part, begin_s)
                first = up if part.slot.index == 0 else first
                next_s = np.where(up.complete, self._across(part, up.end_s), np.inf)
                reached = up.complete
            elif part.slot.kind == "compute":
                assert there is not None  # the first slot beyond the device is an uplink
                next_s, reached = self._compute(part, begin_s, there), there
            else:
                assert there is not None
                next_s, reached = self._download(part, begin_s, there), there
            if uses is None:
                at_s, there = next_s, reached
                continue
            # a plan passes by what it has no use for
            at_s = np.where(uses, next_s, at_s)
            there = np.where(uses, reached, handed_s < np.inf if there is None else there)
        assert first is not None  # a topology has a first link
        return at_s, first

    def known_s(self, back_s: Floats, up: Upload) -> Floats:
        """When the device knows what became of an upload whose reply is `back_s` (inf: none).

        What was never begun it knows of itself; of the rest the edge's word must come back.
        """
        late_s = self._limit + self.models[0].rtt_s * up.cancelled
        return np.where(back_s < np.inf, back_s, late_s)

    def after(self, device_s: Floats, kept: KeptTimes) -> Resources:
        """The resources once the frames are through; the device is free at `device_s`, and keeps
        time as `kept` says.
        """
        free_s = np.empty_like(self._before.free_s)
        window_bytes = np.empty_like(self._before.window_bytes)
        free_s[0] = device_s
        for row, until_s in enumerate(self._free_s[1:], start=1):
            free_s[row] = until_s
        for row, opened in enumerate(self._window_bytes):
            window_bytes[row] = opened
        return Resources(self._before.topology, free_s, window_bytes, kept)

    def _across(self, part: SlotCosts, end_s: Floats) -> Floats:
        """When the last byte of a transfer has arrived: half a round trip after it was sent."""
        return end_s + self.models[part.slot.index].rtt_s / 2

    def _compute(self, part: SlotCosts, ready_s: Floats, there: Bools) -> Floats:
        """When a node has computed what reached it."""
        free_s = self._free_s[part.row]
        seconds = part.cost.take(self._plan) * self._varied.noise[part.slot.index]
        if part.slot.index < len(self._varied.overheads_s):
            seconds = seconds + self._varied.overheads_s[part.slot.index]
        begin_s = np.maximum(ready_s, free_s)
        if not self._served:
            begin_s = np.maximum(ready_s + self._varied.others_s, free_s)
            self.reached_s, self.served_s, self._served = ready_s, begin_s, True
        end_s = begin_s + seconds
        self._take(part, there, end_s)
        return end_s

    def _download(self, part: SlotCosts, ready_s: Floats, there: Bools) -> Floats:
        """When all that a node sends back has arrived; one that never does is cancelled."""
        index = part.slot.index
        start_s = np.maximum(ready_s, self._free_s[part.row])
        wire = self.models[index].on_wire(part.cost).take(self._plan)
        end_s = self.links[index].transfer_end(start_s, wire)
        self._take(part, there, np.where(end_s < np.inf, end_s, self._limit))
        return self._across(part, end_s)

    def _take(self, part: SlotCosts, there: Bools, until_s: Floats) -> None:
        """A resource is taken by the frames that are there, and that use it."""
        taken = there if part.uses is None else there & part.uses.take(self._plan)
        self._free_s[part.row] = np.where(taken, until_s, self._free_s[part.row])

    def _upload(self, part: SlotCosts, handed_s: Floats) -> Upload:
        link, model = self.links[part.slot.index], self.models[part.slot.index]
        before_s, limit = self._free_s[part.row], self._limit
        opened = self._window_bytes[part.slot.index]
        payload, wire = self._crossing(part, model)
        ready = np.maximum(handed_s, before_s)
        idle = ready > before_s + model.idle_reset_s
        window = np.where(idle, np.minimum(opened, model.initial_window_bytes), opened)
        end = model.transfer_end(link, ready, wire, window)
        begun, complete = ready < limit, end < limit
        cancelled = begun & ~complete & np.isfinite(limit)
        free = np.where(begun, end, before_s)
        sent = wire * begun
        arrived = payload * complete
        duration = np.subtract(end, ready, out=np.zeros(end.shape), where=complete)
        window = np.where(begun, model.window_after(window, wire), opened)
        up = Upload(end, free, sent, arrived, duration, window, complete, cancelled)
        lanes = np.flatnonzero(cancelled)
        if len(lanes):
            cut = (whole.take(lanes) for whole in (ready, wire, payload))
            self._cancel(part, up, lanes, *cut)
        self._free_s[part.row], self._window_bytes[part.slot.index] = up.free_s, up.window_bytes
        return up

    def _crossing(self, part: SlotCosts, model: LinkModel) -> tuple[Floats, Floats]:
        """Payload and bytes on the wire of what crosses an uplink."""
        if isinstance(self._varied.weight, float) and self._varied.weight == 1.0:
            # the same for all samples: a table's figures, worked out once
            return part.cost.take(self._plan), model.on_wire(part.cost).take(self._plan)
        payload = part.cost.take(self._plan) * self._varied.weight
        return payload, model.on_wire(payload)

    def _cancel(
        self,
        part: SlotCosts,
        up: Upload,
        lanes: Ints,
        begin_s: Floats,
        wire_bytes: Floats,
        payload_bytes: Floats,
    ) -> None:
        """What the deadline cuts off in `lanes`, and what is still owed there."""
        own = self.links[part.slot.index].some(lanes)
        model = self.models[part.slot.index]
        stop_s = np.asarray(self._limit).take(lanes)
        passed = np.minimum(own.bytes_between(begin_s, stop_s), wire_bytes)
        owed = np.minimum(wire_bytes - passed, model.send_buffer_bytes)
        up.free_s.put(lanes, own.transfer_end(stop_s, owed))
        up.sent_bytes.put(lanes, passed + owed)
        up.payload_bytes.put(lanes, passed * payload_bytes / np.maximum(wire_bytes, 1.0))
        up.duration_s.put(lanes, stop_s - begin_s)
