"""The engine as a service: one answer a frame, bounds, other deadlines, a dead link."""

import asyncio
import queue
import random
import socket
import threading
import time

import numpy as np
import pytest

from controller.daemon.inference import InferRequest
from controller.daemon.served import ServedModel, TooLateError
from controller.daemon.service import AnyDeadline, BusyError, FrameService
from controller.daemon.settings import LimitSettings
from controller.daemon.working import WorkPool
from controller.device.cpu import CpuJob
from controller.device.engine import FrameEngine
from controller.device.frame import EngineArgs
from controller.device.frame_loops import connect_engine
from controller.interface import Situation
from controller.link.health import Breaker, Breakers, EdgeReliability
from controller.link.interface import NoLink, Reply
from controller.link.keepalive import SILENCE_S
from controller.planners.fixed import FixedController
from controller.scenarios import load_setting, read_scenario
from controller.wire import Connection, Message, MessageType, Role
from models.data.pictures import generated_pictures
from models.graphs.executors import OnnxExecutor

DEADLINE_S = 5.0


@pytest.fixture(scope="module")
def executor(stream):
    return OnnxExecutor(stream.model)


@pytest.fixture(scope="module")
def pictures():
    return generated_pictures(30, np.random.default_rng(0))


def plan_of(stream, wanted):
    return next(k for k, plan in enumerate(stream.table.plans) if wanted(plan))


@pytest.fixture
def serve(stream, executor):
    made = []

    def start(controller, live_frames=16, link=None, breakers=None):
        engine = FrameEngine(
            stream.model, executor, stream.device, stream.table, controller, link or NoLink(),
            EngineArgs(DEADLINE_S, always_rescue=True),
        )  # fmt: skip
        engine.admission.breakers = breakers
        service = FrameService(engine, live_frames)
        service.start()
        made.append(service)
        return service

    yield start
    for service in made:
        service.close()


def local(stream):
    return FixedController("local", plan_of(stream, lambda p: p.is_local))


def test_every_frame_gets_its_own_answer_once(stream, executor, pictures, serve):
    service, answers = serve(local(stream), live_frames=100), queue.Queue()
    exit_ = stream.table.plans[service.engine.controller.plan].exit
    whole = executor.run(
        exit_, 0, len(stream.spec.branches[exit_]), stream.model.normalise(pictures)
    ).argmax(axis=1)
    for k, picture in enumerate(pictures):
        service.submit(picture, lambda record, k=k: answers.put((k, record)))
    found = dict(answers.get(timeout=30) for _ in pictures)
    assert sorted(found) == list(range(30))
    assert [found[k].label for k in range(30)] == whole.tolist()
    assert all(r.where == "device" and r.exit == exit_ for r in found.values())
    assert service.drain(5.0)
    assert answers.empty()
    assert service.counts.answered == 30


def test_more_than_the_limit_is_refused_and_counted(stream, pictures, serve):
    service, answers = serve(local(stream), live_frames=2), queue.Queue()
    block = queue.Queue()
    service.engine.post(lambda: block.get(timeout=30))  # the engine does nothing meanwhile
    for _ in range(2):
        service.submit(pictures[0], answers.put)
    with pytest.raises(BusyError, match="2 frames are under way, expected fewer than 2"):
        service.submit(pictures[0], answers.put)
    block.put(None)
    assert [answers.get(timeout=30).latency_s is not None for _ in range(2)] == [True, True]
    assert (service.counts.frames, service.counts.refused) == (2, 1)
    assert service.drain(5.0)
    with pytest.raises(BusyError, match="stopping"):
        service.submit(pictures[0], answers.put)


def test_an_engine_that_hangs_is_not_alive(stream, serve):
    service, block = serve(local(stream)), queue.Queue()
    service._hang_s = 0.3
    assert service.alive
    service.engine.post(lambda: block.get(timeout=30))
    end = time.monotonic() + 10
    while service.alive:
        assert time.monotonic() < end
        time.sleep(0.01)
    block.put(None)
    while not service.alive:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_model_is_ready_while_its_frames_are_answered(stream, pictures, serve):
    service = serve(local(stream))
    served = ServedModel(service, LimitSettings(), "0", stream.model.card.classes)
    asked = InferRequest(pictures[:2])
    arrival_s = served.now_s()
    assert len(asyncio.run(served.answers(asked, arrival_s))) == 2
    with pytest.raises(TooLateError, match="own deadline was over"):
        asyncio.run(served.answers(asked, arrival_s, arrival_s))
    with pytest.raises(TooLateError, match="no answer in time"):
        asyncio.run(served.answers(asked, served.now_s(), served.now_s() + 1e-5))
    assert served.ready
    served.stopping = True
    assert not served.ready
    served.stopping = False
    assert served.ready
    now, go_on = [0.0], threading.Event()
    served.work = WorkPool(lambda: 1, threads=0, clock=lambda: now[0])

    async def hang():
        begun = threading.Event()
        work = asyncio.create_task(served.work.run(lambda: begun.set() or go_on.wait(30), 1))
        await asyncio.to_thread(begun.wait, 30)
        now[0] += 60.0
        assert not served.ready
        go_on.set()
        await work

    asyncio.run(hang())
    assert served.ready
    service.close()
    assert not served.ready


