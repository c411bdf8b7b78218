"""The device's engine: what it sends, what it keeps time for, and when it believes its edge."""

import queue
import random
import socket
import threading

import numpy as np
import pytest

from controller.device.cpu import CpuJob
from controller.device.engine import FrameEngine
from controller.device.frame import EngineArgs
from controller.device.frame_loops import connect_engine
from controller.health import Breaker, Breakers, EdgeReliability
from controller.link.interface import NoLink, Reply
from controller.link.keepalive import SILENCE_S
from controller.planners.fixed import FixedController
from controller.scenarios import load_setting, read_scenario
from controller.wire import Connection, Message, MessageType, Role
from models.data.pictures import generated_pictures
from models.executors import OnnxExecutor


@pytest.fixture(scope="module")
def executor(stream):
    return OnnxExecutor(stream.model)


@pytest.fixture(scope="module")
def pictures():
    return generated_pictures(30, np.random.default_rng(0))


def plan_of(stream, wanted):
    return next(k for k, plan in enumerate(stream.table.plans) if wanted(plan))


def test_a_black_hole_is_noticed_within_a_deadline_not_by_tcp(stream, executor, pictures):
    """An edge that greets and then swallows everything: two frames are lost on it, no more."""
    deadline_s = 0.3
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ended = threading.Event()

        def swallow():
            sock, _ = listener.accept()
            edge = Connection(Role.EDGE)
            with sock:
                while not edge.receive(sock.recv(65536)):
                    pass
                sock.sendall(edge.send(Message(MessageType.WELCOME, meta={"models": []})))
                ended.wait(60.0)

        threading.Thread(target=swallow, daemon=True).start()
        remote = plan_of(stream, lambda p: p.hops and p.hops[0].start == 0)
        engine = connect_engine(
            stream.model, executor, stream.device, stream.table, FixedController("x", remote),
            ("127.0.0.1", listener.getsockname()[1]), EngineArgs(deadline_s, always_rescue=True),
        )  # fmt: skip
        engine.admission.breakers, plans = (
            Breakers(random.Random(0), lambda: Breaker(failures=2, first_s=1e6)),
            [],
        )
        try:
            engine.begin(engine.clock())
            begun = engine.clock()
            for number in range(6):
                frame = engine.start(number, engine.clock(), pictures[number])
                engine.wait(frame.arrival_s + deadline_s + 0.1)
                plans.append(frame.plan_index)
                if number == 0:
                    assert engine.watch.measured is not None
                    assert engine.watch.measured.payload_bytes == 0
                    assert engine.clock() - begun < SILENCE_S / 2
        finally:
            engine.close()
            engine.link.close()
            ended.set()
    assert plans[:2] == [remote, remote]
    assert all(stream.table.local[k] for k in plans[2:])


