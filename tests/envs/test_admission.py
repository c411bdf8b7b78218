"""The same events have a device decide alike, in the simulated world and in the real engine."""

import functools
import random
import threading

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tidy import tidy

from controller.admission import SILENCE_MARGIN_S, Admission
from controller.device.engine import FrameEngine
from controller.device.frame import EngineArgs
from controller.device.link_monitor import ProbeSettings
from controller.interface import Situation
from controller.link.interface import NoLink, Reply
from controller.physics import TraceBank
from controller.planners.fixed import FixedController
from controller.scenarios import load_setting
from envs.admission import AdmittedLanes, DeviceRules, FrameFate
from envs.simulator import Simulator
from experiments.evaluation.evaluator import evaluate
from models.codecs import Encoded
from models.data.pictures import generated_pictures
from traces import BandwidthTrace

pytestmark = pytest.mark.quick

DEADLINE_S, RTT_S, EVERY_S = 0.3, 0.03, 0.1
MISSED_S = RTT_S + SILENCE_MARGIN_S


@functools.cache
def scenario():
    """At 20 frames a second, with which the device's first exit keeps up."""
    named = tidy("3g-alexnet")
    slower = msgspec.structs.replace(named.frames, rate_fps=20.0)
    return load_setting(msgspec.structs.replace(named, frames=slower))


def picture_plan(setting, rescue):
    """A plan that sends the picture as it is and has the edge answer."""
    stream, table = setting, setting.table
    return next(
        k for k, p in enumerate(table.plans)
        if p.hops and p.hops[0].start == 0 and p.hops[0].stop == len(stream.spec.branches[p.exit])
        and p.rescue == rescue
    )  # fmt: skip


class Instant:
    """An executor whose layers give zeros of their shapes at once."""

    def __init__(self, spec):
        self.spec = spec

    def run(self, branch, start, stop, x):
        return np.zeros((len(x), *self.spec.shapes[branch][stop]), dtype=np.float32)

    def encode(self, codec, branch, cut, x):
        return Encoded(b"picture", {})


class Script(NoLink):
    """A link whose edge does with each request what it is given to do."""

    connected, rtt_s = True, RTT_S

    def __init__(self):
        self.begun, self.sent = {}, 0

    def upload(self, meta, data, until_s=0.0):
        self.sent += 1
        return self.sent

    def cancel(self, request):
        return 7 if self.begun[request] else 0


ANSWERED = st.tuples(st.just("answered"), st.floats(0.001, DEADLINE_S - 0.001))
SOON = st.tuples(st.just("answered"), st.floats(0.001, EVERY_S / 2))
fates = st.one_of(
    # an edge is relied on while its newest answer was in time: most are
    ANSWERED, SOON, SOON, SOON,
    st.tuples(st.just("late"), st.floats(DEADLINE_S + 0.001, DEADLINE_S + 2 * MISSED_S)),
    st.tuples(st.just("cancelled"), st.just(DEADLINE_S + RTT_S)),
    st.tuples(st.just("silent"), st.just(np.inf)),
    st.tuples(st.just("unsent"), st.just(np.inf)),
)  # fmt: skip


def simulated(stream, plan, script):
    """The plans of frames with these fates, and whether time was kept for each one's fallback."""
    first = len(stream.spec.branches[0])
    rules = Admission(
        stream.table, DEADLINE_S, stream.device.interval_p95_s(0, 0, first), always_rescue=True
    )
    rules.guard(random.Random(5))
    device, found = DeviceRules(rules, RTT_S), []
    for number, (fate, after_s) in enumerate(script):
        now = number * EVERY_S
        chosen, reserves = device.admit(plan, Situation(now, number, DEADLINE_S, 0.0, 0, RTT_S))
        found.append((chosen, None if stream.table.local[chosen] else reserves))
        if not stream.table.local[chosen]:
            in_time = after_s <= DEADLINE_S
            device.ran(
                FrameFate(
                    now, now + min(after_s, DEADLINE_S), now + after_s, True, in_time,
                    fate != "unsent", fate not in ("unsent", "silent"), True,
                )
            )  # fmt: skip
    return found


def real(stream, plan, script, picture):
    """The same by the engine that a daemon runs; its clock goes from one moment to the next."""
    now, link, records, found = [0.0], Script(), [], []
    engine = FrameEngine(
        stream.model, Instant(stream.spec), stream.device, stream.table, FixedController("x", plan),
        link, EngineArgs(DEADLINE_S, rtt_s=RTT_S), clock=lambda: now[0], on_record=records.append,
    )  # fmt: skip
    engine.guard(ProbeSettings(bytes_per_minute=0), random.Random(5))

    def settle():
        """Let the CPU end what it was given; the clock stands still."""
        engine.wait(now[0])
        while engine._cpu.backlog_s() > 0:
            threading.Event().wait(1e-4)
            engine.wait(now[0])

    def until(moment):
        while (step := min([engine._next_moment_s(moment), *(r.at_s for r in coming)])) < moment:
            now[0] = max(step, now[0])
            for reply in [r for r in coming if r.at_s <= now[0]]:
                coming.remove(reply)
                engine.on_reply(reply)
            settle()
        now[0] = moment
        settle()

    coming = []
    try:
        engine.begin(0.0)
        for number, (fate, after_s) in enumerate(script):
            until(number * EVERY_S)
            link.begun[link.sent + 1] = fate != "unsent"
            frame = engine.start(number, now[0], picture)
            kept = frame.reservation is not None
            found.append((frame.plan_index, kept if frame.request is not None else None))
            if frame.request is not None and after_s < np.inf:
                at, cancelled = now[0] + after_s, fate == "cancelled"
                meta = {} if cancelled else {"class": 0, "confidence": 0.9}
                coming.append(Reply(frame.request, at, meta, cancelled=cancelled))
        until(len(script) * EVERY_S + 1.0)
    finally:
        engine.close()
    assert len(records) == len(script), "one answer a frame"
    return found


