"""Rates on the scale on which they are averaged and shown to policies: logarithms."""

from __future__ import annotations

import numpy as np

from artefacts.arrays import Floats

BLIND_RATE_BPS = 1e6
"""The rate that is assumed before anything was measured."""


def log_rate(rate_bps: Floats) -> Floats:
    """(log10 rate - 6) / 0.75, clipped to [-3, 3]: 5.6 kbit/s to 178 Mbit/s, 0 at 1 Mbit/s."""
    return np.asarray(np.clip((np.log10(np.maximum(rate_bps, 1.0)) - 6.0) / 0.75, -3.0, 3.0))
