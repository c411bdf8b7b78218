"""The edge's computing: batches by deadline, refusals, failures, what is made ready meanwhile.

`run` is called by the test itself, with all that there is to do given to it before; it ends when
the last of what is waited for has come.
"""

import math

import numpy as np
import pytest

from controller.edge.arrivals import Arrival, Timing
from controller.edge.computing import Computing, Job
from controller.edge.scheduler import Scheduler, SchedulerArgs
from controller.edge.served import ServedModels
from models.executors import OnnxExecutor

pytestmark = pytest.mark.quick

EXIT, START, STOP = 1, 2, 4


class Outcomes:
    """Keeps what became of jobs, and ends the computing after the last that is waited for."""

    def __init__(self):
        self.answers, self.refusals, self.failures, self.unready = [], [], [], []
        self.computing, self.awaited = None, 0

    def _heard(self, count=1):
        self.awaited -= count
        if self.awaited <= 0:
            self.computing.close()

    def computed(self, answers):
        self.answers += answers
        self._heard(len(answers))

    def refused(self, job, reason, queue_s=0.0, failed=False):
        self.refusals.append((job.arrival.request_id, reason, queue_s))
        self._heard()

    def failed(self, job, error):
        self.failures.append((job.arrival.request_id, str(error)))
        self._heard()

    def unprepared(self, interval, error):
        self.unready.append((interval, str(error)))
        self._heard()


class Watched(OnnxExecutor):
    """Takes down what it runs; `broken` runs raise."""

    def __init__(self, model):
        super().__init__(model)
        self.ran, self.broken = [], 0

    def run(self, branch, start, stop, x):
        self.ran.append(((branch, start, stop), len(x)))
        if self.broken:
            self.broken -= 1
            raise MemoryError("no room")
        return super().run(branch, start, stop, x)


class Edge:
    """`Computing` with real models, a scheduler and a clock that stands still."""

    def __init__(self, stream, most_intervals=8, batch=4, most_bytes=math.inf):
        self.model, self.executor = stream.model, Watched(stream.model)
        self.now_s, self.outcomes, models = 10.0, Outcomes(), ServedModels()
        models.add(stream.model, self.executor)
        scheduler = Scheduler(SchedulerArgs(batch=batch))
        self.computing = Computing(
            models,
            scheduler,
            self.outcomes,
            lambda: self.now_s,
            lambda: False,
            most_intervals,
            most_bytes,
        )
        self.outcomes.computing = self.computing
        rng = np.random.default_rng(3)
        self.shape = stream.spec.shapes[EXIT][START]
        self.tensors = rng.normal(size=(16, *self.shape)).astype(np.float32)

    def interval(self, start=START, stop=STOP):
        return self.model.digest, EXIT, start, stop

    def job(self, number, until_s=math.inf, peer="cam", data=None, last_s=9.5):
        sent = self.tensors[number].astype("<f4").tobytes() if data is None else data
        timing = Timing(9.0, last_s, until_s)
        return Job(peer, Arrival(number, {"shape": list(self.shape)}, sent, timing), "float32")

    def offer(self, job, interval=None):
        return self.computing.offer(interval or self.interval(), job)

    def run(self, awaited):
        self.outcomes.awaited = awaited
        self.computing.run()
        return self.outcomes


@pytest.fixture
def edge(stream):
    return Edge(stream)


def test_alike_requests_are_one_batch_and_each_gets_its_own_answer(edge):
    heard, traced = [], []
    edge.computing.on_batch = lambda size, seconds: heard.append((size, seconds))
    edge.computing.on_answer = lambda arrival, *rest: traced.append((arrival.request_id, *rest))
    jobs = [edge.job(k) for k in range(3)]
    assert [edge.offer(job) for job in jobs] == [None] * 3
    assert len(edge.computing) == 3
    found = edge.run(3)
    assert edge.executor.ran == [((EXIT, START, STOP), 3)]
    assert [answer.job for answer in found.answers] == jobs
    for answer, job in zip(found.answers, jobs, strict=True):
        alone = OnnxExecutor(edge.model).run(
            EXIT, START, STOP, edge.tensors[[job.arrival.request_id]]
        )
        got = np.frombuffer(answer.data, "<f4").reshape(alone.shape)
        np.testing.assert_allclose(got, alone, rtol=1e-4, atol=1e-5)
        assert answer.meta["queue_s"] == 0.5
        assert answer.meta["compute_s"] == 0.0
        assert answer.meta["receive_s"] == 0.5
    assert (edge.computing.served, edge.computing.batches, len(edge.computing)) == (3, 1, 0)
    assert heard == [(3, 0.0)]
    assert traced == [(k, 10.0, 10.0, 3) for k in range(3)]


def test_the_earliest_deadline_is_first_and_other_layers_are_another_batch(edge):
    edge.offer(edge.job(0, until_s=30.0))
    edge.offer(edge.job(1, until_s=20.0), edge.interval(START, STOP + 1))
    edge.offer(edge.job(2, until_s=25.0))
    found = edge.run(3)
    assert [a.job.arrival.request_id for a in found.answers] == [1, 2, 0]
    assert edge.executor.ran == [((EXIT, START, STOP + 1), 1), ((EXIT, START, STOP), 2)]


