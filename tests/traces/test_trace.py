import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from artefacts import UsageError
from traces.trace import BandwidthTrace

pieces = st.lists(
    st.tuples(st.floats(0.05, 5.0), st.one_of(st.just(0.0), st.floats(1e3, 1e7))),
    min_size=1,
    max_size=12,
)


def make(parts):
    return BandwidthTrace.from_intervals("t", [p[0] for p in parts], [p[1] for p in parts])


def slow_transfer_end(trace, start_s, n_bytes, wrap):
    """Walks piece by piece, lap by lap: obviously right, and slow."""
    left, at = 8.0 * n_bytes, start_s
    if left == 0:
        return start_s
    edges = np.append(trace.times_s, trace.duration_s)
    lap = 0.0
    for _ in range(10_000):
        for k, rate in enumerate(trace.rates_bps):
            low, high = lap + edges[k], lap + edges[k + 1]
            if at >= high:
                continue
            begin = max(at, low)
            if rate > 0 and left <= rate * (high - begin):
                return begin + left / rate
            left -= rate * (high - begin)
            at = high
        lap += trace.duration_s
        if not wrap or trace.total_bytes == 0:
            return np.inf
    raise AssertionError("the walk did not end")


@settings(max_examples=150, deadline=None)
@given(pieces, st.floats(0.0, 1.0), st.floats(1.0, 1e6), st.booleans())
def test_transfer_end_equals_the_walk(parts, share, n_bytes, wrap):
    trace = make(parts)
    start = share * trace.duration_s
    if wrap and trace.total_bytes > 0 and n_bytes / trace.total_bytes > 500:
        n_bytes = 500 * trace.total_bytes  # the walk goes lap by lap
    found = float(trace.transfer_end(start, n_bytes, "wrap" if wrap else "stop"))
    # where the last byte leaves just before an outage (or the end), rounding decides on which
    # side of it the transfer ends: the answer must lie between those of a hair fewer and more bytes
    least = slow_transfer_end(trace, start, n_bytes * (1 - 1e-9), wrap)
    most = slow_transfer_end(trace, start, n_bytes * (1 + 1e-9), wrap)
    assert found >= least or found == pytest.approx(least, rel=1e-7, abs=1e-7)
    assert found <= most or found == pytest.approx(most, rel=1e-7, abs=1e-7)


@example(parts=[(1.0, 0.0), (1.4176375864259398, 1000.0)], start_share=0.0, laps=500.0, wrap=True)
@settings(max_examples=100, deadline=None)
@given(pieces, st.floats(0.0, 1.0), st.floats(0.0, 40.0), st.booleans())
def test_what_a_transfer_takes_is_what_the_link_carries(parts, start_share, laps, wrap):
    trace = make(parts)
    start = start_share * trace.duration_s
    n_bytes = laps * trace.total_bytes
    mode = "wrap" if wrap else "stop"
    end = float(trace.transfer_end(start, n_bytes, mode))
    if np.isfinite(end):
        carried = float(trace.bytes_between(start, end, mode))
        assert carried == pytest.approx(n_bytes, rel=1e-7, abs=1e-3)


@settings(max_examples=100, deadline=None)
@given(pieces, st.floats(0.07, 3.0), st.floats(0.01, 20.0))
def test_resampling_and_scaling_conserve_bytes(parts, step, factor):
    trace = make(parts)
    assert trace.resample(step).total_bytes == pytest.approx(trace.total_bytes, rel=1e-9, abs=1e-6)
    assert trace.scale(factor).total_bytes == pytest.approx(factor * trace.total_bytes, rel=1e-9)


@settings(max_examples=100, deadline=None)
@given(pieces, st.floats(0.01, 0.99))
def test_two_slices_hold_what_the_whole_holds(parts, share):
    trace = make(parts)
    middle = share * trace.duration_s
    both = trace.slice(0, middle).total_bytes + trace.slice(middle, trace.duration_s).total_bytes
    assert both == pytest.approx(trace.total_bytes, rel=1e-9, abs=1e-6)


def test_a_transfer_crosses_an_outage():
    trace = make([(1.0, 8000.0), (5.0, 0.0), (1.0, 8000.0)])
    assert float(trace.transfer_end(0.5, 1000, "stop")) == pytest.approx(6.5)
    assert float(trace.transfer_end(0.0, 1000, "stop")) == pytest.approx(1.0)


def test_past_the_end_is_said_explicitly():
    trace = make([(1.0, 8000.0)])
    assert np.isinf(trace.transfer_end(0.5, 1000, "stop"))
    assert float(trace.transfer_end(0.5, 1000, "wrap")) == pytest.approx(1.5)


def test_arrays_give_what_scalars_give():
    trace = make([(1.0, 8000.0), (2.0, 0.0), (1.0, 16000.0)])
    starts = np.array([0.0, 0.5, 1.5, 3.2])
    whole = trace.transfer_end(starts, 700.0, "wrap")
    assert whole.tolist() == [float(trace.transfer_end(s, 700.0, "wrap")) for s in starts]


def test_a_trace_cannot_be_changed():
    trace = make([(1.0, 8000.0)])
    with pytest.raises(ValueError, match="read-only"):
        trace.rates_bps[0] = 1.0


@pytest.mark.parametrize(
    ("times", "rates", "duration"),
    [
        ([0.0, 1.0], [1.0], 2.0),
        ([1.0], [1.0], 2.0),
        ([0.0, 0.0], [1.0, 1.0], 2.0),
        ([0.0], [-1.0], 2.0),
        ([0.0], [np.nan], 2.0),
        ([0.0], [1.0], 0.0),
        ([], [], 1.0),
    ],
)
def test_impossible_traces_are_refused(times, rates, duration):
    with pytest.raises(UsageError, match="trace 'bad'"):
        BandwidthTrace("bad", np.array(times), np.array(rates), duration)
