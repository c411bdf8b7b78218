"""The batched physics against a scalar account of the same frame, and against closed forms."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from priced import taken
from tidy import tidy

from controller.physics import ConstantLink, LinkModel, Resources, Timing, TraceBank, run_frames
from controller.plans import device_only
from controller.scenarios import load_setting
from traces.trace import BandwidthTrace

INF = float("inf")


@functools.cache
def loaded(name):
    """A setting; not a fixture, because hypothesis would print all of it at a failure."""
    return load_setting(taken(name))


def scalar_frame(table, p, arrival, state, trace, model, deadline, margin):
    """One frame, written out with plain numbers and ifs."""

    def transfer(start, n_bytes):
        return float(trace.transfer_end(start, n_bytes, "stop")) if start < INF else INF

    limit = INF if deadline is None else arrival + deadline
    device, uplink, edge, down = state
    head = table.prefix_s[p]
    start = max(arrival, device) if head > 0 else arrival
    early = -1
    for gate, upto in zip(table.early_exit[p], table.early_s[p], strict=True):
        if gate < 0 or start + upto > limit:
            break
        early, device = int(gate), start + upto
    stopped = early != max(table.early_exit[p], default=-1)
    if stopped or start + head > limit:
        found = (limit, early) if early >= 0 else (None, -1)
        return (*found, (device, uplink, edge, down))
    if head > 0:
        device = start + head
    handed = start + head
    if table.local[p]:
        return (handed, int(table.exit[p])) + ((device, uplink, edge, down),)
    if handed >= limit:
        found = (limit, early) if early >= 0 else (None, -1)
        return (*found, (device, uplink, edge, down))
    wire = float(model.on_wire(np.array(table.up_bytes[p])))
    ready = max(handed, uplink)
    end = transfer(ready, wire)
    back = INF
    if end < limit:
        uplink = end
        edge = max(end + model.rtt_s / 2, edge) + table.remote_s[p]
        answer = float(model.on_wire(np.array(table.down_bytes[p])))
        down_end = transfer(max(edge, down), answer)
        down = down_end if down_end < INF else limit
        back = down_end + model.rtt_s / 2
    elif ready < limit:
        passed = min(float(trace.bytes_between(ready, limit, "stop")), wire)
        uplink = transfer(limit, min(wire - passed, model.send_buffer_bytes))
    local_exit, free = early, device
    waits = table.wait_exit[p], table.wait_s[p], table.wait_pause_s[p]
    jobs = [(e, s, u, free) for e, s, u in zip(*waits, strict=True) if e >= 0]
    if deadline is not None and np.isfinite(table.rescue_s[p]):
        rescue = table.rescue_s[p]
        latest = arrival + deadline - table.rescue_p95_s[p] - margin
        jobs.append((0, rescue, table.rescue_pause_s[p], max(latest, arrival)))
    answered = back if table.suffix_s[p] == 0 else np.inf
    for e, seconds, pause, earliest in jobs:
        begin = max(free, earliest)
        if begin < min(back, limit) and begin + seconds <= limit:
            if min(answered, limit) < begin + pause:
                free = begin + pause  # the frame is over: nobody needs the rest
            else:
                free = begin + seconds
                local_exit = int(e)
        else:
            break  # the next one would go on from what this one leaves
    device = max(device, free)
    final = back
    if table.suffix_s[p] > 0 and back < INF:
        begin = max(back, free)
        if begin < limit:
            device = begin + table.suffix_s[p]
        final = begin + table.suffix_s[p]
    state = (device, uplink, edge, down)
    if final <= limit and final < INF:
        return final, int(table.exit[p]), state
    return (limit, local_exit, state) if local_exit >= 0 else (None, -1, state)


rates = st.lists(st.one_of(st.just(0.0), st.floats(1e4, 8e6)), min_size=2, max_size=8)


@settings(max_examples=120, deadline=None)
@given(
    rates=rates,
    seed=st.integers(0, 2**32 - 1),
    name=st.sampled_from(["edgent", "3g-alexnet", "3g-mobilenet", "3g-mobilenet-priced"]),
)
def test_a_stream_equals_the_scalar_account(rates, seed, name):
    setting = loaded(name)
    closed_loop = setting.closed_loop
    table, model = (
        setting.gate_rows.table,
        LinkModel(setting.link_model.rtt_s, 160.0, 66.0, 1448.0, 1e9),
    )
    deadline = None if closed_loop else setting.scenario.frames.deadline_s
    timing = Timing(deadline)
    trace = BandwidthTrace("t", np.arange(len(rates)) * 0.5, np.array(rates), len(rates) * 0.5)
    link = TraceBank([trace]).lanes(np.zeros(1, dtype=np.int64))
    rng = np.random.default_rng(seed)
    resources, state, arrival = Resources.idle(1, 1e9), (0.0, 0.0, 0.0, 0.0), 0.0
    for _ in range(12):
        p = int(rng.integers(len(table)))
        outcome, resources = run_frames(
            table, np.array([p]), np.array([arrival]), resources, link, model, timing
        )
        answered, exit_, state = scalar_frame(
            table, p, arrival, state, trace, model, deadline, timing.rescue_margin_s
        )
        found = float(outcome.answered_s[0])
        assert found == pytest.approx(INF if answered is None else answered, abs=1e-7)
        assert int(outcome.answer_exit[0]) == exit_
        for mine, theirs in zip(
            resources.free_s,
            state,
            strict=True,
        ):
            assert float(mine[0]) == pytest.approx(theirs, abs=1e-7)
        if closed_loop:
            if answered is None:
                return
            arrival = answered
        else:
            arrival += setting.interval_s


def test_an_idle_frame_takes_what_the_table_says(stream):
    table = stream.table
    model = LinkModel(0.04)
    shape = (len(table),)
    outcome, _ = run_frames(
        table, np.arange(len(table)), np.zeros(shape), Resources.idle(shape),
        ConstantLink(np.full(shape, 2e6)), model, Timing(None),
    )  # fmt: skip
    assert outcome.latency_s == pytest.approx(table.latency_s(2e6, 0.04))


def test_a_rescue_begins_no_sooner_than_its_frame(stream):
    """The device has been idle since 0; the frame of 10 s has less time than a rescue takes."""
    table = stream.gate_rows.table
    p = next(
        k for k in range(len(table)) if np.isfinite(table.rescue_s[k]) and table.prefix_s[k] == 0
    )
    rescue_s = float(table.rescue_s[p])
    link, model = ConstantLink(np.array([0.0])), LinkModel(0.04)
    for deadline_s, exit_, free_s in ((0.9 * rescue_s, -1, 0.0), (1.001 * rescue_s, 0, rescue_s)):
        outcome, after = run_frames(
            table, np.array([p]), np.array([10.0]), Resources.idle(1), link, model,
            Timing(deadline_s),
        )  # fmt: skip
        assert int(outcome.answer_exit[0]) == exit_
        assert float(outcome.device_s[0]) == pytest.approx(free_s)
        assert float(after.device_s[0]) == pytest.approx(10.0 + free_s if free_s else 0.0)


def test_a_cancelled_upload_owes_what_the_kernel_holds(stream):
    table = stream.table
    p = next(k for k, plan in enumerate(table.plans) if "no rescue" in str(plan))
    model = LinkModel(0.04, send_buffer_bytes=1000.0)
    link = ConstantLink(np.array([80_000.0]))
    timing = Timing(0.088)
    outcome, after = run_frames(
        table, np.array([p]), np.zeros(1), Resources.idle(1), link, model, timing
    )
    passed = 0.088 * 10_000
    assert int(outcome.answer_exit[0]) == -1
    assert float(outcome.bytes_sent[0]) == pytest.approx(passed + 1000)
    assert float(after.uplink_s[0]) == pytest.approx(0.088 + 0.1)
    assert not outcome.measured_complete[0]
    assert float(outcome.measured_bytes[0]) == pytest.approx(passed)


def test_a_hedge_goes_on_only_from_what_it_has_computed():
    """Too late for exit 1 is too late for exit 2, though its own share alone would still fit."""
    setting = loaded("3g-mobilenet-priced")
    table, deadline_s = setting.candidates, setting.scenario.frames.deadline_s
    hedged = next(k for k, p in enumerate(table.plans) if p.hedge and table.wait_exit[k, 1] == 1)
    first_s, second_s = table.wait_s[hedged, :2]
    assert second_s < first_s
    resources = Resources.idle(1)
    resources.device_s = np.array([deadline_s - table.prefix_s[hedged] - 0.9 * first_s])
    outcome, after = run_frames(
        table, np.array([hedged]), np.zeros(1), resources, ConstantLink(np.zeros(1)),
        setting.link_model, setting.timing,
    )  # fmt: skip
    assert outcome.answer_exit[0] == -1
    assert outcome.device_s[0] == pytest.approx(table.prefix_s[hedged])
    assert after.device_s[0] == pytest.approx(deadline_s - 0.9 * first_s)


def test_a_fallback_that_goes_first_keeps_the_device_though_the_job_behind_it_comes_too_late():
    setting = load_setting(tidy("lte-mobilenet"))
    table, resources = setting.table, setting.idle(1)
    local = table.index(device_only(setting.spec, 0))
    begin_s, seconds, arrival_s, deadline_s = 0.04, 0.05, 0.041, 0.06
    assert begin_s + seconds < arrival_s + deadline_s < begin_s + seconds + table.prefix_s[local]
    times = (begin_s, 0.1, np.inf, seconds, 0.03)
    resources.kept.keep(np.ones(1, dtype=bool), *(np.array([value]) for value in times))
    outcome, after = run_frames(
        table, np.array([local]), np.array([arrival_s]), resources, ConstantLink(np.array([1e6])),
        setting.link_models, Timing(deadline_s),
    )  # fmt: skip
    assert outcome.device_prefix_s[0] == 0.0
    assert after.device_s[0] == pytest.approx(begin_s + seconds)