@settings(max_examples=150)
@given(script=st.lists(fates, min_size=5, max_size=40), rescue=st.booleans())
def test_the_same_events_give_the_same_decisions_in_both_worlds(script, rescue):
    stream = scenario()
    plan = picture_plan(stream, rescue)
    picture = generated_pictures(1, np.random.default_rng(0))[0]
    assert simulated(stream, plan, script) == real(stream, plan, script, picture)


def outage(rate_bps=20e6, from_s=10.0, until_s=20.0, end_s=30.0):
    times_s = np.array([0.0, from_s, until_s, end_s])
    return BandwidthTrace("outage", times_s[:-1], np.array([rate_bps, 0.0, rate_bps]), end_s)


def filmed(admission, rescue=True):
    """The plans, arrivals and results of a simulated device that would always send its pictures."""
    setting = scenario()
    rng = np.random.default_rng(0)
    simulator = Simulator(setting, TraceBank([outage()]), 1, "policy", rng, admission)
    lane, plan = np.ones(1, dtype=bool), np.array([picture_plan(setting, rescue)])
    simulator.place(lane, np.zeros(1, dtype=np.int64), np.zeros(1))
    plans, arrivals, results = [], [], []
    over = False
    while not over:
        result = simulator.step(plan)
        plans.append(int(simulator.plan[0]))
        arrivals.append(float(result.arrival_s[0]))
        results.append(result)
        over = bool(result.ended[0])
    return np.array(plans), np.array(arrivals), results


def test_simulated_devices_keep_frames_while_the_link_gives_nothing_back():
    setting = scenario()
    table, sends = setting.table, picture_plan(setting, True)
    free, _, _ = filmed(None)
    assert (free == sends).all(), "without the rules a controller has its way"
    plans, arrivals, _ = filmed(AdmittedLanes(setting, 1))
    before, dark = arrivals < 9.0, (arrivals > 11.5) & (arrivals < 20.0)
    assert (plans[before] == sends).all()
    kept = table.local[plans[dark]]
    assert kept.mean() > 0.8, "all but the breaker's trials"
    assert not kept.all()
    assert (plans[arrivals > 28.5] == sends).all(), "the link is back"


def test_simulated_devices_have_a_local_answer_until_their_edge_has_proved_itself():
    setting = scenario()
    bare = picture_plan(setting, False)
    free, _, alone = filmed(None, rescue=False)
    plans, arrivals, ruled = filmed(AdmittedLanes(setting, 1), rescue=False)
    assert (free == bare).all()
    dark = (arrivals > 10.0) & (arrivals < 19.5)
    late = np.array([not r.in_time[0] for r in alone])
    assert late[dark].all(), "a bare plan has no answer of its own"
    first = dark & (plans == bare) & (arrivals < 11.5)
    late = np.array([not r.in_time[0] for r in ruled])[first].tolist()
    assert late[:2] == [True, True], "they relied on the edge when the link went"
    assert len(late) >= 4
    assert not any(late[2:]), "one miss, and time is kept for a local answer"


def test_lanes_decide_for_themselves_and_begin_anew():
    setting = scenario()
    lanes = AdmittedLanes(setting, 2, seed=3)
    plan = np.full(2, picture_plan(setting, True))
    zero, count = np.zeros(2), np.zeros(2, dtype=np.int64)
    for _ in range(2):
        assert (lanes.admit(plan, zero, count, zero, zero, zero + 1.0) == plan).all()
        lanes.devices[0].admission.failed(0, 0.0)
    found = lanes.admit(plan, zero, count, zero, zero, zero + 1.0)
    assert setting.table.local[found].tolist() == [True, False]
    lanes.reset(np.array([True, False]))
    assert (lanes.admit(plan, zero, count, zero, zero, zero + 1.0) == plan).all()


def test_an_evaluation_as_a_daemon_runs_the_rules_and_tells_the_controller():
    """What ran is recorded, and who chose something else hears of it, frame by frame."""
    setting, heard = scenario(), []
    sends = picture_plan(setting, True)

    class Stubborn(FixedController):
        def overruled(self, frame, plan):
            heard.append((frame, plan))

    (run,) = evaluate(
        setting, [outage()], lambda k: Stubborn("x", sends), seed=1, as_daemon=True
    )  # fmt: skip
    others = np.flatnonzero(run.plan != sends)
    assert heard == [(int(k), int(run.plan[k])) for k in others]
    dark = (run.arrival_s > 11.5) & (run.arrival_s < 20.0)
    assert setting.table.local[run.plan[dark]].mean() > 0.8
    (free,) = evaluate(setting, [outage()], lambda k: Stubborn("x", sends), seed=1)
    assert (free.plan == sends).all()
