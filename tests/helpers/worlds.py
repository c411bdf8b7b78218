"""Simulators of the camera scenario in a world of one's own."""

import msgspec
import numpy as np

from controller.physics import TraceBank
from controller.scenarios import load_setting, read_scenario
from envs.simulator import Simulator
from traces.trace import BandwidthTrace

TRACE = BandwidthTrace("steady", np.array([0.0]), np.array([4e6]), 600.0)
LANES = 400


def in_world(world):
    return load_setting(msgspec.structs.replace(read_scenario("lte-mobilenet"), world=world))


def started(setting, lanes=LANES, seed=0):
    """A simulator whose lanes stand at the start of a steady link."""
    simulator = Simulator(setting, TraceBank([TRACE]), lanes, "policy", np.random.default_rng(seed))
    simulator.place(np.ones(lanes, dtype=bool), np.zeros(lanes, dtype=np.int64), np.zeros(lanes))
    return simulator
