"""The batched physics against one frame at a time: plain numbers, ifs and loops, none of its code.

The scalar account walks a trace piece by piece, a ramp round by round and a plan job by job. What
is drawn comes from a seed, so that no two times coincide by being round numbers: which of them is
first where they do is for the rounding to say.
"""

import functools
import hashlib
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.physics import (
    DEVICE_AND_EDGE,
    ConstantLink,
    LinkModel,
    PlanTable,
    Resources,
    Timing,
    TraceBank,
    run_frames,
)
from controller.plans import device_only
from controller.scenarios import load_setting, read_scenario
from traces.trace import BandwidthTrace

INF = math.inf
QUANTILE_95 = 1.6448536269514722


@dataclass
class Walk:
    """A link walked piece by piece: (seconds, bit/s) from time 0; after them nothing passes."""

    pieces: list

    def end(self, start, n_bytes):
        if n_bytes <= 0 or start == INF:
            return start
        bits, begins = 8.0 * n_bytes, 0.0
        for seconds, rate in self.pieces:
            ends = begins + seconds
            at = max(start, begins)
            if at < ends and rate > 0:
                if bits <= rate * (ends - at):
                    return at + bits / rate
                bits -= rate * (ends - at)
            begins = ends
        return INF

    def passed(self, start, stop):
        bits, begins = 0.0, 0.0
        for seconds, rate in self.pieces:
            ends = begins + seconds
            bits += rate * max(min(stop, ends) - max(start, begins), 0.0)
            begins = ends
        return bits / 8.0


def wire_bytes(model, payload):
    if payload <= 0:
        return 0.0
    message = payload + model.message_bytes
    return message + math.ceil(message / model.segment_bytes) * model.packet_bytes


def ramped(model, walk, start, wire, window):
    """When an upload ends whose first round trip carries `window` bytes, the next the double."""
    if model.rtt_s <= 0:
        return walk.end(start, wire)
    at, left = start, wire
    while left > window:
        at = max(walk.end(at, window), at + model.rtt_s)
        left -= window
        window *= 2
    return walk.end(at, left)


def window_grown(window, wire):
    carried = window
    while carried < wire:
        window *= 2
        carried += window
    return window


def first_part(table, p, start, limit, noise):
    """The device's first part: seconds spent, whether it ended, gates' answer, seconds until asked.

    A stretch that at its median would miss the deadline is not begun.
    """
    gates = [(s, int(e)) for s, e in zip(table.early_s[p], table.early_exit[p], strict=True)]
    ends = [(s, e) for s, e in gates if e >= 0] + [(table.prefix_s[p], None)]
    spent, done, answer, asked = 0.0, 0.0, -1, 0.0
    for upto, gate in ends:
        if start + spent + (upto - done) > limit:
            return spent, False, answer, asked
        spent, done = spent + (upto - done) * noise, upto
        if gate is not None:
            asked = spent
            answer = gate if start + spent <= limit else answer
    return spent, True, answer, asked


def upload(table, p, handed, state, walk, model, limit, weight):
    """What an upload does to the uplink and what its measurement says."""
    payload = float(table.up_bytes[p]) * weight
    wire, ready = wire_bytes(model, payload), max(handed, state["uplink_s"])
    if not ready < limit:
        return {"end": INF, "sent": 0.0, "bytes": 0.0, "took": 0.0, "cancelled": False}
    window = state["window_bytes"]
    if ready > state["uplink_s"] + model.idle_reset_s:
        window = min(window, model.initial_window_bytes)
    end = ramped(model, walk, ready, wire, window)
    state["window_bytes"] = window_grown(window, wire)
    if end < limit or limit == INF:
        state["uplink_s"] = end
        there = end < INF
        return {
            "end": end, "sent": wire, "bytes": payload if there else 0.0,
            "took": end - ready if there else 0.0, "cancelled": False,
        }  # fmt: skip
    passed = min(walk.passed(ready, limit), wire)
    owed = min(wire - passed, model.send_buffer_bytes)
    state["uplink_s"] = walk.end(limit, owed)
    return {
        "end": INF, "sent": passed + owed, "bytes": passed * payload / wire,
        "took": limit - ready, "cancelled": True,
    }  # fmt: skip


