"""What the device computes itself, in which order, and what it drops."""

import itertools
import queue
import random

import numpy as np
import pytest

from controller.admission import Admission
from controller.device.cpu import CpuJob, DeviceCpu
from controller.device.frame import Event, Frame
from controller.device.local_answers import LocalAnswers
from controller.plans import passed_exits

pytestmark = pytest.mark.quick

NOW, DEADLINE_S = 100.0, 5.0


class Recorder:
    """An executor that computes zeros and takes down the intervals that it ran."""

    def __init__(self, spec):
        self.spec, self.ran = spec, []

    def run(self, branch, start, stop, x):
        self.ran.append((branch, start, stop))
        return np.zeros((len(x), *self.spec.shapes[branch][stop]), dtype=np.float32)

    def encode(self, codec, branch, cut, x):
        from models.codecs import Encoded

        return Encoded(codec.encode(), {"cut": cut})


@pytest.fixture
def local(stream):
    """Local answers on a CPU of their own; `events` are what they report."""
    events = queue.Queue()
    cpu = DeviceCpu(lambda: NOW)
    first = len(stream.spec.branches[0])
    rules = Admission(stream.table, DEADLINE_S, stream.device.interval_p95_s(0, 0, first))
    made = LocalAnswers(
        stream.model, Recorder(stream.spec), stream.device, stream.table, cpu, rules,
        lambda: NOW, events.put,
    )  # fmt: skip
    made.events = events
    yield made
    cpu.close()


def frame(stream, wanted, arrival_s=NOW):
    index, plan = next((k, p) for k, p in enumerate(stream.table.plans) if wanted(p))
    picture = np.zeros((32, 32, 3), dtype=np.uint8)
    return Frame(0, index, plan, arrival_s, picture, DEADLINE_S, arrival_s + DEADLINE_S)


def ended(local) -> Event:
    return local.events.get(timeout=10)


def test_a_local_plan_is_run_whole_and_its_logits_are_the_result(stream, local):
    one = frame(stream, lambda p: p.is_local and not p.gates)
    assert local.has_prefix(one)
    local.start(one)
    event = ended(local)
    assert (event.kind, event.frame) == ("prefix", one)
    assert local.executor.ran == [(one.plan.exit, 0, len(stream.spec.branches[one.plan.exit]))]
    prefix = event.value.result
    assert prefix.encoded is None
    answer = local.answer(one.plan.exit, prefix.logits)
    assert (answer.label, answer.confidence) == (0, pytest.approx(1 / stream.spec.classes))


def test_the_prefix_keeps_the_last_passed_exit_s_tensor_and_encodes_that_of_the_cut(stream, local):
    spec = stream.spec
    one = frame(
        stream,
        lambda p: p.hops and p.hops[0].start > 0 and not p.gates and passed_exits(spec, p),
    )
    local.start(one)
    prefix, plan = ended(local).value.result, one.plan
    point = spec.exits[passed_exits(spec, plan)[-1]].after
    assert one.tensors[point].shape[1:] == tuple(spec.shapes[plan.exit][point])
    assert prefix.encoded.meta == {"cut": plan.hops[0].start}
    done = [(start, stop) for _, start, stop in local.executor.ran]
    assert done[0][0] == 0
    assert done[-1][1] == plan.hops[0].start
    assert all(a[1] == b[0] for a, b in itertools.pairwise(done)), "no layer twice"


def test_while_the_edge_is_awaited_the_passed_exit_answers_and_time_was_kept_for_it(stream, local):
    one = frame(
        stream,
        lambda p: p.hops and p.hops[0].start > 0 and not p.gates and passed_exits(stream.spec, p),
    )
    local.start(one)
    held = one.reservation
    assert held is not None
    assert held.due_s == one.limit_s
    assert ended(local).kind == "prefix"
    assert local.answer_meanwhile(one)
    local.release(one)
    event = ended(local)
    passed = passed_exits(stream.spec, one.plan)[-1]
    assert (event.kind, event.exit, one.local_begun) == ("local", passed, True)
    assert local.executor.ran[-1] == (
        passed, stream.spec.exits[passed].after, len(stream.spec.branches[passed])
    )  # fmt: skip


