"""The link without sockets and clocks: against the integral, and against Mahimahi step by step."""

import tracemalloc
from collections import deque

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.replay.cell.carried import CellLink
from experiments.replay.cell.opportunities import (
    RATES_A_SECOND,
    Opportunities,
    is_of_packets,
    on_grid,
)
from experiments.replay.cell.orders import CarrierOrder
from experiments.replay.cell.queueing import LEAST_QUEUE_BYTES, CellQueue, queue_bytes
from traces.formats import read_packets
from traces.trace import BandwidthTrace

PIECES = st.lists(
    st.tuples(st.floats(0.001, 0.5), st.one_of(st.just(0.0), st.floats(1e4, 3e7))),
    min_size=1, max_size=6,
)  # fmt: skip
PAST_END = st.sampled_from(["wrap", "stop"])
ARRIVALS = st.lists(
    st.tuples(st.floats(0.0, 0.05), st.integers(20, 1500)), min_size=1, max_size=80
)  # fmt: skip


def trace_of(pieces):
    lengths, rates = zip(*pieces, strict=True)
    return BandwidthTrace.from_intervals("t", lengths, rates)


def of_packets(stamps, duration_ms):
    counts = np.bincount(stamps, minlength=duration_ms)
    return BandwidthTrace(
        "t", np.arange(duration_ms) / 1000.0, 12e6 * counts, duration_ms / 1000.0
    )  # fmt: skip


@given(pieces=PIECES, past_end=PAST_END, t_s=st.floats(0.0, 20.0))
def test_what_is_granted_is_the_integral_to_a_byte_and_a_step(pieces, past_end, t_s):
    trace = trace_of(pieces)
    granted = Opportunities(trace, past_end).granted_bytes(t_s)
    before = float(trace.bytes_between(0.0, max(t_s - 0.001, 0.0), past_end))
    after = float(trace.bytes_between(0.0, t_s + 1e-6, past_end))
    assert before - 1.0 <= granted <= after + 0.01


@given(pieces=PIECES, past_end=PAST_END, total=st.integers(1, 10**7))
def test_the_moment_of_a_byte_is_the_first_that_grants_it(pieces, past_end, total):
    trace = trace_of(pieces)
    opportunities = Opportunities(trace, past_end)
    at_s = opportunities.time_of(total)
    if np.isinf(at_s):
        assert trace.total_bytes == 0 or (past_end == "stop" and trace.total_bytes < total + 1)
        return
    assert opportunities.granted_bytes(at_s) >= total
    assert opportunities.granted_bytes(at_s - 0.00025) < total


@given(
    pieces=st.lists(
        st.tuples(st.floats(1e-6, 1e-4), st.one_of(st.just(0.0), st.floats(1e5, 1e9))),
        min_size=20, max_size=200,
    ),
    at=st.floats(0.0, 1.0),
)  # fmt: skip
def test_pieces_finer_than_the_grid_are_joined_and_grant_the_same(pieces, at):
    trace = trace_of(pieces)
    joined = on_grid(trace)
    assert len(joined.times_s) <= max(trace.duration_s * RATES_A_SECOND + 1, 1)
    step = int(at * trace.duration_s * RATES_A_SECOND)
    granted = [
        Opportunities(one, "stop").granted_bytes(step / RATES_A_SECOND) for one in (trace, joined)
    ]
    assert abs(granted[0] - granted[1]) <= 1  # a sum just below a whole byte
    assert joined.total_bytes == pytest.approx(trace.total_bytes)


def test_a_trace_of_two_million_rows_is_a_small_order():
    rates = np.where(np.arange(2_000_000) % 2, 1e9, 0.0)
    fine = BandwidthTrace("t", np.arange(2_000_000) * 1e-5, rates, 20.0)
    order = CellLink(fine).order("nothing")
    assert len(msgspec.json.encode(order)) < 2_500_000
    coarse = BandwidthTrace("t", np.arange(2_000_000) * 1.0, rates, 2e6)
    tracemalloc.start()
    try:
        sent = msgspec.json.encode(CellLink(coarse).order("nothing"))
        found = msgspec.json.decode(sent, type=CarrierOrder)
        assert tracemalloc.get_traced_memory()[1] < 250_000_000
    finally:
        tracemalloc.stop()
    assert found.up.trace.times_s == coarse.times_s.astype("<f8").tobytes()


