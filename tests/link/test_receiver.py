"""The receiving half of a link without a socket: the wire's two ends are joined in memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.link.estimate import LinkEstimate
from controller.link.keepalive import KeepAlive
from controller.link.receiver import IDLE_MESSAGES, Receiver
from controller.link.uploads import Uploads
from controller.wire import Connection, Message, MessageType, RemoteProtocolError, Role

T = MessageType


class Ends:
    """A receiver, and the edge's end of its connection. The clock stands unless it is moved."""

    def __init__(self, reply_bytes=1 << 20):
        self.now, self.replies, self.reports = 10.0, [], []
        self.uploads, self.estimate = Uploads(), LinkEstimate()
        self.keepalive = KeepAlive(self.now)
        self.receiver = Receiver(
            self.uploads, self.estimate, self.keepalive, lambda: self.now, self.replies.append,
            self.reports.append, reply_bytes,
        )  # fmt: skip
        device, self.edge = Connection(Role.DEVICE), Connection(Role.EDGE)
        self.device = device
        self.edge.receive(device.send(Message(T.HELLO, meta={"model": "m"})))
        device.receive(self.edge.send(Message(T.WELCOME, meta={"models": ["m"]})))
        self.receiver.begin(device)
        self.keepalive.begin(self.now)
        self.uploads.open()

    def asked(self, data=bytes(5000)):
        """A request that has gone out whole."""
        job = self.uploads.add({}, data, self.now, 1e9)
        self.edge.receive(self.device.send(Message(T.REQUEST, job.request_id, meta=job.meta)))
        job.begun_s, job.sent_bytes = self.now, len(data)
        return job.request_id

    def say(self, *messages):
        self.receiver.received(b"".join(self.edge.send(m) for m in messages))


def seen(received=5000, **more):
    return {"bytes": 0, "received_bytes": received, "first_read_bytes": 1000, **more}


def test_an_answer_comes_with_what_it_says_of_the_link():
    ends = Ends()
    request = ends.asked()
    ends.now += 0.5
    ends.say(Message(T.REPLY, request, meta=seen(receive_s=0.4, **{"class": 3})))
    (reply,) = ends.replies
    assert (reply.request_id, reply.at_s, reply.meta["class"]) == (request, 10.5, 3)
    assert reply.measurement.payload_bytes == 4000
    assert ends.estimate.rate_bps == reply.measurement.rate_bps == 8 * 4000 / 0.4
    assert request not in ends.uploads
    ends.say(Message(T.REPLY, request, meta=seen()))
    assert len(ends.replies) == 1, "one answer a request"
    assert ends.receiver.late_replies == 1


@given(st.binary(min_size=1, max_size=4000), st.lists(st.integers(1, 700), min_size=1, max_size=9))
def test_a_tensor_is_whole_however_its_bytes_are_cut(tensor, cuts):
    ends = Ends()
    request = ends.asked()
    head = Message(T.REPLY, request, meta=seen() | {"bytes": len(tensor)})
    parts = [
        Message(T.CHUNK, request, at, payload=tensor[at : at + 1000])
        for at in range(0, len(tensor), 1000)
    ]
    data, at, turn = b"".join(ends.edge.send(m) for m in (head, *parts)), 0, 0
    while at < len(data):
        size = cuts[turn % len(cuts)] + 100
        ends.receiver.received(data[at : at + size])
        at, turn = at + size, turn + 1
    (reply,) = ends.replies
    assert reply.data == tensor


def test_a_longer_tensor_than_any_that_is_waited_for_ends_the_connection():
    ends = Ends(reply_bytes=100)
    request = ends.asked()
    with pytest.raises(RemoteProtocolError, match="bytes"):
        ends.say(Message(T.REPLY, request, meta=seen() | {"bytes": 101}))


def test_figures_that_make_no_sense_are_reported_and_the_answer_is_kept():
    ends = Ends()
    request = ends.asked()
    ends.say(Message(T.REPLY, request, meta=seen(receive_s=1e9, **{"class": 3})))
    (reply,) = ends.replies
    assert reply.measurement is None
    assert reply.meta["class"] == 3
    assert ends.estimate.rate_bps is None
    (line,) = ends.reports
    assert line.startswith("the edge's receive times: receive_s: found 1e+09, expected 0 to ")


def test_refused_cancelled_and_lost_requests_are_distinguished():
    ends = Ends()
    refused, cancelled, lost = ends.asked(), ends.asked(), ends.asked()
    ends.say(Message(T.REFUSE, refused, meta={"reason": "no \x1b[2Jtime"} | seen(receive_s=0.0)))
    assert ends.uploads.cancel(cancelled) == 5000
    ends.say(Message(T.CANCELLED, cancelled, meta=seen(2000)))
    ends.receiver.lost("connection lost")
    first, second, third = ends.replies
    assert (first.request_id, first.cancelled, first.lost) == (refused, False, False)
    assert "\x1b" not in first.error
    assert first.measurement is not None
    assert (second.request_id, second.cancelled, second.error) == (cancelled, True, None)
    assert not second.measurement.complete
    assert (third.request_id, third.error, third.lost) == (lost, "connection lost", True)


def test_a_ping_s_answer_is_the_round_trip_and_an_unasked_one_costs():
    ends = Ends()
    number = ends.keepalive.ask(ends.now)
    ends.keepalive.sent(number, ends.now)
    ends.now += 0.07
    ends.say(Message(T.PONG, number))
    assert ends.estimate.rtt_s == pytest.approx(0.07)
    for _ in range(IDLE_MESSAGES):
        ends.say(Message(T.PONG, number))
    with pytest.raises(RemoteProtocolError, match="messages that no answer comes of"):
        ends.say(Message(T.PONG, number))
    assert ends.estimate.rtt_s == pytest.approx(0.07)


def test_who_is_hung_up_on_owes_still_on_the_next_connection():
    ends = Ends()
    for _ in range(IDLE_MESSAGES):
        ends.say(Message(T.PONG, 1 << 63))
    again, edge = Connection(Role.DEVICE), Connection(Role.EDGE)
    edge.receive(again.send(Message(T.HELLO, meta={"model": "m"})))
    again.receive(edge.send(Message(T.WELCOME, meta={"models": ["m"]})))
    ends.receiver.begin(again)
    with pytest.raises(RemoteProtocolError, match="messages that no answer comes of"):
        ends.receiver.received(edge.send(Message(T.PONG, 1 << 63)))


def test_without_a_connection_no_request_is_taken_in():
    uploads = Uploads()
    assert uploads.add({}, b"x", 0.0, 1.0) is None
    uploads.open()
    job = uploads.add({}, b"xyz", 0.0, 1.0)
    assert job.meta == {"bytes": 3}
    job.sent_bytes = 2
    assert uploads.wanted_bytes() == (3, 1)
    assert uploads.sent_bytes(job.request_id) == uploads.cancel(job.request_id) == 2
    assert uploads.wanted_bytes() == (0, 0), "a cancelled one is not wanted"
    uploads.shut()
    assert uploads.add({}, b"x", 0.0, 1.0) is None
    assert uploads.pop_all() == [job.request_id]
    assert uploads.pop(job.request_id) is None
    assert uploads.cancel(job.request_id) is None
