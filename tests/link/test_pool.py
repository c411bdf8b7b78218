"""Several edges: the nearest serves, ids stay apart, a lost one is passed over."""

import pytest

from controller.link.interface import NoLink, Reply
from controller.link.pool import LinkPool

pytestmark = pytest.mark.quick


class Fake:
    def __init__(self, reported, rtt_s, connected=True):
        self.reported, self.rtt_s, self.connected = reported, rtt_s, connected
        self.last_error, self.late_replies, self.reconnects, self.backlog_bytes = None, 1, 2, 3
        self.uploads, self.cancelled, self.closed = [], [], False
        self.address, self.unanswered_s = f"edge at {rtt_s}", 0.0

    def upload(self, meta, data, until_s=0.0):
        if not self.connected:
            return None
        self.uploads.append(data)
        return len(self.uploads)

    def cancel(self, request):
        self.cancelled.append(request)
        return 5

    def wait_connected(self, timeout_s):
        return self.connected

    def close(self):
        self.closed = True


def pool(*rtts):
    links, replies = [], []

    def maker(rtt_s):
        def make(reported):
            links.append(Fake(reported, rtt_s))
            return links[-1]

        return make

    return LinkPool([maker(r) for r in rtts], replies.append), links, replies


def test_the_nearest_edge_serves_and_ids_lead_back_to_it():
    made, (far, near), replies = pool(0.05, 0.01)
    first = made.upload({}, b"a")
    assert (far.uploads, near.uploads) == ([], [b"a"])
    near.connected = False
    second = made.upload({}, b"b")
    assert far.uploads == [b"b"]
    assert first != second
    made.cancel(first)
    made.cancel(second)
    assert (near.cancelled, far.cancelled) == ([1], [1])
    far.reported(Reply(1, 0.0))
    near.reported(Reply(1, 0.0))
    assert [r.request_id for r in replies] == [second, first]
    far.connected = False
    assert made.upload({}, b"c") is None
    assert not made.connected
    assert (made.late_replies, made.reconnects) == (2, 4)
    made.close()
    assert far.closed
    assert near.closed


def test_a_little_nearer_is_not_reason_enough_to_change():
    made, (one, two), _ = pool(0.010, 0.050)
    assert made.chosen == 0
    two.rtt_s = 0.009
    assert made.chosen == 0
    two.rtt_s = 0.007
    assert made.chosen == 1
    one.rtt_s = None
    assert made.chosen == 1


def test_without_an_edge_nothing_is_sent():
    link = NoLink()
    assert link.upload({}, b"a") is None
    assert link.cancel(1) is None
    assert not link.wait_connected(0.0)
    link.close()


def test_an_edge_that_falls_silent_is_no_longer_the_nearest():
    """Its last round trip was the shortest, but it has not answered since."""
    made, (near, far), _ = pool(0.01, 0.05)
    assert made.address == near.address
    near.unanswered_s = 0.02
    assert made.address == near.address
    near.unanswered_s = 1.2
    assert made.address == far.address
    near.unanswered_s = 0.0
    assert made.address == near.address
