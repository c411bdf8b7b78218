"""What the device asks of its edge and hears of it: without a socket, a thread or a clock."""

import dataclasses
import random

import numpy as np
import pytest

from artefacts import CoinferError
from controller.admission import SILENCE_MARGIN_S, Admission
from controller.device.edge_answers import EdgeAnswers
from controller.device.frame import Frame
from controller.link.interface import NoLink, Reply
from models.codecs import Encoded

pytestmark = pytest.mark.quick

DEADLINE_S, RTT_S = 0.3, 0.03


class Wire(NoLink):
    """A link that takes everything down; `handed` bytes of each upload have gone out."""

    connected = True

    def __init__(self):
        self.uploads, self.handed = [], 5

    def upload(self, meta, data, until_s=0.0):
        self.uploads.append((meta, data, until_s))
        return len(self.uploads)

    def cancel(self, request):
        return self.handed


@pytest.fixture
def edge(stream):
    first = len(stream.spec.branches[0])
    rules = Admission(stream.table, DEADLINE_S, stream.device.interval_p95_s(0, 0, first))
    rules.guard(random.Random(0))
    return EdgeAnswers(Wire(), stream.model, rules, DEADLINE_S)


def frame(stream, wanted=lambda plan: True, deadline_s=DEADLINE_S):
    index, plan = next(
        (k, p) for k, p in enumerate(stream.table.plans)
        if p.hops and p.hops[0].start == 0 and wanted(p)
    )  # fmt: skip
    picture = np.zeros((32, 32, 3), dtype=np.uint8)
    return Frame(0, index, plan, 10.0, picture, deadline_s, 10.0 + deadline_s)


def test_a_request_says_all_that_its_edge_needs(edge, stream):
    one = frame(stream)
    one.traceparent = "00-aa-bb-01"
    assert edge.send(one, Encoded(b"abc", {"low": 1.0}))
    ((meta, data, until_s),) = edge.link.uploads
    assert (data, until_s) == (b"abc", one.limit_s)
    assert meta["model"] == stream.model.digest
    assert (meta["exit"], meta["start"], meta["stop"]) == (one.plan.exit, 0, one.plan.hops[0].stop)
    assert (meta["codec"], meta["low"], meta["traceparent"]) == (
        one.plan.hops[0].codec,
        1.0,
        "00-aa-bb-01",
    )
    assert (one.request, one.bytes_sent) == (1, 3)
    assert edge.by_request == {1: one}


def test_without_a_connection_nothing_is_awaited(stream, edge):
    edge.link = NoLink()
    one = frame(stream)
    assert not edge.send(one, Encoded(b"abc", {}))
    assert (one.remote_failed, one.error) == (True, "no edge is configured")
    assert not edge.by_request


def test_an_answer_is_read_and_its_times_are_kept(stream, edge):
    one = frame(stream, lambda p: p.hops and p.hops[0].stop == len(stream.spec.branches[p.exit]))
    edge.send(one, Encoded(b"abc", {}))
    times = {"receive_s": 0.01, "queue_s": 1e9, "compute_s": -1.0}
    reply = Reply(1, 10.2, {"class": 3, "confidence": 0.5} | times)
    assert edge.heard(reply, 10.2) is one
    answer = edge.read(one, reply)
    assert (answer.label, answer.confidence) == (3, 0.5)
    assert one.stages_s == {"receive": 0.01}, "times that cannot be are left out"
    assert edge.heard(reply, 10.3) is None, "a second answer is nobody's"


@pytest.mark.parametrize(
    "meta", [{}, {"class": -1, "confidence": 0.5}, {"class": 10**6, "confidence": 0.5},
             {"class": 1, "confidence": 1.5}, {"class": 1, "confidence": float("nan")},
             {"class": "x", "confidence": 0.5}],
)  # fmt: skip
def test_what_is_no_answer_is_refused(stream, edge, meta):
    one = frame(stream, lambda p: p.hops and p.hops[0].stop == len(stream.spec.branches[p.exit]))
    with pytest.raises(CoinferError):
        edge.read(one, Reply(1, 10.2, meta))


