import itertools
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artefacts import UsageError
from controller.sensing.change_point import BayesianConfig, BayesianDetector

# the paper's recursion, whole: every measurement counts, nothing is dropped
PLAIN = {"correlation_s": 0.0}
EXACT = {**PLAIN, "prune_mass": 0.0, "max_hypotheses": 64}


def log_evidence(values, config, centre):
    """Normal-Gamma marginal likelihood of one segment in closed form (Murphy 2007, eq. 95)."""
    n, a0, k0 = len(values), 0.5 * config.prior_samples, config.prior_weight
    b0 = a0 * config.prior_std**2
    mean = sum(values) / n
    bn = b0 + 0.5 * sum((x - mean) ** 2 for x in values)
    bn += k0 * n * (mean - centre) ** 2 / (2 * (k0 + n))
    an, kn = a0 + n / 2, k0 + n
    return (
        math.lgamma(an)
        - math.lgamma(a0)
        + a0 * math.log(b0)
        - an * math.log(bn)
        + 0.5 * (math.log(k0) - math.log(kn))
        - 0.5 * n * math.log(2 * math.pi)
    )


def reference(values, times, config):
    """Posterior over the start of the last segment, by summing over all 2^(n-1) segmentations."""
    n = len(values)
    if config.scale == "log":
        scaled, centre = [math.log(v) for v in values], math.log(values[0])
    else:
        scaled, centre = [v / values[0] for v in values], 1.0
    mass = np.zeros(n)
    for cuts in itertools.product((False, True), repeat=n - 1):
        starts = [0] + [k + 1 for k, cut in enumerate(cuts) if cut]
        logp = 0.0
        for k, cut in enumerate(cuts):
            gap = (times[k + 1] - times[k]) / config.tau_s
            logp += math.log(-math.expm1(-gap)) if cut else -gap
        for first, end in zip(starts, [*starts[1:], n], strict=True):
            logp += log_evidence(scaled[first:end], config, centre)
        mass[starts[-1]] += math.exp(logp)
    return mass / mass.sum()


@pytest.mark.parametrize("scale", ["log", "linear"])
@given(
    st.lists(st.tuples(st.floats(1e5, 1e8), st.floats(0.01, 60)), min_size=2, max_size=8),
    st.floats(1, 100),
)
@settings(max_examples=40, deadline=None)
def test_equals_the_sum_over_all_segmentations(scale, pairs, tau):
    values, gaps = zip(*pairs, strict=True)
    times = np.cumsum(gaps)
    config = BayesianConfig(tau_s=tau, scale=scale, **EXACT)
    detector = BayesianDetector(config)
    for value, at in zip(values, times, strict=True):
        detector.update(value, float(at))
    index, mass = detector.posterior()
    dense = np.zeros(len(values))
    dense[index] = mass
    np.testing.assert_allclose(dense, reference(values, times, config), atol=1e-7)


def measured(detector, values, times):
    return [detector.update(float(v), float(t)) for v, t in zip(values, times, strict=True)]


def steps(levels, length, seed, noise=0.25):
    rng = np.random.default_rng(seed)
    return np.exp(
        np.repeat(np.log(levels), length) + noise * rng.standard_normal(len(levels) * length)
    )


@pytest.mark.parametrize("factor", [0.2, 0.5, 2.0, 5.0])
@pytest.mark.parametrize("seed", range(5))
def test_a_step_is_found_within_eight_measurements(factor, seed):
    values = steps([4e6, 4e6 * factor], 60, seed)
    found = measured(BayesianDetector(BayesianConfig(**PLAIN)), values, np.arange(120.0))
    changes = [k for k, step in enumerate(found) if step.change and k >= 60]
    assert changes
    assert changes[0] < 68
    assert found[-1].mean_bps == pytest.approx(values[60:].mean(), rel=0.15)
    assert found[-1].std_bps == pytest.approx(values[60:].std(), rel=0.4)