def test_a_file_of_packets_passes_each_in_its_millisecond(tmp_path):
    stamps = np.sort(np.random.default_rng(3).integers(0, 9000, 4000))
    (tmp_path / "a.up").write_text("".join(f"{s}\n" for s in stamps))
    trace = read_packets(tmp_path / "a.up", step_ms=1)
    assert is_of_packets(trace)
    opportunities = Opportunities(trace, "wrap")
    lap = int(stamps[-1])
    for k, stamp in enumerate(stamps):
        # the last line ends the lap
        wanted = min(int(stamp), lap - 1) + 1
        assert round(1000 * opportunities.time_of(1500 * (k + 1)), 6) == wanted
        again = opportunities.time_of(1500 * (k + 1 + len(stamps)))
        assert round(1000 * again, 6) == wanted + lap


def test_an_outage_is_waited_out_and_an_end_is_one():
    trace = BandwidthTrace.from_intervals("t", [1.0, 3600.0, 1.0], [8000.0, 0.0, 8000.0])
    assert Opportunities(trace, "stop").time_of(1001) == pytest.approx(3601.001)
    assert Opportunities(trace, "stop").time_of(2001) == np.inf
    assert Opportunities(trace, "wrap").time_of(2001) == pytest.approx(3602.001)
    nothing = BandwidthTrace.from_intervals("t", [1.0], [0.0])
    assert Opportunities(nothing, "wrap").time_of(1) == np.inf


def carried(queue, arrivals):
    """Send packets (gap, size): those taken in, those that arrived, each with its time; refused."""
    sent, found, refused, now_s = [], [], [], 0.0

    def take(until_s):
        while queue.due_s() <= until_s:
            due_s = queue.due_s()
            found.extend((due_s, packet) for packet in queue.take(due_s))

    for number, (gap_s, size) in enumerate(arrivals):
        now_s += gap_s
        take(now_s)
        packet = number.to_bytes(2, "big") + bytes(size - 2)
        if queue.offer(now_s, packet):
            sent.append((now_s, packet))
        else:
            refused.append(number)
    take(1e8)
    return sent, found, refused


@given(
    pieces=PIECES, arrivals=ARRIVALS, delay_s=st.floats(0.0, 0.1),
    limit=st.integers(1500, 20_000),
)  # fmt: skip
def test_nothing_outruns_the_trace_and_order_delay_and_bound_are_kept(
    pieces, arrivals, delay_s, limit
):
    trace = trace_of(pieces)
    queue = CellQueue(Opportunities(trace, "wrap"), limit, delay_s)
    queue.begin(0.0)
    sent, found, refused = carried(queue, arrivals)
    assert len(sent) + len(refused) == len(arrivals)
    if trace.total_bytes == 0:
        assert found == []
        return
    assert [packet for _, packet in found] == [packet for _, packet in sent]
    total = 0
    waiting = deque()
    for (sent_s, packet), (arrived_s, _) in zip(sent, found, strict=True):
        through_s = arrived_s - delay_s
        assert through_s >= sent_s - 1e-9
        total += len(packet)
        assert total <= float(trace.bytes_between(0.0, through_s + 1e-6, "wrap")) + 0.01
        while waiting and waiting[0][0] <= sent_s:
            waiting.popleft()
        waiting.append((through_s, len(packet)))
        assert sum(size for _, size in waiting) <= limit + 1e-6


def mahimahi(stamps_ms, arrivals):
    """Its rules, opportunity by opportunity: when each packet of (ms, size) is through."""
    through, queue, pending = {}, deque(), deque(enumerate(arrivals))
    for stamp in stamps_ms:
        while pending and pending[0][1][0] < stamp:
            number, (_, size) = pending.popleft()
            queue.append([number, size])
        left = 1500
        while left and queue:
            used = min(left, queue[0][1])
            left -= used
            queue[0][1] -= used
            if not queue[0][1]:
                through[queue.popleft()[0]] = stamp
    return through


