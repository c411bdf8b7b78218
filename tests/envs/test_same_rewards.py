"""The same seed gives the rewards that it gave before the simulator was made faster."""

import hashlib

import numpy as np
import pytest
from priced import taken
from tidy import tidy

from controller.physics import TraceBank
from controller.scenarios import load_setting
from envs.simulator import Simulator
from traces.trace import BandwidthTrace

LANES, FRAMES = 64, 150

EXPECTED = {
    "lte-mobilenet": "03f489539b4a3fdc",
    "lte-mobilenet-priced": "0cef5bc0c2d72275",
    "3g-alexnet": "64faa5e11e77deea",
    "edgent": "ee76fc7ca3873df2",
}
"""Taken with the code of November 2026; they change with scenarios, profiles and outcomes too, not
with policies. Numbers count to nine decimals: the exponential of a normal draw is the processor's
to round.
"""

WITHOUT_WORLD = {
    "lte-mobilenet": "c3fb9a56f47f9d42",
    "lte-mobilenet-priced": "c5aeff431de3322c",
    "3g-alexnet": "41c45782fd3ccb19",
}
"""The same where plans cost what their profiles say."""


def made_bank():
    """Three traces of a minute: neither the logs nor their stand-ins enter."""
    rng, traces = np.random.default_rng(6), []
    for name in "abc":
        share = rng.random(80)
        rates_bps = 6e6 * share * share * share * (rng.random(80) > 0.05)
        traces.append(BandwidthTrace.from_intervals(name, rng.uniform(0.3, 1.2, 80), rates_bps))
    return TraceBank(traces)


def digest(scenario):
    """Answers, rewards, backlogs and what becomes known, under plans drawn at random."""
    setting = load_setting(scenario)
    simulator = Simulator(setting, made_bank(), LANES, "policy", np.random.default_rng(7))
    simulator.place_randomly(np.ones(LANES, dtype=np.bool_), FRAMES)
    found, rng = hashlib.sha256(), np.random.default_rng(8)
    for _ in range(FRAMES):
        known = np.zeros((2, LANES))
        for measured in simulator.deliver():
            known[0] += np.where(measured.lanes, measured.payload_bytes, 0.0)
        for ended in simulator.ends():
            known[1] += np.where(ended.lanes, ended.frame, 0)
        backlogs = simulator.backlogs()
        result = simulator.step(rng.integers(0, len(setting.table), LANES))
        found.update(result.outcome.answer_exit.astype("<i8").tobytes())
        for value in (result.reward, result.energy_j, *backlogs, *known):
            # + 0.0: no negative zeros
            found.update((np.round(value, 9) + 0.0).astype("<f8").tobytes())
    return found.hexdigest()[:16]


@pytest.mark.parametrize("name", EXPECTED)
def test_a_seed_gives_the_rewards_it_gave(name):
    assert digest(taken(name)) == EXPECTED[name]


@pytest.mark.parametrize("name", WITHOUT_WORLD)
def test_a_seed_gives_the_rewards_it_gave_without_a_world(name):
    assert digest(tidy(name)) == WITHOUT_WORLD[name]