@pytest.mark.parametrize("factor", [0.2, 0.4, 2.5, 5.0])
@pytest.mark.parametrize("seed", range(3))
def test_twenty_measurements_a_second_find_a_step_within_ten_seconds(factor, seed):
    values = steps([4e6, 4e6 * factor], 400, seed)
    found = measured(BayesianDetector(), values, 0.05 * np.arange(800))
    changes = [k for k, step in enumerate(found) if step.change]
    assert changes
    assert all(k >= 400 for k in changes)
    assert changes[0] < 600
    assert found[-1].mean_bps == pytest.approx(values[400:].mean(), rel=0.15)


def test_the_segment_in_force_is_the_one_declared():
    """Ten times faster, but at first no single start outweighs the old segment's."""
    values = np.repeat([1e6, 1e7], [600, 60])
    found = measured(BayesianDetector(), values, 0.1 * np.arange(660))
    (at,) = (k for k, step in enumerate(found) if step.change)
    assert 600 <= at < 620
    assert found[at].samples <= 30
    assert found[-1].mean_bps == pytest.approx(1e7, rel=0.05)


def test_the_segment_s_age_and_samples_are_those_since_the_step():
    values = np.concatenate([np.full(50, 4e6), np.full(30, 1e6)]) * steps([1.0], 80, 1, 0.05)
    last = measured(BayesianDetector(BayesianConfig(**PLAIN)), values, 0.5 * np.arange(80))[-1]
    assert last.samples == 30
    assert last.run_length_s == pytest.approx(14.5)
    assert last.mean_bps == pytest.approx(values[50:].mean())


def test_a_steady_noisy_link_rarely_alarms():
    values = steps([3e6], 3600, 4)

    def alarms(**settings):
        detector = BayesianDetector(BayesianConfig(**PLAIN, **settings))
        return sum(step.change for step in measured(detector, values, np.arange(3600.0)))

    # observed that segments last ten minutes it must not invent more than a few in an hour
    assert alarms(tau_s=600.0, threshold=0.9) <= 6
    assert alarms(tau_s=600.0, threshold=0.9) <= alarms(tau_s=20.0, threshold=0.5)


@given(st.floats(0.01, 100))
@settings(max_examples=15, deadline=None)
def test_decisions_do_not_depend_on_the_unit_of_bandwidth(factor):
    values = steps([4e6, 1e6, 9e6], 25, 3)
    one = measured(BayesianDetector(), values, np.arange(75.0))
    other = measured(BayesianDetector(), values * factor, np.arange(75.0))
    assert [s.change for s in one] == [s.change for s in other]
    assert other[-1].mean_bps == pytest.approx(one[-1].mean_bps * factor)


def test_decisions_do_not_depend_on_the_clock_s_origin_or_unit():
    values = steps([4e6, 1e6], 30, 8)
    one = measured(BayesianDetector(BayesianConfig(**PLAIN, tau_s=20)), values, np.arange(60.0))
    later = measured(
        BayesianDetector(BayesianConfig(**PLAIN, tau_s=20)), values, np.arange(60.0) + 4096
    )
    slow = measured(
        BayesianDetector(BayesianConfig(**PLAIN, tau_s=200)), values, 10 * np.arange(60.0)
    )
    assert [s.change_probability for s in one] == [s.change_probability for s in later]
    np.testing.assert_allclose(
        [s.change_probability for s in one], [s.change_probability for s in slow], atol=1e-9
    )


@pytest.mark.slow
def test_memory_is_constant_over_four_thousand_updates():
    rng = np.random.default_rng(0)
    values = np.exp(15 + np.cumsum(0.05 * rng.standard_normal(5_000)))
    config = BayesianConfig(**PLAIN, max_hypotheses=32)
    detector = BayesianDetector(config)
    measured(detector, values[:1000], np.arange(1000.0))
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for k in range(1000, 5_000):
            detector.update(float(values[k]), float(k))
            assert detector.hypotheses <= 32
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 11_000  # fewer than three bytes an update


def test_pruning_leaves_the_posterior_where_it_was():
    values = steps([4e6, 1e6, 8e6], 20, 5)
    exact = BayesianDetector(BayesianConfig(**EXACT))
    pruned = BayesianDetector(BayesianConfig(**PLAIN, prune_mass=1e-6, max_hypotheses=24))
    for k, value in enumerate(values):
        a, b = exact.update(float(value), float(k)), pruned.update(float(value), float(k))
        assert b.change_probability == pytest.approx(a.change_probability, abs=1e-3)
        assert b.mean_bps == pytest.approx(a.mean_bps)
    assert pruned.hypotheses < exact.hypotheses


