"""Which part of which trace is worth a replay."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from traces.trace import BandwidthTrace

TURNING_BPS = 1e6
"""About this rate the shipped scenarios' plans change."""


def liveliest(traces: Sequence[BandwidthTrace], seconds: float) -> BandwidthTrace:
    """The part of `seconds` whose rate varies most about `TURNING_BPS`, where decisions matter."""
    best, found = -1.0, traces[0].slice(0.0, min(seconds, traces[0].duration_s))
    for trace in traces:
        for start in np.arange(0.0, trace.duration_s - seconds, seconds):
            part = trace.slice(float(start), float(start) + seconds)
            logs = np.log(np.maximum(part.resample(1.0).rates_bps, 1e4) / TURNING_BPS)
            lively = float(logs.std() - abs(logs.mean()))
            if lively > best:
                best, found = lively, part
    return found
