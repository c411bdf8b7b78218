"""The engine as a service: one answer a frame, bounds, other deadlines, a dead link."""

import asyncio
import queue
import random
import threading
import time

import numpy as np
import pytest

from controller.daemon.configuration.settings import LimitSettings
from controller.daemon.inference.open_inference import InferRequest
from controller.daemon.inference.served import ReplyMargin, ServedModel, TooLateError
from controller.daemon.inference.working import WorkPool
from controller.daemon.live_controllers import AnyDeadline
from controller.daemon.service import BusyError, FrameService
from controller.device.cpu import CpuJob
from controller.device.engine import FrameEngine
from controller.device.frame import EngineArgs
from controller.health import Breaker, Breakers
from controller.link.interface import NoLink
from controller.planners.fixed import FixedController
from models.data.pictures import generated_pictures
from models.executors import OnnxExecutor

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


def test_where_answers_are_slow_to_be_written_the_engine_has_less_time():
    margin = ReplyMargin()
    assert margin.engine_s(0.1) == pytest.approx(0.097)
    assert margin.engine_s(0.004) == pytest.approx(0.002), "half of a short one"
    margin.learn(0.004)
    assert margin.engine_s(0.1) == pytest.approx(0.093)
    margin.learn(0.5)
    assert margin.engine_s(0.1) == pytest.approx(0.092), "not much: it would be another deadline"
    for _ in range(32):
        margin.learn(0.001)
    assert margin.engine_s(0.1) == pytest.approx(0.096)


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