def test_a_picture_s_rescue_is_kept_time_for_and_made_when_it_is_due(stream, local):
    one = frame(stream, lambda p: p.hops and p.hops[0].start == 0 and p.rescue)
    assert local.answer_meanwhile(one)
    first = len(stream.spec.branches[0])
    p95_s = stream.device.interval_p95_s(0, 0, first)
    margin_s = local.admission.rescue_margin_s
    assert one.rescue_at_s == pytest.approx(one.limit_s - p95_s - margin_s)
    assert one.reservation.begin_s == one.rescue_at_s
    assert not one.local_begun
    local.rescue(one)
    assert (one.local_begun, one.reservation, one.rescue_at_s) == (True, None, None)
    assert ended(local).exit == 0
    local.rescue(one)
    assert local.events.empty(), "once"


def test_no_other_frame_s_job_slips_in_between_a_prefix_and_its_rescue(stream, local):
    one = frame(stream, lambda p: p.hops and p.hops[0].start == 0 and p.rescue)
    local.start(one)
    # of a later frame: it would run into the rescue's time, and can wait
    due_s = one.limit_s + 2 * DEADLINE_S
    job = CpuJob(lambda: "later", lambda done: local.post(Event("call", None, done.result)),
                 DEADLINE_S, due_s, due_s - DEADLINE_S, lambda: True)  # fmt: skip
    local.cpu.submit(job)
    assert ended(local).kind == "prefix"
    asked = ended(local)
    assert callable(asked.value), "the rescue is asked for, and the job has not run"
    first = one.reservation
    assert local.answer_meanwhile(one)
    assert one.reservation is not first
    asked.value()
    assert one.local_begun
    assert (ended(local).kind, ended(local).value) == ("local", "later")


def test_a_bare_plan_has_no_rescue_but_where_every_frame_has_one(stream, local):
    def bare():
        return frame(stream, lambda p: p.hops and p.hops[0].start == 0 and not p.rescue)

    one = bare()
    assert local.answer_meanwhile(one)
    assert (one.rescue_at_s, one.reservation) == (None, None)
    local.admission.guard(random.Random(0))
    two = bare()
    local.answer_meanwhile(two)
    assert two.rescue_at_s is not None
    assert two.reservation is not None
    local.release(two)


def test_what_is_answered_meanwhile_is_not_computed(stream, local):
    one = frame(stream, lambda p: p.hops and p.hops[0].start == 0 and p.rescue)
    one.over = True
    local.fall_back(one)
    event = ended(local)
    assert event.value.skipped
    assert local.executor.ran == []


def test_the_last_resort_is_the_first_exit_and_only_where_it_can_be_in_time(stream, local):
    seconds = stream.device.interval_s(0, 0, len(stream.spec.branches[0]))
    late = frame(stream, lambda p: p.is_local, arrival_s=NOW - DEADLINE_S + seconds / 2)
    local.last_resort(late)
    assert not late.local_begun
    in_time = frame(stream, lambda p: p.is_local, arrival_s=NOW - DEADLINE_S + 2 * seconds)
    local.last_resort(in_time)
    assert ended(local).exit == 0
    in_time.local_pending, in_time.local_answer = 0, (1, 0.5)
    local.last_resort(in_time)
    assert local.events.empty(), "there is an answer"


def test_on_a_device_that_is_faster_than_its_profile_a_late_frame_has_its_local_answer(
    stream, local
):
    """Time stands still here: every job takes none of what the profile says."""
    seconds = stream.device.interval_s(0, 0, len(stream.spec.branches[0]))

    def late():
        return frame(stream, lambda p: p.is_local, arrival_s=NOW - DEADLINE_S + seconds / 2)

    first = late()
    local.last_resort(first)
    assert not first.local_begun
    local.learn_pace()
    last = queue.Queue()
    local.cpu.submit(CpuJob(lambda: None, last.put, 0.0, 1e9, 1e9, lambda: True))
    last.get(timeout=10)
    second = late()
    local.last_resort(second)
    assert ended(local).exit == 0