def test_while_the_edge_answers_no_time_is_kept_for_a_plan_without_a_rescue():
    """Its own answer is then made where the CPU is idle; after one miss time is kept again."""
    setting = load_setting(read_scenario("lte-mobilenet"))
    table, deadline_s, now = setting.table, setting.scenario.frames.deadline_s, [100.0]
    bare = next(
        k for k, p in enumerate(table.plans) if not p.rescue and p.hops[0].codec == "jpeg35"
    )
    careful = next(
        k for k, p in enumerate(table.plans)
        if p.hops and p.hops[0].start == 0 and p.rescue and p.hops[0].codec == "jpeg35"
    )  # fmt: skip
    rescue_s = setting.device.interval_s(0, 0, len(setting.spec.branches[0]))

    class Far(NoLink):
        connected, sent = True, 0

        def upload(self, meta, data, until_s=0.0):
            self.sent += 1
            return self.sent

        def cancel(self, request):
            return 1

    controller, records = FixedController("x", bare), []
    engine = FrameEngine(
        setting.model, OnnxExecutor(setting.model), setting.device, table, controller, Far(),
        EngineArgs(deadline_s, always_rescue=True), clock=lambda: now[0], on_record=records.append,
    )  # fmt: skip
    engine.begin(now[0])
    picture = generated_pictures(1, np.random.default_rng(0), 144)[0][:144, :144]

    def sent(deadline_s=deadline_s):
        """A frame whose upload has been handed over; the clock stands still meanwhile."""
        number = len(records) + len(engine.live)
        frame = engine.start(number, now[0], picture, deadline_s)
        while frame.request is None:
            assert engine._loop.handle_one(10.0) is not None
        return frame

    def at(later_s):
        now[0] += later_s
        engine.wait(now[0])

    def answered(frame):
        engine.on_reply(Reply(frame.request, now[0], {"class": 0, "confidence": 0.9}))
        at(0.0)
        assert records[-1].where == "edge"

    def busy(seconds):
        begun, finish, ended = threading.Event(), threading.Event(), queue.Queue()

        def work():
            begun.set()
            assert finish.wait(10)

        engine._cpu.submit(CpuJob(work, ended.put, seconds, 1e9, 1e9, lambda: True))
        assert begun.wait(10)
        return finish, ended

    try:
        frame = sent()
        assert frame.reservation is not None
        answered(frame)
        assert not engine._cpu._reserved

        # an idle CPU answers when it must, as ever
        frame = sent()
        assert frame.reservation is None
        due_s = frame.rescue_at_s - now[0]
        at(0.9 * due_s)
        assert not frame.local_begun
        at(0.1 * due_s + 1e-6)
        assert frame.local_begun
        answered(frame)

        # a busy one has to be free in time; it may end sooner than it says, or never
        begin_s = deadline_s - rescue_s
        for said_s, ends, helped in (
            (begin_s - 0.002, True, True),
            (begin_s + 0.002, True, True),
            (begin_s + 0.002, False, False),
        ):
            frame = sent()
            finish, ended = busy(said_s)
            at(due_s + 1e-6)
            assert not frame.local_begun
            if ends:
                finish.set()
                assert ended.get(timeout=10).error is None
            at(begin_s - 0.0005 - due_s)
            assert frame.local_begun == helped
            finish.set()
            answered(frame)

        # a plan that wants its rescue has its time kept
        controller.plan = careful
        frame = sent()
        assert frame.reservation is not None
        answered(frame)

        # what was given less time than usual says nothing
        controller.plan = bare
        hurried = sent(0.9 * deadline_s)
        assert hurried.reservation is None
        at(0.9 * deadline_s)
        assert hurried.over
        assert not hurried.answered_by_edge

        # one miss, and nothing is done without; nor is what relied on the edge with it
        first = sent()
        at(deadline_s / 4)
        second = sent()
        assert (first.reservation, second.reservation) == (None, None)
        at(3 * deadline_s / 4)
        assert first.over
        assert not first.answered_by_edge
        assert second.reservation is not None or second.local_begun
        third = sent()
        assert third.reservation is not None
        answered(second)
        answered(third)
        assert sent().reservation is None

        # the same where the edge refuses, at once; and where it has not been heard of for long
        at(deadline_s)
        answered(sent())
        first, second = sent(), sent()
        assert second.reservation is None
        engine.on_reply(Reply(first.request, now[0], error="no time"))
        at(0.0)
        assert second.reservation is not None
        at(deadline_s)
        answered(sent())
        at(EdgeReliability.holds_s + 0.001)
        assert sent().reservation is not None
    finally:
        engine.close()


def test_nothing_slips_between_a_frame_s_head_and_its_local_answer():
    """While the head runs, time is kept for the answer of the exit that it passes."""
    setting = load_setting(read_scenario("lte-mobilenet"))
    table, inner = setting.table, OnnxExecutor(setting.model)
    deep = next(
        k for k, p in enumerate(table.plans)
        if p.hops and not p.gates and table.wait_exit[k, 0] >= 0
    )  # fmt: skip
    begun, go_on = threading.Event(), threading.Event()

    class Gated:
        encode, decode = inner.encode, inner.decode

        def run(self, *interval):
            begun.set()
            assert go_on.wait(10)
            return inner.run(*interval)

    class Hole(NoLink):
        connected = True

        def upload(self, meta, data, until_s=0.0):
            return 1

        def cancel(self, request):
            return 1

    records = []
    engine = FrameEngine(
        setting.model, Gated(), setting.device, table, FixedController("x", deep), Hole(),
        EngineArgs(3.0), on_record=records.append,
    )  # fmt: skip
    picture = generated_pictures(1, np.random.default_rng(0), 144)[0][:144, :144]
    try:
        engine.begin(engine.clock())
        frame = engine.start(0, engine.clock(), picture)
        assert begun.wait(10)
        (place,) = engine._cpu._reserved
        assert place.due_s == pytest.approx(frame.arrival_s + 3.0)
        assert place.expected_s == pytest.approx(float(table.wait_s[deep, 0]))
        go_on.set()
        engine.wait(engine.clock() + 5.0, frame)
        assert not engine._cpu._reserved
    finally:
        engine.close()
    assert records[0].exit == int(table.wait_exit[deep, 0])
