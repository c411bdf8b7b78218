"""Probes keep to their budget and their occasions; change points are counted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.device.link_monitor import LinkMonitor, ProbeSettings
from controller.interface import Measurement


def test_no_probe_while_something_is_measured_and_one_when_blind():
    known = LinkMonitor(ProbeSettings(6000, 2000, 5.0))
    assert known.probe_bytes(0.0) == 2000, "nothing was ever measured"
    known.observe(Measurement(10.0, 5000, 0.01))
    assert known.probe_bytes(14.0) == 0
    assert known.probe_bytes(15.1) == 2000
    assert known.probe_bytes(15.2) == 0, "one at a time"
    assert known.probed_bytes == 4000


@given(
    st.integers(0, 50_000), st.integers(1, 9000),
    st.lists(st.floats(0.01, 30.0), min_size=1, max_size=300),
)  # fmt: skip
def test_the_budget_holds_over_any_stretch(minute, each, gaps):
    known, now, sent = LinkMonitor(ProbeSettings(minute, each, 0.1)), 0.0, []
    for gap in gaps:
        now += gap
        size = known.probe_bytes(now)
        assert size in (0, each)
        if size:
            sent.append((now, size))
    for at, _ in sent:
        within = sum(size for when, size in sent if at <= when < at + 60.0)
        assert within <= 2 * minute + 1e-6, "what one minute kept, and what the next earns"
    assert sum(size for _, size in sent) <= minute * (1.0 + now / 60.0) + 1e-6
    assert known.probed_bytes == sum(size for _, size in sent)


def test_a_link_that_becomes_another_is_counted():
    rng, known = np.random.default_rng(0), LinkMonitor(ProbeSettings())
    for k in range(240):
        rate = (8e6 if k < 120 else 1e6) * float(np.exp(0.1 * rng.standard_normal()))
        known.observe(Measurement(float(k), int(rate / 8), 1.0))
        if k == 119:
            assert known.changes <= 1, "a false alarm and its taking back at most"
            before = known.changes
    assert 1 <= known.changes - before <= 2
    assert known.bandwidth_bps(240.0) == pytest.approx(1e6, rel=0.3)
    assert known.age_s(250.0) == pytest.approx(11.0)


def test_before_any_measurement_nothing_is_believed():
    known = LinkMonitor(ProbeSettings())
    assert known.bandwidth_bps(1.0) is None
    assert known.age_s(1.0) == float("inf")