def test_an_own_answer_that_is_sure_enough_ends_a_frame_at_once(stream, pictures, serve):
    """An edge was wanted and none is there; exit 1 is sure enough long before the deadline."""
    hedge = plan_of(stream, lambda p: p.hops and p.hops[0].start > 0)
    service, answers = serve(FixedController("x", hedge)), queue.Queue()
    service.submit(pictures[0], answers.put, threshold=1e-9)
    record = answers.get(timeout=30)
    assert record.where == "device"
    assert record.latency_s < DEADLINE_S / 2


def test_a_frame_s_own_deadline_is_kept_and_another_controller_decides(stream, pictures, serve):
    asked = []

    class Other(FixedController):
        def decide(self, situation):
            asked.append(situation.deadline_s)
            return self.plan

    fast = local(stream)
    both = AnyDeadline(fast, Other("other", fast.plan), DEADLINE_S)
    service, answers = serve(both), queue.Queue()
    for deadline_s in (None, 1.05 * DEADLINE_S, 2.0):
        service.submit(pictures[0], answers.put, deadline_s=deadline_s)
        assert answers.get(timeout=30).latency_s is not None
    assert asked == [2.0]
    service.submit(pictures[0], answers.put, deadline_s=1e-6)
    late = answers.get(timeout=30)
    assert (late.latency_s, late.exit, late.where) == (None, None, None)
    assert service.counts.late == 1


def test_a_link_that_gives_nothing_is_left_alone_for_a_while(stream, pictures, serve):
    remote = plan_of(stream, lambda p: p.hops and p.hops[0].start == 0)
    now = [100.0]
    breaker = Breakers(random.Random(0), lambda: Breaker(failures=2, first_s=1e6))
    service, answers = serve(FixedController("x", remote), breakers=breaker), queue.Queue()
    plans = []
    for _ in range(4):
        service.submit(pictures[0], answers.put)
        record = answers.get(timeout=30)
        assert record.where == "device"
        plans.append(record.plan)
    assert plans[:2] == [remote, remote]
    assert all(stream.table.local[k] for k in plans[2:])
    assert breaker.open
    assert now == [100.0]


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


def test_a_plan_whose_own_answer_would_be_late_gives_way_to_one_that_keeps_time(executor):
    """The camera network behind a backlog: a cut deep in the network is no way to ask the link."""
    setting = load_setting(read_scenario("lte-mobilenet"))
    table, deadline_s = setting.table, setting.scenario.frames.deadline_s
    engine = FrameEngine(
        setting.model, OnnxExecutor(setting.model), setting.device, table,
        FixedController("x", 0), NoLink(), EngineArgs(deadline_s, always_rescue=True),
    )  # fmt: skip
    try:
        deep = next(
            k for k, p in enumerate(table.plans)
            if p.hops and not p.gates and p.hops[0].start > 4 and table.wait_exit[k, 0] >= 0
        )  # fmt: skip
        own_s = float(table.prefix_s[deep] + table.wait_s[deep, 0])

        def kept(backlog_s):
            situation = Situation(0.0, 0, deadline_s, backlog_s, 0, 0.03)
            return engine.admission.keeping_time(deep, situation)

        assert kept(0.0) == deep
        assert kept(deadline_s - own_s - 0.006) == deep
        light = table.plans[kept(deadline_s - own_s - 0.004)]
        assert light.start == 0
        assert not light.is_local
        assert table.plans[kept(0.9 * deadline_s)].is_local
        engine.admission.always_rescue = False
        assert kept(0.9 * deadline_s) == deep, "the simulation's engine does as it is told"
    finally:
        engine.close()


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
        for _ in range(3):
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
        answered(second)
        assert sent().reservation is not None

        # the same where the edge refuses, at once; and where it has not been heard of for long
        at(deadline_s)
        for _ in range(3):
            answered(sent())
        first, second = sent(), sent()
        assert second.reservation is None
        engine.on_reply(Reply(first.request, now[0], error="no time"))
        at(0.0)
        assert second.reservation is not None
        at(deadline_s)
        for _ in range(3):
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
        if not p.is_local and not p.gates and table.wait_exit[k, 0] >= 0
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