def local_answers(table, p, arrival, free, back, limit, timing, noise):
    """Jobs on the device while the edge is awaited: (free, spent, exit or None)."""
    jobs = [
        (int(e), float(s), 0.0) for e, s in zip(table.wait_exit[p], table.wait_s[p], strict=True)
    ]
    chained = len(jobs)
    if timing.deadline_s is not None and table.rescue_s[p] < INF:
        keep = float(table.rescue_s[p]) * math.exp(QUANTILE_95 * table.device_sigma)
        wait = max(timing.deadline_s - keep - timing.rescue_margin_s, 0.0)
        jobs.append((0, float(table.rescue_s[p]), arrival + wait))
    spent, answer, broken = 0.0, None, False
    for number, (exit_, median, earliest) in enumerate(jobs):
        begin = max(free, earliest)
        late = begin >= back or begin >= limit or begin + median > limit
        # a hedge goes on from what the one before it has computed; a rescue begins anew
        broken = number < chained and (broken or late or exit_ < 0)
        if late or broken:
            continue
        free, spent = begin + median * noise, spent + median * noise
        if free <= limit:
            answer = exit_
    return free, spent, answer


PLAIN = (0.0, 0.0, 1.0)
"""Seconds of device and edge beyond their work, and a sample's bytes over their mean."""


def scalar_frame(
    table, p, arrival, state, walk, model, timing, device_noise, edge_noise, varied=PLAIN
):
    """One frame of plan p; changes `state` and gives the fields of `FrameOutcome`."""
    more_device_s, more_edge_s, weight = varied
    limit = INF if timing.deadline_s is None else arrival + timing.deadline_s
    local, computes = bool(table.local[p]), table.prefix_s[p] > 0
    begun = arrival + more_device_s
    start = max(begun, state["device_s"]) if computes else begun
    head, ended, answer, asked = first_part(table, p, start, limit, device_noise)
    if computes and head > 0:
        state["device_s"] = start + head
    done = start + head if ended else INF
    found = {
        "asked_s": start + asked, "device_start_s": start, "device_prefix_s": head,
        "handed_s": INF, "bytes_sent": 0.0, "measured_bytes": 0.0, "measured_duration_s": 0.0,
        "measured_known_s": INF, "measured_complete": False,
    }  # fmt: skip
    spent, own = 0.0, done if local else INF
    if not local and done < limit:
        up = upload(table, p, done, state, walk, model, limit, weight)
        complete, back = up["end"] < limit, INF
        if complete:
            there = up["end"] + model.rtt_s / 2
            spent_s = float(table.remote_s[p]) * edge_noise + more_edge_s
            state["edge_s"] = max(there, state["edge_s"]) + spent_s
            gone = max(state["edge_s"], state["downlink_s"])
            down = walk.end(gone, wire_bytes(model, float(table.down_bytes[p])))
            state["downlink_s"] = down if down < INF else limit
            back = down + model.rtt_s / 2
        free, spent, later = local_answers(
            table, p, arrival, state["device_s"], back, limit, timing, device_noise
        )
        answer = answer if later is None else later
        state["device_s"], own = free, back
        tail = float(table.suffix_s[p]) * device_noise
        if tail > 0:
            begin = max(back, free)
            own = begin + tail
            if begin < limit:
                state["device_s"], spent = own, spent + tail
        known = back if back < INF else limit + (model.rtt_s if up["cancelled"] else 0.0)
        found |= {
            "handed_s": done, "bytes_sent": up["sent"], "measured_bytes": up["bytes"],
            "measured_duration_s": up["took"], "measured_known_s": known,
            "measured_complete": complete,
        }  # fmt: skip
    by_plan = own <= limit and own < INF
    answered = own if by_plan else limit if answer >= 0 else INF
    return found | {
        "answered_s": answered, "latency_s": answered - arrival, "by_plan": by_plan,
        "answer_exit": int(table.exit[p]) if by_plan else answer, "device_s": head + spent,
    }  # fmt: skip


