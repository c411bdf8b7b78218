"""Made traces, and a short evaluation of them."""

import numpy as np

from experiments.studies.study import (
    EvaluationSpec,
    SeriesSpec,
)
from traces.trace import BandwidthTrace

FRAMES = 40
NAMES = ("device-only", "edge-only", "algorithm1-online", "robust")


def made_traces(count, seed=0, prefix="t"):
    rng = np.random.default_rng(seed)
    return tuple(
        BandwidthTrace(f"{prefix}{k}", np.arange(8.0), rng.uniform(2e5, 4e6, 8), 8.0)
        for k in range(count)
    )


def spec_of(logs, **changes):
    plain = {"name": "e", "scenario": "3g-alexnet", "traces": (str(logs),), "controllers": NAMES,
             "frames": FRAMES, "series": SeriesSpec(seconds=1.0)}  # fmt: skip
    return EvaluationSpec(**(plain | changes))
