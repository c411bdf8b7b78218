"""What baselines rest on: every combination is run, on the training logs; nonsense is refused."""

import argparse
from dataclasses import replace

import numpy as np
import pytest

from controller.interface import Measurement, Situation
from controller.physics import TraceBank
from controller.planners.rate_rule import RateRule
from controller.planners.robust import RobustPlanner
from controller.scenarios import load_setting, read_scenario
from controller.sensing.belief import BandwidthBelief, Counting
from controller.sensing.estimators import HarmonicMean
from experiments.analyses import baseline_constants
from experiments.arguments import count, count_or_none
from experiments.evaluation.evaluator import mean_rewards
from traces.trace import BandwidthTrace


def test_every_combination_is_what_it_earns_on_the_training_logs(monkeypatch):
    for name, values in (
        ("TRANSFERS", (1, 4)), ("PATIENCES_S", (0.5,)), ("MARGINS", (0.3, 1.0)),
        ("DISCOUNTS", (0.99,)), ("WIDTHS", (0.3,)),
        ("COUNTINGS", (Counting(), Counting(2, (0.0, 8.0), 0.5))),
    ):  # fmt: skip
        monkeypatch.setattr(baseline_constants, name, values)
    setting = load_setting(read_scenario("3g-alexnet"))
    found = list(baseline_constants.rows(setting, 150))
    assert [row.controller for row in found] == ["rate-rule"] * 4 + ["bandit"] + ["robust"] * 4
    assert len({str(row.constants) for row in found}) == 9
    assert len({row.reward for row in found[:5]}) == 5, "each constant is felt"
    assert found[5].reward != found[7].reward, "and how finely a belief is counted"
    traces = setting.traces("train").traces
    rules = [RateRule(setting, 0.3, estimator=HarmonicMean(4), patience_s=0.5) for _ in traces]
    alone = mean_rewards(setting, TraceBank(traces), rules, "policy", 150).mean()
    row = next(
        r for r in found if r.constants == {"transfers": 4, "patience_s": 0.5, "margin": 0.3}
    )
    assert row.reward == float(alone)
    robust = found[5]
    assert robust.constants == {"levels": 32, "grid_s": 0.1, "headers": 0.0}, "as it is used"
    belief, judged = (
        BandwidthBelief.from_traces(traces),
        TraceBank(setting.traces("validation").traces),
    )
    planners = [RobustPlanner(setting, belief) for _ in judged.names]
    assert robust.reward == float(mean_rewards(setting, judged, planners, "policy", 150).mean())


def test_with_headers_the_link_is_faster_than_its_payload():
    setting = load_setting(read_scenario("lte-mobilenet"))
    rates = np.linspace(1e5, 1e6, 600)
    belief = BandwidthBelief.from_traces([BandwidthTrace("t", np.arange(600.0), rates, 600.0)])
    plain, with_headers = (
        RobustPlanner(setting, belief),
        baseline_constants.RobustWithHeaders(setting, belief),
    )
    now = Situation(1.0, 0, setting.scenario.frames.deadline_s, 0.0, 0, 0.03)
    few = Measurement(0.9, 600, 0.02)
    assert not np.array_equal(*(_measured(one, few).expected(now) for one in (plain, with_headers)))
    crossed = replace(few, payload_bytes=600 + 256 + 66)
    assert np.array_equal(_measured(plain, crossed).expected(now), with_headers.expected(now))


def _measured(planner, measurement):
    planner.observe(measurement)
    return planner


@pytest.mark.parametrize(
    ("kind", "text"),
    [(count, "0"), (count, "-3"), (count, "1.5"), (count_or_none, "-1"), (count_or_none, "x")],
)
def test_numbers_that_make_no_sense_are_refused(kind, text):
    with pytest.raises(argparse.ArgumentTypeError, match=f"found '{text}', expected a whole"):
        kind(text)


def test_the_least_is_taken():
    assert (count("1"), count_or_none("0")) == (1, 0)
