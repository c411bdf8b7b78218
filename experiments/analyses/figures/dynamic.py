"""Edgent's dynamic experiment: the distribution of throughput, configuration map against static."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from controller.scenarios import load_setting, read_scenario
from experiments.analyses.figures.edgent import throughput_cdf_plot
from experiments.evaluation.controllers import ControllerFactory
from experiments.evaluation.evaluator import evaluate

CONTROLLERS = ("algorithm1", "map", "learned")


def draw_throughput(
    path: Path, progress: Callable[[str, float], None] = lambda name, share: None
) -> tuple[dict[str, float], str]:
    """Run the closed loop on the test traces; the 0.6 quantiles of 1/latency, and the traces used.

    Every inference is one sample of throughput (1 / its latency).
    """
    setting = load_setting(read_scenario("edgent"))
    traces = setting.traces("test")
    factory = ControllerFactory(setting)
    samples = {}
    for name in CONTROLLERS:

        def report(share: float, name: str = name) -> None:
            progress(name, share)

        make = factory.maker(name, traces.traces)
        runs = evaluate(setting, traces.traces, make, progress=report)
        samples[name] = 1.0 / np.concatenate([run.latency_s for run in runs])
    return throughput_cdf_plot(samples, path), traces.source
