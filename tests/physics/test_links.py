"""Links: transfers end as the traces say, and TCP's ramp costs round trips."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.physics import ConstantLink, LinkModel, TraceBank
from controller.physics.links import ramp_s
from traces.trace import BandwidthTrace

rates = st.lists(st.one_of(st.just(0.0), st.floats(1e4, 8e6)), min_size=2, max_size=8)


@settings(max_examples=60, deadline=None)
@given(rates, st.floats(0, 3), st.floats(1, 2e5))
def test_the_bank_of_traces_equals_each_trace(rates, start, n_bytes):
    one = BandwidthTrace("a", np.arange(len(rates)) * 1.0, np.array(rates), float(len(rates)))
    two = BandwidthTrace("b", np.array([0.0, 0.3]), np.array([1e6, 2e6]), 2.0)
    bank = TraceBank([two, one, two])
    link = bank.lanes(np.array([0, 1, 2]))
    starts = np.full(3, start)
    ends = link.transfer_end(starts, np.full(3, n_bytes))
    for k, trace in enumerate((two, one, two)):
        begin = min(start, trace.duration_s)
        expected = float(trace.transfer_end(begin, n_bytes, "stop"))
        left = trace.total_bytes - float(trace.bytes_between(0, begin, "stop"))
        if abs(left - n_bytes) > 1e-3:
            assert float(ends[k]) == pytest.approx(expected, abs=1e-6)
        moved = link.bytes_between(starts, starts + 0.7)[k]
        assert moved == pytest.approx(
            float(trace.bytes_between(start, start + 0.7, "stop")), abs=1e-3
        )


def test_the_ramp_costs_round_trips_and_then_nothing():
    link, model = ConstantLink(np.array([1e9])), LinkModel(0.1)
    end = model.transfer_end(link, np.zeros(1), np.array([14480.0 * 3]), 14480.0)
    assert float(end[0]) == pytest.approx(0.1 + 8 * 14480 * 2 / 1e9)
    warm = model.transfer_end(link, np.zeros(1), np.array([14480.0 * 3]), 1e6)
    assert float(warm[0]) == pytest.approx(8 * 14480 * 3 / 1e9)


@settings(max_examples=80, deadline=None)
@given(
    lengths=st.lists(st.floats(0.01, 40.0), min_size=1, max_size=40),
    seed=st.integers(0, 2**32 - 1),
)
def test_pieces_are_found_by_a_few_steps_as_by_a_search(lengths, seed):
    """Pieces of any lengths, some without rate; times on their very edges too."""
    rng = np.random.default_rng(seed)
    rates_bps = np.where(rng.random(len(lengths)) < 0.3, 0.0, rng.uniform(1e4, 1e7, len(lengths)))
    trace = BandwidthTrace.from_intervals("t", lengths, rates_bps)
    bank = TraceBank([trace, trace])
    edges = np.concatenate([trace.times_s, trace.times_s + trace.duration_s])
    times = np.concatenate([rng.uniform(0, 2 * trace.duration_s, 50), edges])
    own = np.append(edges, 2 * trace.duration_s)
    assert np.array_equal(bank.piece(times), np.searchsorted(own, times, side="right") - 1)
    starts, sizes = rng.uniform(0, trace.duration_s, 50), rng.uniform(1, 1e6, 50)
    ends = bank.lanes(np.ones(50, dtype=np.int64)).transfer_end(starts, sizes)
    for start, size, end in zip(starts, sizes, ends, strict=True):
        wanted = float(trace.transfer_end(start, size, "stop"))
        left = trace.total_bytes - float(trace.bytes_between(0, start, "stop"))
        if abs(left - size) > 1e-3:
            assert float(end) == pytest.approx(wanted, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 4))
def test_transfers_over_hundreds_of_short_pieces_end_as_the_traces_say(seed, count):
    """Fast and slow traces of 20 ms pieces side by side: neither grid fits them all."""
    rng = np.random.default_rng(seed)
    traces = []
    for k in range(count):
        rates_bps = rng.lognormal(0.0, 1.0, 400) * 10.0 ** rng.uniform(3, 8)
        rates_bps[rng.random(400) < 0.2] = 0.0
        traces.append(BandwidthTrace.from_intervals(f"t{k}", np.full(400, 0.02), rates_bps))
    index = rng.integers(0, count, 80)
    starts = np.where(rng.random(80) < 0.3, rng.integers(0, 400, 80) * 0.02, rng.uniform(0, 8, 80))
    sizes = np.array([traces[k].total_bytes for k in index]) * 10.0 ** rng.uniform(-6, 0, 80)
    link = TraceBank(traces).lanes(index)
    ends, whole = link.transfer_end(starts, sizes), np.isfinite(link.transfer_end(starts, sizes))
    for k, start, size, end in zip(index, starts, sizes, ends, strict=True):
        trace = traces[k]
        left = trace.total_bytes - float(trace.bytes_between(0, start, "stop"))
        if abs(left - size) > 1e-6 * trace.total_bytes:
            wanted = float(trace.transfer_end(start, size, "stop"))
            # where a rate is next to nothing a bank's rounding of bits is a longer time
            passed = abs(float(trace.bytes_between(min(end, wanted), max(end, wanted), "stop")))
            assert np.isfinite(end) == np.isfinite(wanted)
            assert end == wanted or passed <= 1e-6 * max(t.total_bytes for t in traces)
    assert whole.any()


SIZES = st.floats(100.0, 2e6)
RATES = st.floats(1e4, 1e9)
RTTS = st.just(0.0) | st.floats(1e-3, 0.5)
WINDOWS = st.floats(1448.0, 2e5)


@given(SIZES, WINDOWS, RTTS, RATES)
def test_one_transfer_takes_what_the_batched_model_says(size, window, rtt, rate):
    link = ConstantLink(np.array([rate]))
    end = LinkModel(rtt_s=rtt).transfer_end(link, np.zeros(1), np.array([size]), window)
    assert ramp_s(size, window, rtt, rate) == pytest.approx(float(end[0]), rel=1e-9)