def test_the_hazard_is_that_of_the_gap():
    """With a prior that every value fits alike, the newest start's mass is the gap's hazard."""
    for gap in (0.1, 3.0, 30.0, 300.0):
        detector = BayesianDetector(BayesianConfig(tau_s=30.0, **EXACT))
        # after one measurement the old segment's predictive and the prior's differ by a known ratio
        detector.update(1e6, 0.0)
        detector.update(1e6, gap)
        mass = detector.posterior()[1]
        expected = reference([1e6, 1e6], [0.0, gap], detector.config)
        np.testing.assert_allclose(mass, expected, atol=1e-8)
        hazard = 1 - math.exp(-gap / 30)
        odds = mass[1] / mass[0] / (hazard / (1 - hazard))
        unit = BayesianConfig(**EXACT)
        together = log_evidence([0.0, 0.0], unit, 0.0)
        apart = 2 * log_evidence([0.0], unit, 0.0)
        assert math.log(odds) == pytest.approx(apart - together, abs=1e-6)


def test_measurements_at_one_instant_cannot_be_a_change():
    detector = BayesianDetector(BayesianConfig(**PLAIN, confirm=1))
    found = [detector.update(v, 5.0) for v in (1e6, 9e6, 1e3, 8e6)]
    assert not any(step.change for step in found)
    assert detector.hypotheses == 1


def test_time_that_goes_back_counts_as_the_last_time():
    one, other = BayesianDetector(), BayesianDetector()
    measured(one, [1e6, 2e6, 3e6], [0.0, 2.0, 2.0])
    measured(other, [1e6, 2e6, 3e6], [0.0, 2.0, 1.5])
    np.testing.assert_array_equal(one.posterior()[1], other.posterior()[1])


def test_a_false_alarm_is_taken_back():
    values = np.concatenate([np.full(60, 4e6), np.full(3, 4e5), np.full(40, 4e6)])
    noise = steps([1.0], len(values), 6, 0.2)
    found = measured(BayesianDetector(), values * noise, np.arange(len(values), dtype=float))
    changes = [k for k, step in enumerate(found) if step.change and k >= 60]
    assert len(changes) >= 2
    assert found[-1].mean_bps == pytest.approx(4e6, rel=0.2)


def test_correlated_measurements_count_for_less():
    rng = np.random.default_rng(11)
    slow = np.repeat(0.3 * rng.standard_normal(200), 20)
    values, times = 3e6 * np.exp(slow), 0.05 * np.arange(4000)

    def alarms(correlation):
        detector = BayesianDetector(BayesianConfig(correlation_s=correlation))
        return sum(step.change for step in measured(detector, values, times))

    assert alarms(1.0) < 0.5 * alarms(0.0)


positive = st.floats(min_value=1e-300, max_value=1e300)


@given(st.lists(st.tuples(positive, st.floats(0, 1e6)), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_no_finite_input_makes_a_nan(pairs):
    detector = BayesianDetector()
    now = 0.0
    for value, gap in pairs:
        now += gap
        step = detector.update(value, now)
        assert math.isfinite(step.mean_bps)
        assert math.isfinite(step.run_length_s)
        assert not math.isnan(step.std_bps)
        assert 0 <= step.change_probability <= 1
        assert np.all(np.isfinite(detector.posterior()[1]))


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ({"tau_s": 0.0}, "tau_s: found 0.0, expected a number above 0"),
        ({"prior_std": math.nan}, "prior_std: found nan"),
        ({"threshold": 1.0}, "threshold: found 1.0, expected between 0 and 1"),
        ({"correlation_s": -1.0}, "correlation_s: found -1.0"),
        ({"prune_mass": 0.5}, "prune_mass: found 0.5"),
        ({"confirm": 0}, "found confirm 0"),
        ({"max_hypotheses": 1}, "max_hypotheses 1"),
        ({"scale": "cubic"}, "scale: found 'cubic', expected log or linear"),
    ],
)
def test_refuses_settings_that_cannot_be_meant(setting, named):
    with pytest.raises(UsageError, match=named):
        BayesianConfig(**setting)