def test_a_tensor_comes_back_in_its_shape_and_only_with_numbers(stream, edge):
    one = frame(stream)
    length = len(stream.spec.branches[one.plan.exit])
    (hop,) = one.plan.hops
    one.plan = dataclasses.replace(one.plan, hops=(dataclasses.replace(hop, stop=length - 1),))
    shape = stream.spec.shapes[one.plan.exit][length - 1]
    values = np.arange(np.prod(shape), dtype="<f4").reshape(shape)
    found = edge.read(one, Reply(1, 10.2, {}, values.tobytes()))
    np.testing.assert_array_equal(found, values[None])
    with pytest.raises(CoinferError):
        edge.read(one, Reply(1, 10.2, {}, values.tobytes()[:-4]))
    values.flat[1] = np.inf
    with pytest.raises(CoinferError, match="not finite"):
        edge.read(one, Reply(1, 10.2, {}, values.tobytes()))


def test_an_edge_that_has_not_spoken_a_round_trip_after_the_deadline_is_silent(stream, edge):
    one = frame(stream)
    edge.send(one, Encoded(b"abc", {}))
    assert not edge.take_back(one, in_vain=True, rtt_s=RTT_S)
    assert one.bytes_sent == 5
    due_s = one.limit_s + RTT_S + SILENCE_MARGIN_S
    assert edge.next_moment_s(1e9) == pytest.approx(due_s)
    assert edge.unanswered(due_s - 1e-6) == []
    assert edge.unanswered(due_s + 1e-6) == [one]
    assert edge.unanswered(1e9) == [], "once"
    assert edge.next_moment_s(20.0) == 20.0


def test_a_word_in_that_time_ends_the_wait(stream, edge):
    one = frame(stream)
    edge.send(one, Encoded(b"abc", {}))
    edge.take_back(one, in_vain=True, rtt_s=RTT_S)
    edge.forget(one)
    assert edge.heard(Reply(1, one.limit_s + 0.01, cancelled=True), one.limit_s + 0.01) is None
    assert edge.unanswered(1e9) == []


def test_where_not_a_byte_went_out_the_link_stands_still(stream, edge):
    one = frame(stream)
    edge.send(one, Encoded(b"abc", {}))
    edge.link.handed = 0
    assert edge.take_back(one, in_vain=True, rtt_s=RTT_S)
    assert not edge.take_back(one, in_vain=False, rtt_s=RTT_S), "it had less time than usual"
    assert edge.unanswered(1e9) == []


def test_refusals_speak_against_an_edge_whoever_waits(stream, edge):
    one = frame(stream)
    edge.send(one, Encoded(b"abc", {}))
    one.over = True
    for request in (1, 99):
        assert edge.heard(Reply(request, 10.1, error="no time"), 10.1) is None
    edge.admission.admit(one.plan_index, _situation(), (0,), 10.1)
    assert edge.admission.open


def _situation():
    from controller.interface import Situation

    return Situation(0.0, 0, DEADLINE_S, 0.0, 0, RTT_S)


def test_a_sample_that_no_network_takes_shuts_no_other_program_out(stream, edge):
    """A program that sends such samples is answered by nobody; the next frame may be a camera's."""
    lane = (0,)
    for number in range(1, 10):
        one = frame(stream)
        assert edge.admission.breakers.allows(lane, 10.0) == 0
        edge.send(one, Encoded(b"abc", {}))
        reply = Reply(number, 10.1, {"failed": True}, error="the edge failed (Gather)")
        assert edge.heard(reply, 10.1) is one
        assert not edge.admission.open
    edge.send(frame(stream), Encoded(b"abc", {}))
    edge.heard(Reply(10, 10.1, {"failed": True}, error="the edge failed"), 10.1)
    edge.send(frame(stream), Encoded(b"abc", {}))
    edge.heard(Reply(11, 10.1, {"failed": True}, error="the edge failed"), 10.1)
    edge.admission.breakers.allows(lane, 10.1)
    assert edge.admission.open, "an edge that fails at everything is of no use"
