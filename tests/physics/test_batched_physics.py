"""The batched physics against one frame at a time: plain numbers, ifs and loops, none of its code.

The scalar account walks a trace piece by piece, a ramp round by round and a plan job by job. What
is drawn comes from a seed, so that no two times coincide by being round numbers: which of them is
first where they do is for the rounding to say.
"""

import functools
import hashlib
from collections import deque
from copy import deepcopy
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scalar_physics import INF, PLAIN, Walk, scalar_frame

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
from controller.physics.kept import KeptTimes
from controller.plans import device_only
from controller.scenarios import load_setting, read_scenario
from traces.trace import BandwidthTrace


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
    wait_s = np.where(waiting & ~free, rng.uniform(0.001, 0.03, (plans, waits)), 0.0)
    rescue_s = np.where(rescued, rng.uniform(0.005, 0.05, plans), INF)
    return PlanTable(
        spec=spec(),
        topology=DEVICE_AND_EDGE,
        plans=(device_only(spec(), 0),) * plans,
        costs=np.stack([prefix_s, up_bytes, edge_s, down_bytes, suffix_s], axis=1),
        exit=rng.integers(0, 5, plans),
        local=local,
        wait_s=wait_s,
        wait_exit=np.where(waiting, rng.integers(0, 5, (plans, waits)), -1),
        wait_pause_s=wait_s * rng.choice([0.0, 0.3, 0.8], (plans, waits)),
        rescue_s=rescue_s,
        rescue_pause_s=np.where(rescued, rescue_s, 0.0) * rng.choice([0.0, 0.5, 0.9], plans),
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


def made_states(rng, lanes, start_s, window_bytes, kept=0):
    """What is owed when the stream begins: some lanes idle, some with a backlog on everything."""
    busy = rng.random(lanes) < 0.5
    states = [
        {name: float(start + owed) for name, owed in zip(STATE[:4], late, strict=True)}
        for start, late in zip(
            start_s, rng.uniform(0.0, 0.2, (lanes, 4)) * busy[:, None], strict=True
        )
    ]
    more = [{"window_bytes": window_bytes, "kept": deque([None] * kept, kept)} for _ in states]
    return [state | own for state, own in zip(states, more, strict=True)]


def as_resources(states, shape):
    columns = [np.array([s[name] for s in states]).reshape(shape) for name in STATE]
    kept = KeptTimes.none(np.shape(columns[0]), len(states[0]["kept"]))
    return Resources(DEVICE_AND_EDGE, np.array(columns[:4]), np.array(columns[4:]), kept)


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


@pytest.mark.slow
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
    kept=st.sampled_from([0, 1, 4]),
)
def test_a_stream_of_any_plans_equals_the_scalar_account(
    seed, kind, shape, rtt_s, window_bytes, deadline_s, gates, waits, tails, noisy, varies, kept
):
    """Frame after frame in the same lanes: queues, windows and what was cancelled carry over."""
    rng = np.random.default_rng(seed)
    lanes = int(np.prod(shape))
    table = made_table(rng, gates=gates, waits=waits, tails=tails)
    walks, link = made_link(rng, kind, shape)
    model = LinkModel(rtt_s, rng.uniform(0, 300), 66.0, send_buffer_bytes=rng.uniform(100, 16384))
    timing = Timing(deadline_s)
    arrival = rng.uniform(0.0, 0.5, lanes)
    states = made_states(rng, lanes, arrival * (rng.random() < 0.5), window_bytes, kept)
    resources = as_resources(states, shape)
    for _ in range(14):
        plan = rng.integers(0, len(table), lanes)
        noise = rng.uniform(0.7, 1.5, (2, lanes)) if noisy else np.ones((2, lanes))
        given_noise = noise.reshape(2, *shape) if noisy else (1.0, 1.0)
        varied, more = np.tile(PLAIN, (lanes, 1)), {}
        if varies:
            varied = rng.uniform((0.0, 0.0, 0.0, 0.3), (0.02, 0.02, 0.05, 2.0), (lanes, 4))
            device_s, edge_s, others_s, weight = varied.T.reshape(4, *shape)
            more = {"overheads_s": (device_s, edge_s), "others_s": others_s, "weight": weight}
        before = [state_of(resources, name).copy() for name in STATE]
        kept_before = deepcopy(resources.kept)
        outcome, after = run_frames(
            table, plan.reshape(shape), arrival.reshape(shape), resources, link, model, timing,
            *given_noise, **more,
        )  # fmt: skip
        for name, value in zip(STATE, before, strict=True):
            assert np.array_equal(state_of(resources, name), value), f"{name} was changed in place"
        for name, value in asdict(kept_before).items():
            assert np.array_equal(getattr(resources.kept, name), value), f"{name} was changed"
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
        for k in range(kept - 1):
            assert_equal("lost", outcome.lost[k], [s["lost"][k] for s in states])
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
        (
            "cancelled",
            "owed",
            "complete",
            "ramped",
            "rescued",
            "tail",
            "stopped short",
            "late",
            "lost",
        ),
        0,
    )
    rng = np.random.default_rng(0)
    for number in range(120):
        table, walk = made_table(rng), made_walk(rng)
        model, timing = LinkModel(0.03, 160.0, 66.0), Timing(0.1)
        (state,), arrival = made_states(rng, 1, [0.0], 14480.0, 4 * (number % 2)), 0.0
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
            met["lost"] += any(exit_ >= 0 for exit_ in state["lost"])
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
    ("kind", "expected"), [("traces", "3b7d3061cd61ed2e"), ("rates", "d162a557b6a76a81")]
)
def test_not_one_bit_has_changed(kind, expected):
    """Digests of what the physics says of made-up tables: rounding included."""
    assert outcome_digest(kind) == expected
