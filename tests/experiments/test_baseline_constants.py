"""What baselines rest on: every combination is run, on the training logs; nonsense is refused."""

import argparse

import pytest

from controller.physics import TraceBank
from controller.planners.rate_rule import RateRule
from controller.scenario import load_setting, read_scenario
from controller.sensing.estimators import HarmonicMean
from experiments import baseline_constants
from experiments.arguments import count, count_or_none
from experiments.evaluation import mean_rewards


def test_every_combination_is_what_it_earns_on_the_training_logs(monkeypatch):
    for name, values in (
        ("TRANSFERS", (1, 4)), ("PATIENCES_S", (0.5,)), ("MARGINS", (0.3, 1.0)),
        ("DISCOUNTS", (0.99,)), ("WIDTHS", (0.3,)),
    ):  # fmt: skip
        monkeypatch.setattr(baseline_constants, name, values)
    setting = load_setting(read_scenario("3g-alexnet"))
    found = list(baseline_constants.rows(setting, 60))
    assert [row.controller for row in found] == ["rate-rule"] * 4 + ["bandit"]
    assert len({str(row.constants) for row in found}) == 5
    assert len({row.reward for row in found}) == 5, "each constant is felt"
    traces = setting.traces("train").traces
    rules = [RateRule(setting, 0.3, estimator=HarmonicMean(4), patience_s=0.5) for _ in traces]
    alone = mean_rewards(setting, TraceBank(traces), rules, "policy", 60).mean()
    row = next(
        r for r in found if r.constants == {"transfers": 4, "patience_s": 0.5, "margin": 0.3}
    )
    assert row.reward == float(alone)


@pytest.mark.parametrize(
    ("kind", "text"),
    [(count, "0"), (count, "-3"), (count, "1.5"), (count_or_none, "-1"), (count_or_none, "x")],
)
def test_numbers_that_make_no_sense_are_refused(kind, text):
    with pytest.raises(argparse.ArgumentTypeError, match=f"found '{text}', expected a whole"):
        kind(text)


def test_the_least_is_taken():
    assert (count("1"), count_or_none("0")) == (1, 0)
