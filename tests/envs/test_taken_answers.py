"""A frame whose fallback's time another job takes has no answer, and that job pays for it."""

import numpy as np
import pytest
from tidy import tidy

from controller.physics import TraceBank
from controller.planners.fixed import FixedController
from controller.plans import device_only
from controller.scenarios import load_setting
from envs.simulator import Simulator
from experiments.evaluation.evaluator import evaluate
from traces.trace import BandwidthTrace

DEAD = BandwidthTrace("dead", np.array([0.0]), np.array([1e3]), 20.0)


@pytest.fixture(scope="module")
def setting():
    return load_setting(tidy("lte-mobilenet"))


def plans(setting):
    """One that waits for the edge and keeps time, and the deepest exit that one deadline holds."""
    table, deadline_s = setting.table, setting.scenario.frames.deadline_s
    waits = int(np.flatnonzero(np.isfinite(table.rescue_s) & (table.prefix_s < 0.001))[0])
    own = [table.index(device_only(setting.spec, e)) for e in range(len(setting.spec.branches))]
    return waits, max(
        (p for p in own if table.prefix_s[p] < deadline_s), key=lambda p: table.prefix_s[p]
    )


def simulated(setting):
    found = Simulator(setting, TraceBank([DEAD]), 1, "report", np.random.default_rng(0))
    found.place(np.ones(1, dtype=bool), np.zeros(1, dtype=np.int64), np.zeros(1))
    return found


def ends(simulator):
    return {int(e.frame[0]): (bool(e.in_time[0]), int(e.exit[0])) for e in simulator.ends()}


def test_a_job_that_cannot_wait_takes_the_answer_of_the_frame_before(setting):
    waits, deep = plans(setting)
    simulator = simulated(setting)
    first = simulator.step(np.array([waits]))
    assert first.in_time.all()
    assert first.outcome.answer_exit.tolist() == [0]
    second = simulator.step(np.array([deep]))
    assert second.in_time.all()
    assert second.taken.frames[-1].tolist() == [True]
    assert second.taken.frames.sum() == 1
    worth = setting.rows("report").means[0]
    assert second.taken.accuracy == pytest.approx([worth])
    assert second.taken.quality.tolist() == [float(first.quality[0])]
    assert second.reward[0] == float(second.quality[0]) - float(first.quality[0])
    third = simulator.step(np.array([deep]))
    assert third.taken.frames.sum() == 0
    simulator.now_s += 1.0
    found = ends(simulator)
    assert found[0] == (False, -1)
    assert found[1][0]


def test_a_job_that_can_wait_takes_nothing(setting):
    waits, _ = plans(setting)
    simulator = simulated(setting)
    for _ in range(3):
        assert simulator.step(np.array([waits])).taken.frames.sum() == 0
    simulator.now_s += 1.0
    assert ends(simulator)[0] == (True, 0)


def test_the_evaluator_counts_it_late(setting):
    waits, deep = plans(setting)

    class Alternating(FixedController):
        def decide(self, situation):
            return (waits, deep)[situation.frame % 2]

    (run,) = evaluate(setting, [DEAD], lambda k: Alternating("alternating", waits), max_frames=40)
    own, sent = run.in_time[1::2], run.in_time[::2]
    assert (run.plan[::2] == waits).all()
    assert own.sum() >= 10
    # the device has time for one of the two
    assert not (own & sent).any()
    assert not run.quality[::2][own].any()
    assert np.isinf(run.latency_s[::2][own]).all()
    # and what is earned is what the answers that are left are worth
    accuracy = setting.rows("report").means
    worth = accuracy[int(setting.table.exit[deep])] * own.sum() + accuracy[0] * sent.sum()
    assert run.reward.sum() == pytest.approx(worth)
