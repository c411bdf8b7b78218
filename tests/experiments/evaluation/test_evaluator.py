"""The evaluator: many streams at once are what single runs are, whoever decides."""

from dataclasses import replace

import numpy as np
import pytest

from controller.planners.fixed import FixedController
from controller.policies.learned import LearnedController
from experiments.evaluation.evaluator import evaluate
from experiments.evaluation.single_plans import best_single, single_plan_rewards


def test_one_batched_run_gives_what_single_runs_give(closed, short_traces):
    batched = single_plan_rewards(closed, short_traces, "policy")
    for plan in range(len(closed.table)):
        runs = evaluate(
            closed, short_traces, lambda k, p=plan: FixedController("x", p), half="policy"
        )
        mean = float(np.concatenate([r.reward for r in runs]).mean())
        assert batched[plan] == pytest.approx(mean, rel=1e-6)
    assert best_single(closed, short_traces, "policy") == int(np.argmax(batched))


def test_streams_decided_together_are_decided_as_one_by_one(stream, random_policy, short_traces):
    policy = random_policy(stream)
    narrow = replace(policy, highest=np.where(policy.highest > 0, 0.2, policy.highest))
    for one in (policy, replace(narrow, highest=narrow.highest.astype(np.float32))):
        apart = []
        for k, trace in enumerate(short_traces):
            lanes = [LearnedController(one, stream), FixedController("x", 0)]
            both = evaluate(stream, [trace, trace], lambda k, lanes=lanes: lanes[k], seed=k)
            again = evaluate(
                stream, [trace, trace], lambda k, one=one: LearnedController(one, stream), seed=k
            )
            apart.append(np.mean(both[0].plan != again[0].plan))
            assert both[0].arrival_s == pytest.approx(again[0].arrival_s)
        assert np.mean(apart) < 0.01
