"""The drawn world: every law that its sections name, held against long draws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tidy import tidy

from controller.scenarios import load_setting
from controller.scenarios.sample_bytes import class_of, picture_bytes
from controller.scenarios.world import (
    LoadSection,
    NodeWorldSection,
    StateSection,
    WorldSection,
)
from envs.world import World
from tests.helpers.worlds import LANES, in_world, started


def drawn(setting, frames, interval_s, lanes=LANES, seed=3):
    rows = setting.rows("policy")
    world = World(setting, rows, "policy", lanes, np.random.default_rng(seed))
    every = np.ones(lanes, dtype=bool)
    world.place(every, np.zeros(lanes))
    return [world.draw(np.full(lanes, (k + 1) * interval_s)) for k in range(frames)]


def simulated(setting, plan, frames=60, lanes=LANES, seed=0):
    simulator = started(setting, lanes, seed)
    return [simulator.step(np.full(lanes, plan)) for _ in range(frames)]


def test_scenes_last_as_long_as_they_say_and_no_picture_is_rarer_than_another():
    setting = in_world(WorldSection(scene_s=2.0, likeness=0.9))
    labels = class_of(setting.model, setting.outcomes, "policy")
    samples = np.stack([d.sample for d in drawn(setting, 200, 0.1)])
    classes = labels[samples]
    frequent = np.bincount(classes.ravel(), minlength=10) / classes.size
    assert frequent == pytest.approx(np.bincount(labels) / len(labels), abs=0.02)
    seen = np.bincount(samples.ravel(), minlength=len(labels))
    assert (seen > 0).mean() > 0.99
    # a scene goes on for 0.1 s with exp(-0.05), and a new one has its class in one case of ten
    share = (classes[1:] == classes[:-1]).mean()
    expected = np.exp(-0.05) + (1 - np.exp(-0.05)) * (frequent**2).sum()
    assert share == pytest.approx(expected, abs=0.01)
    weighed = picture_bytes(setting.sizes, setting.outcomes, "policy")
    sizes = weighed[samples]
    near = np.corrcoef(sizes[:-1].ravel(), sizes[1:].ravel())[0, 1]
    assert near > 0.6
    far = np.corrcoef(sizes[:-80].ravel(), sizes[80:].ravel())[0, 1]
    assert abs(far) < 0.15
    apart = drawn(in_world(WorldSection(scene_s=1e-3, likeness=0.0)), 60, 0.1)
    loose = picture_bytes(setting.sizes, setting.outcomes, "policy")[
        np.stack([d.sample for d in apart])
    ]
    assert abs(np.corrcoef(loose[:-1].ravel(), loose[1:].ravel())[0, 1]) < 0.05


@settings(max_examples=10, deadline=None)
@given(mean_s=st.floats(0.2, 5.0), every_s=st.floats(0.2, 20.0), interval_s=st.floats(0.02, 1.0))
def test_a_state_holds_for_its_share_and_ends_at_its_rate(mean_s, every_s, interval_s):
    state = StateSection(1.5, mean_s, every_s)
    setting = in_world(WorldSection(device=NodeWorldSection(throttled=state)))
    inside = np.stack([d.slower[0] for d in drawn(setting, 60, interval_s, 1500)]) > 1.0
    share = mean_s / (mean_s + every_s)
    assert inside.mean() == pytest.approx(share, abs=0.05)
    left = share + (1 - share) * np.exp(-interval_s * (1 / mean_s + 1 / every_s))
    if inside[:-1].sum() > 2000:
        assert inside[1:][inside[:-1]].mean() == pytest.approx(left, abs=0.05)


def test_overheads_and_spreads_are_drawn_as_they_are_written():
    node = NodeWorldSection(overhead_s=0.002, jitter_s=0.003, spread=(0.8, 1.0, 2.0))
    draws = drawn(in_world(WorldSection(device=node)), 50, 0.04)
    seconds = np.stack([d.overheads_s[0] for d in draws])
    assert seconds.min() >= 0.002
    assert seconds.mean() == pytest.approx(0.005, rel=0.05)
    factors = np.stack([d.factors[0] for d in draws])
    assert np.quantile(factors, [0.0, 0.5, 1.0]) == pytest.approx([0.8, 1.0, 2.0], abs=0.02)
    assert all(d.factors[1] is None for d in draws)
    assert np.stack([d.overheads_s[1] for d in draws]).max() == 0.0


def test_what_others_leave_at_the_edge_is_the_queue_of_their_bursts():
    load = LoadSection(10.0, 0.03)
    setting = in_world(WorldSection(edge=NodeWorldSection(load=load)))
    left = np.stack([d.queued_s for d in drawn(setting, 400, 0.02)])[100:]
    # M/M/1: the workload's mean is share / (1 - share) of a burst's, idle for 1 - share
    assert left.mean() == pytest.approx(0.3 / 0.7 * 0.03, rel=0.15)
    assert (left == 0).mean() == pytest.approx(0.7, abs=0.05)


def _plan(setting, **wanted):
    for number, plan in enumerate(setting.table.plans):
        hop = plan.hops[0] if plan.hops else None
        if hop and hop.codec == wanted["codec"] and hop.start == 0 and not plan.gates:
            return number
    raise AssertionError("no such plan")


def test_frames_take_their_own_bytes_and_the_mean_is_what_it_was():
    calm, sized = load_setting(tidy("lte-mobilenet")), in_world(WorldSection(picture_sizes=True))
    plan = _plan(calm, codec="jpeg75")
    plain = np.stack([r.outcome.bytes_sent for r in simulated(calm, plan)])
    own = np.stack([r.outcome.bytes_sent for r in simulated(sized, plan)])
    assert np.ptp(plain) == 0.0
    assert own.std() / own.mean() == pytest.approx(0.24, abs=0.04)
    assert own.mean() == pytest.approx(plain.mean(), rel=0.02)
    known = np.stack([r.outcome.measured_bytes for r in simulated(sized, plan)])
    assert len(np.unique(known)) > 100


def test_a_busy_edge_and_a_slow_device_make_frames_late():
    calm = load_setting(tidy("lte-mobilenet"))
    plan = _plan(calm, codec="jpeg75")
    busy = NodeWorldSection(load=LoadSection(20.0, 0.03))
    waits = [r.outcome for r in simulated(in_world(WorldSection(edge=busy)), plan)]
    plain = [r.outcome for r in simulated(calm, plan)]
    assert np.mean([o.latency_s.mean() for o in waits]) > np.mean(
        [o.latency_s.mean() for o in plain]
    )
    queued = np.stack([o.served_s - o.reached_s for o in waits])
    assert queued[np.isfinite(queued)].mean() > 0.01
    local = int(np.flatnonzero(calm.table.local & ~calm.table.gated)[0])
    hot = NodeWorldSection(throttled=StateSection(2.0, 1e4, 1e-3))
    # the first frame alone: a device that is twice as slow falls behind, and drops those behind it
    slow = simulated(in_world(WorldSection(device=hot)), local, 1)[0].outcome.device_s
    cool = simulated(calm, local, 1)[0].outcome.device_s
    assert slow == pytest.approx(2.0 * cool)


def test_the_same_seed_draws_the_same_world_whatever_is_decided():
    setting = in_world(
        WorldSection(
            picture_sizes=True,
            scene_s=2.0,
            device=NodeWorldSection(jitter_s=0.002, shared=StateSection(1.5, 1.0, 5.0)),
            edge=NodeWorldSection(load=LoadSection(5.0, 0.02)),
        )
    )
    local = int(np.flatnonzero(setting.table.local & ~setting.table.gated)[0])
    one, two = simulated(setting, local), simulated(setting, local)
    for a, b in zip(one, two, strict=True):
        assert np.array_equal(a.outcome.latency_s, b.outcome.latency_s)
        assert np.array_equal(a.quality, b.quality)
    other = simulated(setting, local, seed=1)
    assert any(not np.array_equal(a.quality, b.quality) for a, b in zip(one, other, strict=True))
