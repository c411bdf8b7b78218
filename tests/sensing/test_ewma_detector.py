import pytest

from artefacts import UsageError
from controller.sensing.baselines import EwmaConfig, EwmaDetector, SegmentStatistics


def test_a_lone_outlier_is_no_change_but_counts():
    detector = EwmaDetector()
    for k in range(30):
        detector.update(4e6, float(k))
    assert not detector.update(1e5, 30.0).change
    step = detector.update(4e6, 31.0)
    assert not step.change
    assert step.samples == 32


def test_outliers_on_both_sides_are_no_run():
    detector = EwmaDetector(EwmaConfig(confirm=2))
    for k in range(30):
        detector.update(4e6, float(k))
    assert not any(detector.update(v, 30.0 + k).change for k, v in enumerate((4e7, 4e5, 9e7)))


def test_a_run_outside_the_band_begins_the_segment_at_its_first_measurement():
    detector = EwmaDetector(EwmaConfig(confirm=3))
    for k in range(30):
        detector.update(4e6, float(k))
    found = [detector.update(5e5, 30.0 + k) for k in range(3)]
    assert [s.change for s in found] == [False, False, True]
    assert found[-1].samples == 3
    assert found[-1].run_length_s == 2.0
    assert found[-1].mean_bps == pytest.approx(5e5)


def test_the_gain_is_that_of_the_gap():
    """Two half gaps move the mean as one whole gap does."""
    one, two = EwmaDetector(), EwmaDetector()
    for detector in (one, two):
        detector.update(4e6, 0.0)
    one.update(4.4e6, 2.0)
    two.update(4.4e6, 1.0)
    two.update(4.4e6, 2.0)
    assert one._mean == pytest.approx(two._mean)


def test_statistics_of_a_segment_by_hand():
    segment = SegmentStatistics(prior_std=0.5)
    for value in (1e6, 3e6):
        segment.add(value)
    assert segment.mean_bps == 2e6
    # squares 2e12, and two measurements' worth of a deviation of 1e6
    assert segment.std_bps == pytest.approx((4e12 / 4) ** 0.5)


@pytest.mark.parametrize(
    ("setting", "named"),
    [({"tau_s": -1}, "tau_s: found -1"), ({"confirm": 0}, "confirm: found 0")],
)
def test_refuses_settings_that_cannot_be_meant(setting, named):
    with pytest.raises(UsageError, match=named):
        EwmaConfig(**setting)