@functools.cache
def spec():
    return load_setting(read_scenario("3g-alexnet")).spec


def skewed(rng, low, high, count):
    """Mostly small numbers, some large; sums and products only, so the same bits everywhere."""
    share = rng.random(count)
    return low + (high - low) * share * share * share


def made_table(rng, plans=24, *, gates=3, waits=3, tails=True):
    """Any kind of plan beside any other: local, gated, hedged, rescued, edge-first, bare."""
    local = rng.random(plans) < 0.2
    numbers = rng.integers(0, gates + 1, plans) * (rng.random(plans) < 0.5)
    stretches = rng.uniform(0.002, 0.02, (plans, gates))
    there = np.arange(gates) < numbers[:, None]
    early_s = np.where(there, np.cumsum(stretches, axis=1), 0.0)
    last = rng.uniform(0.001, 0.06, plans)
    bare = ~local & (numbers == 0) & (rng.random(plans) < 0.4)
    jobs = rng.integers(0, waits + 1, plans) * ~local
    waiting = np.arange(waits) < jobs[:, None]
    free = rng.random((plans, waits)) < 0.2
    rescued = ~local & (jobs == 0) & (rng.random(plans) < 0.6)
    tailed = ~local & (rng.random(plans) < (0.3 if tails else 0.0))

    def remote(low, high):
        return np.where(local, 0.0, skewed(rng, low, high, plans))

    prefix_s = np.where(bare, 0.0, early_s.max(axis=1, initial=0.0) + last)
    up_bytes, edge_s = remote(200.0, 80_000.0), remote(0.001, 0.03)
    down_bytes = remote(64.0, 4000.0)
    suffix_s = np.where(tailed, rng.uniform(0.001, 0.03, plans), 0.0)
    return PlanTable(
        spec=spec(),
        topology=DEVICE_AND_EDGE,
        plans=(device_only(spec(), 0),) * plans,
        costs=np.stack([prefix_s, up_bytes, edge_s, down_bytes, suffix_s], axis=1),
        exit=rng.integers(0, 5, plans),
        local=local,
        wait_s=np.where(waiting & ~free, rng.uniform(0.001, 0.03, (plans, waits)), 0.0),
        wait_exit=np.where(waiting, rng.integers(0, 5, (plans, waits)), -1),
        rescue_s=np.where(rescued, rng.uniform(0.005, 0.05, plans), INF),
        early_s=early_s,
        early_exit=np.where(there, np.arange(gates), -1),
        gate_share=np.zeros((plans, gates)),
        accuracy=rng.random(plans),
        exit_accuracy=rng.random(5),
        sigmas=(float(rng.choice([0.0, 0.1])), 0.0),
    )


def made_walk(rng):
    """1 to 30 pieces, a third of them without rate, a second or two on average."""
    pieces = int(rng.integers(1, 31))
    rates = skewed(rng, 2e4, 2e7, pieces) * (rng.random(pieces) > 0.33)
    return Walk(list(zip(rng.uniform(0.01, 0.4, pieces).tolist(), rates.tolist(), strict=True)))


def bank_link(walks, shape):
    """A bank that holds the walks as traces, and its link of lanes of `shape`, one each."""
    bank = TraceBank(
        [
            BandwidthTrace.from_intervals(f"{k}", *zip(*w.pieces, strict=True))
            for k, w in enumerate(walks)
        ]
    )
    return bank.lanes(np.arange(len(walks)).reshape(shape))


def made_link(rng, kind, shape):
    lanes = int(np.prod(shape))
    if kind == "traces":
        walks = [made_walk(rng) for _ in range(lanes)]
        return walks, bank_link(walks, shape)
    rates = skewed(rng, 2e4, 2e7, lanes) * (rng.random(lanes) > 0.15)
    if kind == "one rate":
        rates = np.full(lanes, rates[0])
    walks = [Walk([(1e6, float(rate))]) for rate in rates]
    return walks, ConstantLink(rates[0] if kind == "one rate" else rates.reshape(shape))


