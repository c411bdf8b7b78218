"""The same events have a device decide alike, in the simulated world and in the real engine."""

import functools
import random
import threading

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.admission import SILENCE_MARGIN_S, Admission
from controller.device.engine import FrameEngine
from controller.device.frame import EngineArgs
from controller.device.link_monitor import ProbeSettings
from controller.interface import Situation
from controller.link.interface import NoLink, Reply
from controller.planners.fixed import FixedController
from controller.scenarios import load_setting, read_scenario
from envs.admission import DeviceRules, FrameFate
from models.codecs import Encoded
from models.data.pictures import generated_pictures

DEADLINE_S, RTT_S, EVERY_S = 0.3, 0.03, 0.1
MISSED_S = RTT_S + SILENCE_MARGIN_S


@functools.cache
def scenario():
    return load_setting(read_scenario("3g-alexnet"))


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
    # an edge is relied on after three answers in a row
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
    table = stream.table
    plan = next(
        k for k, p in enumerate(table.plans)
        if p.hops and p.hops[0].start == 0 and p.hops[0].stop == len(stream.spec.branches[p.exit])
        and p.rescue == rescue
    )  # fmt: skip
    picture = generated_pictures(1, np.random.default_rng(0))[0]
    assert simulated(stream, plan, script) == real(stream, plan, script, picture)