def test_another_controller_takes_over_from_the_next_frame(stream, pictures, serve):
    service, answers = serve(local(stream)), queue.Queue()
    other = plan_of(stream, lambda p: p.is_local and p.exit == 1)
    service.replace_controller(FixedController("other", other))
    service.submit(pictures[0], answers.put)
    assert answers.get(timeout=30).plan == other


def test_where_a_plan_can_no_longer_be_done_the_first_exit_answers(stream, executor, pictures):
    """The CPU is busy for 30 ms of what the deepest local plan and 20 ms more would take."""
    now, finish, begun, answers = [100.0], threading.Event(), threading.Event(), queue.Queue()
    table = stream.table
    deep = max((k for k in range(len(table)) if table.local[k]), key=lambda k: table.prefix_s[k])
    assert table.prefix_s[deep] > 0.06
    engine = FrameEngine(
        stream.model, executor, stream.device, stream.table, FixedController("x", deep), NoLink(),
        EngineArgs(float(table.prefix_s[deep]) + 0.02, always_rescue=True), clock=lambda: now[0],
    )  # fmt: skip
    service = FrameService(engine, 4)
    service.start()

    def busy():
        begun.set()
        assert finish.wait(30)

    engine._cpu.submit(CpuJob(busy, lambda done: None, 0.03, 0.0, 1e9, lambda: True))
    assert begun.wait(30)
    service.submit(pictures[0], answers.put)
    heard = threading.Event()
    engine.post(heard.set)
    assert heard.wait(30)
    now[0] += 0.03
    finish.set()
    record = answers.get(timeout=30)
    service.close()
    assert (record.exit, record.where) == (0, "device")
    assert record.latency_s == pytest.approx(0.03)


def test_decisions_go_by_the_round_trip_that_was_measured(stream, executor, pictures):
    seen, answers, link = [], queue.Queue(), NoLink()

    class Listens(FixedController):
        def decide(self, situation):
            seen.append(situation.rtt_s)
            return self.plan

    engine = FrameEngine(
        stream.model, executor, stream.device, stream.table, Listens("x", local(stream).plan), link,
        EngineArgs(DEADLINE_S, rtt_s=0.03, measured_rtt=True),
    )  # fmt: skip
    service = FrameService(engine, 4)
    service.start()
    for known in (None, 0.2):
        link.rtt_s = known
        service.submit(pictures[0], answers.put)
        answers.get(timeout=30)
    service.close()
    assert seen == [0.03, 0.2]


def test_what_befalls_one_frame_or_event_does_not_end_the_engine(stream, pictures, serve):
    class Fails(FixedController):
        def decide(self, situation):
            if situation.frame == 0:
                raise ZeroDivisionError("in a controller")
            return self.plan

        def record(self, result):
            if result.frame == 1:
                raise KeyError("in another place")

    service, answers = serve(Fails("x", local(stream).plan)), queue.Queue()
    for _ in range(3):
        service.submit(pictures[0], answers.put)
    found = sorted((answers.get(timeout=30) for _ in range(3)), key=lambda r: r.frame)
    assert (found[0].latency_s, found[0].error) == (None, "ZeroDivisionError: in a controller")
    assert [r.latency_s is not None for r in found[1:]] == [True, True]
    assert service.drain(5.0)
    assert service.alive
    assert service.counts.frames == service.counts.answered + service.counts.late == 3


def test_a_computation_that_fails_is_made_good_by_the_first_exit(stream, pictures, serve):
    deep = plan_of(stream, lambda p: p.is_local and p.exit > 0)
    service, answers = serve(FixedController("x", deep)), queue.Queue()
    run = service.engine.local.executor.run

    class Breaks:
        def run(self, branch, start, stop, x):
            if branch > 0:
                raise MemoryError("no room")
            return run(branch, start, stop, x)

    service.engine.local.executor = Breaks()
    service.submit(pictures[0], answers.put)
    record = answers.get(timeout=30)
    assert (record.exit, record.where) == (0, "device")
    assert "MemoryError" in record.error
