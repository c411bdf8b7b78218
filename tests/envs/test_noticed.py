"""What simulated frames show of their world is what a device would have noticed of it."""

import numpy as np
import pytest

from controller.scenarios.world import LoadSection, NodeWorldSection, StateSection, WorldSection
from tests.helpers.worlds import LANES, in_world, started

SIZE, QUEUE_S, CONFIDENCE = range(3)


def shown(setting, plan, frames=20):
    """What every frame of `plan` has shown, (3, N), once the device knows of it."""
    simulator, found = started(setting), []
    for _ in range(frames):
        simulator.step(np.full(LANES, plan))
        found += [ended.noticed[:, ended.lanes] for ended in simulator.ends()]
    return np.concatenate(found, axis=1)


def local_plan(setting):
    return int(np.flatnonzero(setting.table.local & ~setting.table.gated)[0])


def sender(setting):
    """The plan that sends every frame's picture as JPEG, whose bytes differ most."""
    table = setting.table
    return next(
        k for k in table.senders.tolist() if table.plans[k].hops[0].codec.startswith("jpeg")
    )


def test_a_slower_device_shows_in_its_own_jobs():
    state = StateSection(factor=1.5, mean_s=1e4, every_s=1e-3)
    world = WorldSection(device=NodeWorldSection(spread=(1.0, 1.0), shared=state))
    setting = in_world(world)
    simulator, found = started(setting), []
    assert (simulator.device_pace == 1.0).all()
    for _ in range(20):
        simulator.step(np.full(LANES, local_plan(setting)))
        found += [ended.noticed[:, ended.lanes] for ended in simulator.ends()]
    found = np.concatenate(found, axis=1)
    assert simulator.device_pace == pytest.approx(np.full(LANES, 1.5))
    assert np.isnan(found[SIZE]).all()
    assert np.isnan(found[QUEUE_S]).all()
    exit_ = setting.table.exit[local_plan(setting)]
    temperature = setting.model.temperatures[exit_]
    half = setting.outcomes.half("policy")
    mean = setting.outcomes.calibrated(exit_, temperature)[half].mean()
    assert np.nanmean(found[CONFIDENCE]) == pytest.approx(mean, abs=0.01)


def test_pictures_show_their_size_and_the_edge_its_queue():
    load = LoadSection(bursts_per_s=20.0, burst_s=0.01)
    setting = in_world(WorldSection(picture_sizes=True, edge=NodeWorldSection(load=load)))
    found = shown(setting, sender(setting))
    sizes = found[SIZE][np.isfinite(found[SIZE])]
    assert sizes.mean() == pytest.approx(1.0, abs=0.02)
    assert sizes.std() > 0.05
    waits = found[QUEUE_S][np.isfinite(found[QUEUE_S])]
    assert (waits >= -1e-9).all()
    # M/M/1: a wait is longer than t with the share of the load times exp(-(1 - share) t / burst)
    assert (waits > 0.005).mean() == pytest.approx(0.2 * np.exp(-0.8 * 0.5), abs=0.02)


def test_a_tidy_world_shows_nothing():
    setting = in_world(WorldSection())
    assert np.isnan(shown(setting, local_plan(setting))).all()
