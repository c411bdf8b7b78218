"""Edges that greet and are of no use: a well one serves instead, else the device answers alone."""

import contextlib
import dataclasses
import random

import numpy as np
import pytest

from controller.device.engine import FrameEngine
from controller.device.frame import EngineArgs, Frame
from controller.device.link_monitor import ProbeSettings
from controller.link.edge_link import EdgeLink
from controller.link.interface import NoLink, Reply
from controller.link.measuring import Upload, measure
from controller.link.pool import LinkPool
from controller.planners.fixed import FixedController
from controller.wire import RemoteProtocolError
from experiments.robustness.attacks import hostile_edge
from experiments.robustness.attacks.hostile_edge import HostileEdge
from models.data.pictures import generated_pictures
from models.executors import OnnxExecutor

DEADLINE_S, APART_S = 0.3, 0.1
REPLY_S = 0.003
"""Kept by whoever passes answers on, as over HTTP."""


class Far(EdgeLink):
    """A link whose edge is farther away than it is."""

    rtt_s = property(lambda self: 0.05, lambda self, value: None)


@pytest.fixture(scope="module")
def executor(stream):
    return OnnxExecutor(stream.model)


@contextlib.contextmanager
def asking(stream, executor, *links):
    """An engine that sends whatever it may over these links, (class, port) each."""
    plan = next(k for k, p in enumerate(stream.table.plans) if p.hops and p.hops[0].start == 0)
    made = []

    def maker(kind, port):
        def make(reported):
            return kind("127.0.0.1", port, stream.model.digest, reported)

        return make

    pool = LinkPool([maker(*link) for link in links], lambda reply: made[0].on_reply(reply))
    engine = FrameEngine(
        stream.model, executor, stream.device, stream.table, FixedController("x", plan), pool,
        EngineArgs(DEADLINE_S),
    )  # fmt: skip
    made.append(engine)
    engine.guard(ProbeSettings(bytes_per_minute=0), random.Random(0))
    try:
        for link in pool._links:
            assert link.wait_connected(10.0)
        yield engine
    finally:
        engine.close()
        pool.close()


def film(engine, frames, deadline_s=DEADLINE_S):
    """A record for each of so many frames, `APART_S` apart."""
    records = []
    engine.on_record = records.append
    pictures = generated_pictures(4, np.random.default_rng(0))
    begun = engine.clock()
    engine.begin(begun)
    for number in range(frames):
        due = begun + number * APART_S
        engine.wait(due)
        engine.start(number, due, pictures[number % 4], deadline_s)
    engine.wait(engine.clock() + DEADLINE_S + 0.1)
    assert len(records) == frames
    return records


@pytest.mark.parametrize("behaviour", ["pong_only", "mute", "cancels", "answers_late"])
def test_a_useless_edge_that_is_near_does_not_shut_out_a_good_one(
    stream, executor, serving, behaviour
):
    late_s = {"late_s": DEADLINE_S + 0.05} if behaviour == "answers_late" else {}
    with (
        serving(stream.model, executor) as good,
        HostileEdge(getattr(hostile_edge, behaviour), **late_s) as bad,
        asking(stream, executor, (EdgeLink, bad.port), (Far, good.port)) as engine,
    ):
        records = sorted(film(engine, 16), key=lambda r: r.frame)
        assert bad.requests >= 1 or behaviour == "mute", "it is the nearer one"
        # those that are on their way before the first one's deadline has passed
        unaware = round(DEADLINE_S / APART_S)
        assert sum(r.latency_s is None for r in records) <= unaware
        assert [r.where for r in records[10:]].count("edge") >= 5, "one trial at most"
        assert engine.link.address == f"127.0.0.1:{good.port}"


@pytest.mark.parametrize("deadline_s", [DEADLINE_S, DEADLINE_S - REPLY_S, 0.5 * DEADLINE_S])
@pytest.mark.parametrize("behaviour", ["pong_only", "mute"])
def test_silence_is_heard_whatever_deadline_a_frame_has(stream, executor, behaviour, deadline_s):
    with (
        HostileEdge(getattr(hostile_edge, behaviour)) as bad,
        asking(stream, executor, (EdgeLink, bad.port)) as engine,
    ):
        records = film(engine, 20, deadline_s)
        assert all(r.where != "edge" for r in records)
        assert 2 <= bad.requests <= 8, "those before the first silence was over, and trials"


def test_an_edge_that_calls_everything_cancelled_is_left_alone_in_the_end(stream, executor):
    with (
        HostileEdge(hostile_edge.cancels) as bad,
        asking(stream, executor, (EdgeLink, bad.port)) as engine,
    ):
        film(engine, 25)
        assert bad.requests < 18


@pytest.mark.parametrize(
    ("value", "said"),
    [(np.nan, "values that are not finite"), (np.inf, "values that are not finite"),
     (3e38, "gives no answer")],
)  # fmt: skip
def test_a_tensor_that_no_network_gives_is_no_answer(stream, executor, value, said):
    """Plans that end on the device: what the edge gave is checked before anybody hears of it."""
    spec = stream.spec
    index, whole = next(
        (k, p) for k, p in enumerate(stream.table.plans) if p.hops and p.hops[0].start == 0
    )
    hop = dataclasses.replace(whole.hops[0], stop=len(spec.branches[whole.exit]) - 1)
    plan = dataclasses.replace(whole, hops=(hop,))
    plans = tuple(plan if k == index else p for k, p in enumerate(stream.table.plans))
    table = dataclasses.replace(stream.table, plans=plans)
    shape = spec.shapes[plan.exit][plan.hops[0].stop]
    records = []
    engine = FrameEngine(
        stream.model, executor, stream.device, table, FixedController("x", index), NoLink(),
        EngineArgs(30.0), on_record=records.append,
    )  # fmt: skip
    try:
        picture = generated_pictures(1, np.random.default_rng(0))[0]
        now = engine.clock()
        frame = Frame(0, index, plan, now, picture, 30.0, now + 30.0, request=7)
        engine.live[0] = engine.edge.by_request[7] = frame
        tensor = np.full(shape, value, dtype="<f4")
        tensor.flat[0::2] *= -1
        engine.on_reply(Reply(7, engine.clock(), {"bytes": tensor.nbytes}, tensor.tobytes()))
        engine.wait(engine.clock() + 20.0, frame)
    finally:
        engine.close()
    (record,) = records
    assert said in record.error
    assert (record.where, record.exit, record.by_plan) == ("device", 0, False)
    assert 0.0 < record.confidence <= 1.0


@pytest.mark.parametrize("seconds", [-1e17, 1e17])
def test_times_that_cannot_be_reach_nobody(seconds):
    job = Upload(1, {}, bytes(5000), 1.0, begun_s=1.0, sent_bytes=5000)
    for key in ("receive_s", "queue_s", "compute_s"):
        meta = {"received_bytes": 5000, "first_read_bytes": 10, key: seconds}
        if key == "receive_s" or seconds < 0:
            with pytest.raises(RemoteProtocolError, match=key):
                measure(job, meta, 1.2, 0.03, False)
        else:
            assert measure(job, meta, 1.2, 0.03, False).rate_bps > 0
