"""Many streams of one policy decided together are what its controllers decide one by one."""

from dataclasses import replace

import numpy as np
import pytest

from controller.policies.learned import LearnedController
from experiments.analyses.beyond_training import measured
from experiments.evaluation.evaluator import evaluate
from traces.trace import BandwidthTrace


@pytest.fixture(scope="module")
def traces():
    rng = np.random.default_rng(5)
    return tuple(
        BandwidthTrace(
            f"t{k}", np.arange(20.0), 10.0 ** rng.uniform(4.0, 7.5, 20) * (rng.random(20) > 0.2),
            20.0,
        )
        for k in range(3)
    )  # fmt: skip


@pytest.fixture
def guarded(stream, random_policy):
    """A policy whose guard acts now and then: the fast mean of the rate leaves a narrow range."""
    policy = random_policy(stream)
    lowest, highest = policy.lowest.copy(), policy.highest.copy()
    k = policy.card.context.index("fast_log_rate")
    lowest[k], highest[k] = -1.0, 1.0
    return replace(policy, lowest=lowest, highest=highest)


def test_lanes_together_decide_as_each_alone(stream, guarded, traces, monkeypatch):
    found = []
    for alone in (False, True):
        made = [LearnedController(guarded, stream) for _ in traces]
        with monkeypatch.context() as patched:
            if alone:
                patched.setattr("experiments.evaluation.evaluator.together", lambda *_: None)
            runs = evaluate(stream, traces, lambda k, made=made: made[k], max_frames=400)
        found.append(([run.plan.tolist() for run in runs], [c.fallbacks for c in made]))
    assert found[0] == found[1]
    plans, fallbacks = found[0]
    assert all(0 < count < 400 for count in fallbacks)
    assert all(len(set(plan)) > 2 for plan in plans)


def test_what_the_guard_took_is_counted_beside_what_it_earned(stream, guarded, traces):
    row = measured(stream, guarded, traces, 1.0, 200)
    assert 0.0 < row.fallback_share < 1.0
    assert row.guarded != row.unguarded
    free = replace(guarded, lowest=np.full_like(guarded.lowest, -9.0),
                   highest=np.full_like(guarded.highest, 9.0))  # fmt: skip
    row = measured(stream, free, traces, 1.0, 200)
    assert row.fallback_share == 0.0
    assert row.guarded == pytest.approx(row.unguarded, abs=1e-9)
    never = replace(guarded, lowest=np.full_like(guarded.lowest, 8.0),
                    highest=np.full_like(guarded.highest, 9.0))  # fmt: skip
    row = measured(stream, never, traces, 1.0, 200)
    assert row.fallback_share == 1.0
    assert row.guarded == pytest.approx(row.robust, abs=0.02)
