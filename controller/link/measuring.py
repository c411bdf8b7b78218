"""What an upload says of the link: how fast it was, by the receive times that the edge tells."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.interface import Measurement
from controller.wire import RemoteProtocolError
from controller.wire.messages import meta_number

CARRIED = 1.02
"""Bytes in TCP's window for a byte of tensor: our own headers count there too."""
MIN_SPAN_S = 0.002
"""Receive spans shorter than this say nothing of the link: what came in was one burst."""
DRIFT = 1.01
"""An edge's second is at most so much longer than ours."""
SLACK_S = 0.001


@dataclass
class Upload:
    """One request under way. `cancel` ends it between two chunks; it is over at `until_s`."""

    request_id: int
    meta: dict[str, Any]
    data: bytes
    submitted_s: float
    until_s: float = math.inf
    begun_s: float | None = None
    window_bytes: float = math.inf
    """What TCP let into the first round trip (infinite where the system does not tell)."""
    sent_bytes: int = 0
    cancelled: bool = False
    finished: bool = False


def measure(
    job: Upload,
    meta: Mapping[str, Any],
    now_s: float,
    rtt_s: float,
    cancelled: bool,
    usual_rtt_s: float = 0.0,
) -> Measurement | None:
    """How fast an upload was, from the edge's receive times; None where none of it was sent.

    What came after the first read, over the time since it. Where everything came in one read (a
    small tensor on a fast link), the time from the upload's beginning to the reply, less the usual
    round trip and the edge's own time. The sender's buffer is never asked.
    """
    received = _within(meta, "received_bytes", len(job.data), len(job.data))
    first = _within(meta, "first_read_bytes", 0.0, received)
    begun = job.submitted_s if job.begun_s is None else job.begun_s
    # clocks run apart a little, and nothing was received before it was sent
    longest_s = max(now_s - begun, 0.0) * DRIFT + SLACK_S
    span = _within(meta, "receive_s", 0.0, longest_s)
    edge_s = _within(meta, "queue_s", 0.0, math.inf) + _within(meta, "compute_s", 0.0, math.inf)
    if cancelled and job.sent_bytes == 0:
        return None
    if span >= MIN_SPAN_S and received > first:
        # what TCP held back is not the link's slowness
        busy = span - _waited_s(CARRIED * received, meta, rtt_s, job.window_bytes)
        return Measurement(now_s, int(received - first), max(busy, MIN_SPAN_S / 4), not cancelled)
    spent = now_s - begun - max(rtt_s, usual_rtt_s)
    spent = max(spent - edge_s, MIN_SPAN_S / 4)
    return Measurement(now_s, int(received), spent, not cancelled)


def _waited_s(
    wire_bytes: float, meta: Mapping[str, Any], rtt_s: float, window_bytes: float
) -> float:
    """How long TCP stood still for want of window, by the longest gaps that the edge tells of.

    An upload of n windows' doublings has waited n times at most, no longer than a round trip each.
    """
    gaps = meta.get("gaps_s")
    if not isinstance(gaps, list) or not all(
        isinstance(gap, float | int) and math.isfinite(gap) for gap in gaps
    ):
        return 0.0
    if wire_bytes <= window_bytes or rtt_s <= 0:
        return 0.0
    rounds = math.ceil(math.log2(wire_bytes / window_bytes + 1.0)) - 1
    longest = sorted((min(max(float(gap), 0.0), rtt_s) for gap in gaps), reverse=True)
    return math.fsum(longest[:rounds])


def _within(meta: Mapping[str, Any], key: str, default: float, most: float) -> float:
    """A number of the edge's from 0 to `most`; a `RemoteProtocolError` for any other."""
    value = meta_number(meta, key, default)
    if not 0 <= value <= most:
        raise RemoteProtocolError(f"{key}: found {value:g}, expected 0 to {most:g}")
    return value