@given(
    stamps=st.lists(st.integers(0, 199), min_size=1, max_size=120).map(sorted),
    arrivals=st.lists(
        st.tuples(st.integers(0, 199), st.integers(2, 1500)), max_size=60
    ).map(sorted),
)  # fmt: skip
def test_packets_share_opportunities_as_in_mahimahi(stamps, arrivals):
    """Ours passes a line's packet at the end of its millisecond."""
    queue = CellQueue(Opportunities(of_packets(np.array(stamps), 200), "stop"), 10**6, 0.0)
    queue.begin(0.0)
    for number, (at_ms, size) in enumerate(arrivals):
        queue.offer(at_ms / 1000.0, number.to_bytes(2, "big") + bytes(size - 2))
    found = {}
    while queue.due_s() < 1.0:
        due_s = queue.due_s()
        found |= {int.from_bytes(p[:2], "big"): round(1000 * due_s) for p in queue.take(due_s)}
    assert found == mahimahi([stamp + 1 for stamp in stamps], arrivals)


def test_a_full_queue_drops_what_comes_and_takes_what_fits():
    trace = BandwidthTrace.from_intervals("t", [60.0], [8000.0])
    queue = CellQueue(Opportunities(trace, "wrap"), 2500, 0.0)
    queue.begin(0.0)
    assert [queue.offer(0.0, bytes(size)) for size in (1500, 1500, 1000, 100)] == [
        True, False, True, False,
    ]  # fmt: skip
    assert queue.waiting_bytes(0.0) == 2500
    assert queue.waiting_bytes(1.5) == 1000
    assert queue.offer(1.5, bytes(1500))
    assert (queue.counts.packets, queue.counts.dropped) == (5, 2)


def test_until_it_begins_a_link_is_steady_and_its_backlog_takes_the_trace_s_time():
    trace = BandwidthTrace.from_intervals("t", [60.0], [8000.0])
    queue = CellQueue(Opportunities(trace, "stop"), 10**5, 0.02, before_bps=80_000.0)
    queue.offer(99.0, bytes(1000))
    queue.offer(99.05, bytes(1000))
    queue.begin(100.0)
    for _ in range(3):
        queue.offer(99.9, bytes(1000))
    queue.offer(100.0, bytes(1000))
    arrived = []
    while queue.due_s() < np.inf:
        arrived.append(round(queue.due_s(), 6))
        queue.take(queue.due_s())
    assert arrived == [99.12, 99.22, 100.02, 100.12, 100.22, 101.22]


def test_without_a_rate_a_link_delays_alone_until_it_begins():
    trace = BandwidthTrace.from_intervals("t", [60.0], [8000.0])
    queue = CellQueue(Opportunities(trace, "stop"), 10**5, 0.02)
    for _ in range(2):
        queue.offer(99.0, bytes(1000))
    assert len(queue.take(99.02)) == 2


def test_losses_are_a_share_drawn_by_the_seed_and_use_their_opportunities():
    trace = BandwidthTrace.from_intervals("t", [1000.0], [8e6])

    def arrived(loss, seed):
        queue = CellQueue(Opportunities(trace, "wrap"), 10**9, 0.0, loss, seed)
        queue.begin(0.0)
        _, found, _ = carried(queue, [(0.0, 1000)] * 4000)
        assert queue.counts.lost == 4000 - len(found)
        return [(at_s, packet[:2]) for at_s, packet in found]

    whole, some = arrived(0.0, 1), arrived(0.1, 1)
    assert len(whole) == 4000
    assert 3500 < len(some) < 3700
    assert set(some) < set(whole), "a lost packet keeps the others' moments"
    assert some == arrived(0.1, 1)
    assert some != arrived(0.1, 2)
    assert arrived(1.0, 1) == []


def test_a_queue_in_time_is_of_the_mean_rate_and_holds_a_first_window():
    assert queue_bytes(8e6, 0.06) == 60_000
    assert queue_bytes(1e5, 0.06) == LEAST_QUEUE_BYTES
