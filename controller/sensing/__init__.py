"""What is known of the link from transfers that happened: change points, states, estimates.

Torch-free and numpy only: this runs on the device.
"""

from __future__ import annotations

from artefacts import UsageError
from controller.sensing.baselines import EwmaDetector
from controller.sensing.change_point import BayesianDetector
from controller.sensing.interface import ChangeDetector

DETECTORS = ("bayes", "ewma")


def make_detector(name: str) -> ChangeDetector:
    """A detector by name with its default settings; `UsageError` for a name that is none."""
    if name == "bayes":
        return BayesianDetector()
    if name == "ewma":
        return EwmaDetector()
    raise UsageError(f"change detector: found '{name}', expected {' or '.join(DETECTORS)}")
