"""Answers between right and wrong go from outcomes to every figure by their mean."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from made_vectors import CONSTANT, LAYER_S, LOSSY, made_quality, made_setting

from controller.physics import TraceBank
from controller.planners.fixed import FixedController
from controller.plans import device_only
from controller.scenarios.rewards import expectation
from envs.simulator import Simulator
from experiments.evaluation.bound import bound_per_frame
from experiments.evaluation.comparison import figures_of
from experiments.evaluation.evaluator import evaluate
from experiments.studies.kept_runs import pack_runs, unpack_runs
from traces.trace import BandwidthTrace

DEAD = BandwidthTrace("dead", np.array([0.0]), np.array([1.0]), 30.0)
PRICE = 0.5


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    return made_setting(tmp_path_factory.mktemp("vectors"))


@pytest.fixture(scope="module")
def priced(tmp_path_factory):
    return made_setting(tmp_path_factory.mktemp("priced"), PRICE)


def mean_of(setting, half, exit_):
    """Of the last exit's made numbers, summed by hand."""
    own = made_quality()[exit_, "float32", 0]
    return sum(own[k] for k in setting.outcomes.half(half)) / len(setting.outcomes.half(half))


def local(setting, exit_):
    return setting.table.index(device_only(setting.spec, exit_))


def test_plans_are_as_accurate_as_their_samples_are_good_on_average(setting):
    table = setting.table
    for exit_ in (0, 1):
        expected = mean_of(setting, "policy", exit_)
        assert table.accuracy[local(setting, exit_)] == pytest.approx(expected, abs=1e-12)
        assert 0.1 < expected < 0.9
    sending = [k for k, p in enumerate(setting.table.plans) if p.hops and p.hops[0].codec == "int8"]
    assert all(table.accuracy[k] == LOSSY for k in sending)
    found = expectation(setting, np.array([1.0]))
    assert found.answer[0, local(setting, 1)] == pytest.approx(mean_of(setting, "policy", 1))


def test_a_frame_earns_its_quality_less_its_price(priced):
    lanes = 64
    simulator = Simulator(priced, TraceBank([DEAD]), lanes, "report", np.random.default_rng(0))
    own = made_quality()[1, "float32", 0][priced.outcomes.half("report")]
    simulator.place(np.ones(lanes, dtype=bool), np.zeros(lanes, dtype=np.int64), np.zeros(lanes))
    plan = np.full(lanes, local(priced, 1))
    drawn = []
    for _ in range(40):
        result = simulator.step(plan)
        assert result.in_time.all()
        cost = PRICE * 4 * LAYER_S["device"]
        assert result.reward == pytest.approx(result.quality - cost, abs=1e-12)
        mean = mean_of(priced, "report", 1) - cost
        assert simulator.mean_reward(result) == pytest.approx(np.full(lanes, mean), abs=1e-12)
        drawn.append(result.quality)
    assert set(np.ravel(drawn)) <= set(own)
    assert len(np.unique(drawn)) == len(np.unique(own)) > 20
    assert np.mean(drawn) == pytest.approx(own.mean(), abs=4 * own.std() / np.sqrt(np.size(drawn)))


def test_goodput_accuracy_is_the_mean_over_frames_in_time(setting):
    def figures(exit_):
        (run,) = evaluate(setting, [DEAD], lambda k: FixedController("own", local(setting, exit_)))
        bound = bound_per_frame(setting, DEAD, run.arrival_s)
        return run, bound, figures_of([run], [bound], False)

    run, bound, found = figures(0)
    assert found.frames > 200
    assert found.late_share == 0.0
    assert found.goodput_accuracy == CONSTANT
    assert found.reward == pytest.approx(CONSTANT)
    # nothing crosses a dead link, and the device has the time for its last exit
    assert bound == pytest.approx(np.full(len(bound), mean_of(setting, "report", 1)), abs=1e-12)
    assert found.share_of_bound == pytest.approx(CONSTANT / mean_of(setting, "report", 1))
    run, _, found = figures(1)
    assert found.goodput_accuracy == pytest.approx(sum(run.quality.tolist()) / len(run.quality))
    assert found.goodput_accuracy == pytest.approx(mean_of(setting, "report", 1), abs=0.08)
    assert found.reward == pytest.approx(mean_of(setting, "report", 1))


def test_an_answer_that_is_late_is_worth_nothing(setting):
    frames = msgspec.structs.replace(setting.scenario.frames, deadline_s=0.035)
    scenario = msgspec.structs.replace(setting.scenario, frames=frames)
    late = replace(setting, scenario=scenario)
    (run,) = evaluate(late, [DEAD], lambda k: FixedController("own", local(setting, 1)))
    assert len(run.quality) > 200
    assert not run.in_time.any()
    assert run.quality.tolist() == [0.0] * len(run.quality)
    assert figures_of([run], None, False).goodput_accuracy == 0.0


def test_kept_runs_come_back_with_their_quality(setting):
    runs = evaluate(
        setting, [DEAD], lambda k: FixedController("own", local(setting, 1)), max_frames=50
    )
    (again,) = unpack_runs(pack_runs(runs))
    assert again.quality.dtype == np.float64
    assert again.quality.tolist() == runs[0].quality.tolist()
    assert 0.0 < again.quality.min() < again.quality.max() < 1.0