STATE = ("device_s", "uplink_s", "edge_s", "downlink_s", "window_bytes")
BYTES = {"bytes_sent", "measured_bytes", "window_bytes"}


def made_states(rng, lanes, start_s, window_bytes):
    """What is owed when the stream begins: some lanes idle, some with a backlog on everything."""
    busy = rng.random(lanes) < 0.5
    states = [
        {name: float(start + owed) for name, owed in zip(STATE[:4], late, strict=True)}
        for start, late in zip(
            start_s, rng.uniform(0.0, 0.2, (lanes, 4)) * busy[:, None], strict=True
        )
    ]
    return [state | {"window_bytes": window_bytes} for state in states]


def as_resources(states, shape):
    columns = [np.array([s[name] for s in states]).reshape(shape) for name in STATE]
    return Resources(DEVICE_AND_EDGE, np.array(columns[:4]), np.array(columns[4:]))


def state_of(resources, name):
    """What the resources say of one of `STATE`, for every lane."""
    if name == "window_bytes":
        return resources.window_bytes[0]
    return resources.free_s[STATE.index(name)]


def assert_equal(name, found, expected):
    for lane, (mine, theirs) in enumerate(zip(found.ravel(), expected, strict=True)):
        if found.dtype.kind in "bi":
            assert mine == theirs, (name, lane)
        else:
            near = pytest.approx(theirs, rel=1e-9, abs=1e-6 if name in BYTES else 1e-9)
            assert float(mine) == near, (name, lane)


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(["traces", "traces", "rates", "one rate"]),
    shape=st.sampled_from([(1,), (7,), (3, 4)]),
    rtt_s=st.sampled_from([0.0, 0.03, 0.11]),
    window_bytes=st.sampled_from([INF, 14480.0, 2000.0]),
    deadline_s=st.sampled_from([None, 0.03, 0.1, 0.3]),
    gates=st.integers(0, 3),
    waits=st.integers(1, 3),
    tails=st.booleans(),
    noisy=st.booleans(),
    varies=st.booleans(),
)
def test_a_stream_of_any_plans_equals_the_scalar_account(
    seed, kind, shape, rtt_s, window_bytes, deadline_s, gates, waits, tails, noisy, varies
):
    """Frame after frame in the same lanes: queues, windows and what was cancelled carry over."""
    rng = np.random.default_rng(seed)
    lanes = int(np.prod(shape))
    table = made_table(rng, gates=gates, waits=waits, tails=tails)
    walks, link = made_link(rng, kind, shape)
    model = LinkModel(rtt_s, rng.uniform(0, 300), 66.0, send_buffer_bytes=rng.uniform(100, 16384))
    timing = Timing(deadline_s)
    arrival = rng.uniform(0.0, 0.5, lanes)
    states = made_states(rng, lanes, arrival * (rng.random() < 0.5), window_bytes)
    resources = as_resources(states, shape)
    for _ in range(14):
        plan = rng.integers(0, len(table), lanes)
        noise = rng.uniform(0.7, 1.5, (2, lanes)) if noisy else np.ones((2, lanes))
        given_noise = noise.reshape(2, *shape) if noisy else (1.0, 1.0)
        varied, more = np.tile(PLAIN, (lanes, 1)), {}
        if varies:
            varied = rng.uniform((0.0, 0.0, 0.3), (0.02, 0.02, 2.0), (lanes, 3))
            device_s, edge_s, weight = varied.T.reshape(3, *shape)
            more = {"overheads_s": (device_s, edge_s), "weight": weight}
        before = [state_of(resources, name).copy() for name in STATE]
        outcome, after = run_frames(
            table, plan.reshape(shape), arrival.reshape(shape), resources, link, model, timing,
            *given_noise, **more,
        )  # fmt: skip
        for name, value in zip(STATE, before, strict=True):
            assert np.array_equal(state_of(resources, name), value), f"{name} was changed in place"
        resources = after
        expected = [
            scalar_frame(
                table, int(plan[k]), float(arrival[k]), states[k], walks[k], model, timing,
                float(noise[0, k]), float(noise[1, k]), varied[k].tolist(),
            )
            for k in range(lanes)
        ]  # fmt: skip
        for name in expected[0]:
            assert_equal(name, getattr(outcome, name), [e[name] for e in expected])
        for name in STATE:
            assert_equal(name, state_of(resources, name), [s[name] for s in states])
        gap = rng.exponential(0.06, lanes) + (rng.random(lanes) < 0.1) * 0.4
        if deadline_s is None:
            answered = np.array([e["answered_s"] for e in expected])
            gap = np.where(answered < INF, answered - arrival, gap)
        arrival = arrival + gap