def test_no_batch_is_greater_than_the_most(stream):
    edge = Edge(stream, batch=2)
    for k in range(5):
        edge.offer(edge.job(k))
    edge.run(5)
    assert [size for _, size in edge.executor.ran] == [2, 2, 1]


def test_what_is_late_before_the_edge_is_free_is_refused_and_not_computed(edge):
    edge.offer(edge.job(0, until_s=10.5, last_s=10.0))
    edge.offer(edge.job(1, until_s=20.0))
    edge.now_s = 12.0
    found = edge.run(2)
    assert found.refusals == [(0, "its time was over 1.500 s before the edge was free", 2.0)]
    assert [a.job.arrival.request_id for a in found.answers] == [1]
    assert len(edge.executor.ran) == 1


def test_a_tensor_that_cannot_be_read_is_refused_and_its_batch_goes_on(edge):
    edge.offer(edge.job(0))
    edge.offer(edge.job(1, data=b"short"))
    edge.offer(edge.job(2))
    found = edge.run(3)
    ((number, reason, _),) = found.refusals
    assert (number, "found 5 bytes" in reason) == (1, True)
    assert [a.job.arrival.request_id for a in found.answers] == [0, 2]
    assert edge.executor.ran == [((EXIT, START, STOP), 2)]


def test_a_batch_of_nothing_but_unreadable_tensors_is_not_run(edge):
    edge.offer(edge.job(0, data=b""))
    assert len(edge.run(1).refusals) == 1
    assert edge.executor.ran == []


def test_a_run_that_fails_ends_its_requests_and_not_the_thread(edge):
    edge.executor.broken = 1
    edge.offer(edge.job(0, until_s=20.0), edge.interval(START, STOP + 1))
    edge.offer(edge.job(1, until_s=30.0))
    found = edge.run(2)
    assert found.failures == [(0, "no room")]
    assert [a.job.arrival.request_id for a in found.answers] == [1]
    assert (edge.computing.served, edge.computing.batches) == (1, 1)


def test_what_a_lost_device_asked_for_is_taken_out(edge):
    edge.offer(edge.job(0, peer="lost"))
    edge.offer(edge.job(1, peer="there"))
    edge.offer(edge.job(2, peer="lost"))
    assert edge.computing.remove(lambda job: job.peer == "lost") == 2
    assert edge.computing.remove(lambda job: job.peer == "lost") == 0
    assert [a.job.arrival.request_id for a in edge.run(1).answers] == [1]


def test_announced_intervals_are_made_ready_once_and_only_when_nothing_waits(stream):
    edge = Edge(stream, most_intervals=2)
    first, second, third = (edge.interval(START, STOP + k) for k in (1, 2, 3))
    edge.computing.announce([first, first, second, third])
    edge.computing.announce([first])
    edge.offer(edge.job(0))
    edge.run(1)
    assert edge.executor.ran == [((EXIT, START, STOP), 1)]
    # goes on after the answer, until it is closed
    again = Edge(stream, most_intervals=2)
    again.computing.announce([first, first, second, third])
    again.executor.broken = 2
    found = again.run(2)
    assert found.unready == [(first, "no room"), (second, "no room")]
    assert [what for what, _ in again.executor.ran] == [first[1:], second[1:]]


def test_no_more_is_made_ready_than_weights_may_be_held(stream):
    spec = stream.spec
    size = spec.interval_bytes(EXIT, START, STOP)
    edge = Edge(stream, most_bytes=2 * size)
    whole = edge.interval(0, len(spec.branches[EXIT]))
    assert spec.interval_bytes(*whole[1:]) > 2 * size
    first = edge.interval(START, STOP)
    edge.computing.announce([whole, first, whole])
    edge.executor.broken = 1
    assert edge.run(1).unready == [(first, "no room")], "of the larger one nothing is begun"


def test_each_model_has_bounds_of_its_own(stream):
    edge = Edge(stream, most_intervals=1)
    first, models = edge.interval(START, STOP), edge.computing._models
    models._models["other"] = models[first[0]]
    others = [("other", *first[1:]), ("other", EXIT, START, STOP - 1)]
    edge.computing.announce([first, *others])
    edge.executor.broken = 2
    assert edge.run(2).unready == [(first, "no room"), (others[0], "no room")]


def test_a_call_is_made_by_the_thread_before_anything_else(edge):
    calls = []
    edge.computing.beat(lambda: calls.append(len(edge.executor.ran)))
    edge.computing.beat(lambda: calls.append(len(edge.executor.ran)))
    edge.offer(edge.job(0))
    edge.run(1)
    assert calls == [0, 0]


def test_more_than_may_wait_is_refused_with_the_reason(edge):
    edge.computing._scheduler.args = SchedulerArgs(waiting=1)
    assert edge.offer(edge.job(0)) is None
    assert edge.offer(edge.job(1)) == "1 requests are waiting"
    assert edge.offer(edge.job(2, until_s=9.0)) == "1 requests are waiting"


def test_a_closed_one_computes_nothing_more(edge):
    edge.offer(edge.job(0))
    edge.computing.close()
    edge.computing.run()
    assert edge.executor.ran == []
    assert len(edge.computing) == 1
