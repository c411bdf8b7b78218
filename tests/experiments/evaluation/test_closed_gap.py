"""Which gap is meant where a share of one is given."""

import msgspec
import pytest

from experiments.evaluation import closed_gap as module


class Earned(msgspec.Struct):
    reward: float


def closed_gap(rewards, bound, optimum):
    return module.closed_gap({n: Earned(r) for n, r in rewards.items()}, bound, optimum)


REWARDS = {"learned": 0.84, "planning": 0.835, "robust": 0.82, "device-only": 0.78, "oracle": 0.83}


def test_the_rival_is_the_best_that_runs_on_a_device_without_a_policy():
    gap = closed_gap({**REWARDS, "optimum": 0.85}, 0.87, 0.86)
    assert gap.rival == "robust"
    assert gap.of_bound == pytest.approx(0.4)
    assert gap.of_optimum == pytest.approx(0.5)
    assert closed_gap(REWARDS, 0.87, None).of_optimum is None


def test_behind_its_rival_it_closes_less_than_nothing():
    assert closed_gap({**REWARDS, "robust": 0.85}, 0.87, None).of_bound == pytest.approx(-0.5)


@pytest.mark.parametrize("missing", [{"learned"}, {"robust", "device-only"}])
def test_without_a_policy_or_a_rival_there_is_none(missing):
    assert closed_gap({n: r for n, r in REWARDS.items() if n not in missing}, 0.87, None) is None


def test_a_rival_at_the_limit_leaves_no_gap():
    assert closed_gap({**REWARDS, "robust": 0.87}, 0.87, None) is None
    assert closed_gap({**REWARDS, "robust": 0.865}, 0.87, 0.86).of_optimum is None