def test_what_the_scalar_account_meets():
    """The drawn streams hold every case that the property is about, each many times."""
    met = dict.fromkeys(
        ("cancelled", "owed", "complete", "ramped", "rescued", "tail", "stopped short", "late"), 0
    )
    rng = np.random.default_rng(0)
    for _ in range(120):
        table, walk = made_table(rng), made_walk(rng)
        model, timing = LinkModel(0.03, 160.0, 66.0), Timing(0.1)
        (state,), arrival = made_states(rng, 1, [0.0], 14480.0), 0.0
        for _ in range(14):
            p, busy_s = int(rng.integers(len(table))), state["uplink_s"]
            found = scalar_frame(table, p, arrival, state, walk, model, timing, 1.1, 0.9)
            met["complete"] += found["measured_complete"]
            cancelled = found["bytes_sent"] > 0 and not found["measured_complete"]
            met["cancelled"] += cancelled
            met["owed"] += cancelled and state["uplink_s"] > arrival + 0.1 + 1e-6
            met["ramped"] += found["bytes_sent"] > state["window_bytes"] / 2 > 14480.0 / 2
            met["rescued"] += table.rescue_s[p] < INF and found["answer_exit"] == 0
            met["tail"] += table.suffix_s[p] > 0 and found["by_plan"]
            met["stopped short"] += 0 < found["device_prefix_s"] < table.prefix_s[p] * 1.1 - 1e-9
            met["late"] += found["measured_known_s"] < INF and busy_s > arrival + 0.1
            arrival += float(rng.exponential(0.06))
    assert min(met.values()) >= 10, met


def outcome_digest(link_kind):
    """SHA-256 of every bit that 40 frames in 64 lanes give; all inputs are sums and products."""
    rng = np.random.default_rng(11)
    table, shape = replace(made_table(rng, 40), sigmas=(0.0, 0.0)), (64,)
    _, link = made_link(rng, link_kind, shape)
    model, timing = LinkModel(0.03, 256.0, 66.0), Timing(0.1)
    arrival = rng.uniform(0.0, 1.0, shape)
    resources = as_resources(made_states(rng, 64, arrival, 14480.0), shape)
    digest = hashlib.sha256()
    for _ in range(40):
        outcome, resources = run_frames(
            table, rng.integers(0, len(table), 64), arrival, resources, link, model, timing,
            rng.uniform(0.7, 1.5, shape), rng.uniform(0.7, 1.5, shape),
        )  # fmt: skip
        for name in ("answered_s", "device_s", "bytes_sent", "measured_known_s", "measured_bytes"):
            digest.update(getattr(outcome, name).astype("<f8").tobytes())
        digest.update(outcome.answer_exit.astype("<i8").tobytes())
        for name in STATE:
            digest.update(state_of(resources, name).astype("<f8").tobytes())
        arrival = arrival + 1 / 23
    return digest.hexdigest()[:16]


@pytest.mark.parametrize(
    ("kind", "expected"), [("traces", "1c5ba4054a7c19ff"), ("rates", "18e33c4796d3f57d")]
)
def test_not_one_bit_has_changed(kind, expected):
    """Digests of the code before it was made faster, hedges mended: rounding included."""
    assert outcome_digest(kind) == expected
