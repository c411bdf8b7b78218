"""What every `ChangeDetector` must do; a new one is tested as soon as it has a name."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artefacts import UsageError
from controller.sensing import make_detector
from experiments.evaluation.detectors import NAMES
from experiments.evaluation.detectors import make_detector as make_any_detector


@pytest.fixture(params=NAMES)
def detector(request):
    return make_any_detector(request.param)


def jump(seed=0):
    rng = np.random.default_rng(seed)
    return np.repeat([5e6, 8e5], 80) * np.exp(0.2 * rng.standard_normal(160))


def test_it_has_its_name(detector):
    assert detector.name in NAMES


def test_the_first_measurement_is_no_change(detector):
    step = detector.update(3e6, 12.0)
    assert not step.change
    assert step.samples == 1
    assert step.mean_bps == pytest.approx(3e6)
    assert step.run_length_s == 0
    assert step.std_bps > 0


def test_a_jump_is_found_and_the_new_level_reported(detector):
    values = jump()
    found = [detector.update(float(v), float(k)) for k, v in enumerate(values)]
    changes = [k for k, step in enumerate(found) if step.change]
    assert any(80 <= k < 100 for k in changes)
    assert found[-1].mean_bps == pytest.approx(8e5, rel=0.35)
    assert found[-1].samples < 100


def test_reset_forgets_everything(detector):
    values = jump()

    def run():
        return [detector.update(float(v), float(k)) for k, v in enumerate(values)]

    first = run()
    detector.reset()
    assert run() == first


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0])
def test_refuses_a_value_that_is_no_rate_and_stays_as_it_was(detector, value):
    detector.update(2e6, 0.0)
    with pytest.raises(UsageError, match="bandwidth measurement: found"):
        detector.update(value, 1.0)
    untouched = make_any_detector(detector.name)
    untouched.update(2e6, 0.0)
    assert detector.update(2.2e6, 2.0) == untouched.update(2.2e6, 2.0)


def test_refuses_a_time_that_is_no_time(detector):
    with pytest.raises(UsageError, match="found time nan s"):
        detector.update(1e6, math.nan)


def test_a_transfer_that_brought_nothing_is_a_measurement(detector):
    for k in range(20):
        detector.update(4e6, float(k))
    found = [detector.update(0.0, 20.0 + k) for k in range(20)]
    assert any(step.change for step in found)
    assert found[-1].mean_bps < 1e6


@pytest.mark.parametrize("name", NAMES)
@given(st.lists(st.tuples(st.floats(0, 1e12), st.floats(0, 1e4)), min_size=1, max_size=40))
@settings(max_examples=25, deadline=None)
def test_answers_are_numbers_whatever_is_measured(name, pairs):
    detector = make_any_detector(name)
    now = 0.0
    for value, gap in pairs:
        now += gap
        step = detector.update(value, now)
        assert math.isfinite(step.mean_bps)
        assert step.mean_bps > 0
        assert math.isfinite(step.std_bps)
        assert step.std_bps >= 0
        assert step.samples >= 1
        assert step.run_length_s >= 0


def test_unknown_names_are_refused():
    with pytest.raises(UsageError, match="found 'cusum', expected bayes or ewma"):
        make_detector("cusum")
    with pytest.raises(
        UsageError, match="found 'cusum', expected one of bayes, ewma, page-hinkley"
    ):
        make_any_detector("cusum")
