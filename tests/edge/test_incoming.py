"""Requests that are coming in on one connection: when they came, what they cost, how they end."""

import math

import pytest

from controller.edge.incoming import OWED_REQUESTS, Incoming
from controller.edge.limits import EdgeLimits
from controller.link.budget import chunk_cost, idle_cost
from controller.wire import Message, MessageType, RemoteProtocolError

pytestmark = pytest.mark.quick

LIMITS = EdgeLimits(requests=4, tensor_bytes=100_000, inbox_bytes=200_000, longest_s=10.0)
BYTES = 8_000


def request(number, size=BYTES, **more):
    return Message(MessageType.REQUEST, number, meta={"bytes": size, **more})


def chunk(number, size, offset=0):
    return Message(MessageType.CHUNK, number, offset, payload=bytes(size))


@pytest.fixture
def incoming():
    return Incoming(LIMITS)


def test_a_request_is_given_once_it_is_whole_with_when_its_bytes_came(incoming):
    assert incoming.begin(request(7, remaining_s=2.0, exit=3), 100.0) is None
    incoming.partial(7, 1_000, 100.0)
    incoming.partial(7, 2_500, 100.25)
    assert incoming.add(chunk(7, 5_000), 100.5) is None
    found = incoming.add(chunk(7, 3_000, offset=5_000), 101.0)
    assert (found.request_id, found.meta["exit"], found.data) == (7, 3, bytes(BYTES))
    timing = found.timing
    assert (timing.first_s, timing.last_s, timing.until_s) == (100.0, 101.0, 102.0)
    assert (timing.first_read_bytes, timing.received_bytes) == (1_000, BYTES)
    assert sorted(timing.gaps_s) == [0.25, 0.25, 0.5]
    assert incoming.timings == {}


def test_a_request_without_bytes_is_whole_at_once(incoming):
    found = incoming.begin(request(1, 0), 5.0)
    assert (found.data, found.timing.last_s) == (b"", 5.0)
    assert incoming.expires_s == math.inf


@pytest.mark.parametrize(
    ("said", "until_s"),
    [({"remaining_s": 3.0}, 53.0), ({"remaining_s": 1e9}, 60.0), ({}, 60.0),
     ({"remaining_s": -1.0}, 60.0)],
)  # fmt: skip
def test_nobody_waits_longer_than_a_request_says_or_than_the_limit(incoming, said, until_s):
    incoming.begin(request(1, **said), 50.0)
    assert incoming.timings[1].until_s == until_s
    assert incoming.expires_s == until_s


def test_a_cancelled_request_says_how_much_of_it_had_come_and_only_once(incoming):
    incoming.begin(request(3), 0.0)
    incoming.add(chunk(3, 4_000), 0.1)
    incoming.partial(3, 500, 0.2)
    word = incoming.cancel(3)
    assert (word.type, word.request_id) == (MessageType.CANCELLED, 3)
    assert word.meta["received_bytes"] == 4_500
    assert word.meta["receive_s"] == pytest.approx(0.2)
    assert incoming.cancel(3) is None
    assert incoming.cancel(99) is None
    # its number is free again
    assert incoming.begin(request(3), 1.0) is None


def test_what_cannot_be_in_time_any_more_is_freed_and_nothing_else(incoming):
    incoming.begin(request(1, remaining_s=1.0), 0.0)
    incoming.begin(request(2, remaining_s=2.0), 0.0)
    assert incoming.expires_s == 1.0
    assert incoming.expire(0.99) == []
    (word,) = incoming.expire(1.0)
    assert (word.type, word.request_id) == (MessageType.CANCELLED, 1)
    assert list(incoming.timings) == [2]
    assert incoming.expires_s == 2.0
    # bytes that were under way are taken for nobody
    assert incoming.add(chunk(1, 1_000), 1.1) is None


def test_expiring_makes_room_for_others(incoming):
    for number in range(LIMITS.requests):
        incoming.begin(request(number, remaining_s=1.0), 0.0)
    with pytest.raises(RemoteProtocolError, match="found 5, expected at most 4"):
        incoming.begin(request(50), 0.5)
    assert len(incoming.expire(2.0)) >= LIMITS.requests
    assert incoming.begin(request(51), 2.0) is None


def test_a_chunk_that_somebody_waits_for_costs_little_and_is_charged_to_its_request(incoming):
    incoming.begin(request(1), 0.0)
    charged = incoming.timings[1].charged
    small = chunk(1, 100)
    assert incoming.cost(small) == chunk_cost(small) > 0.0
    assert incoming.timings[1].charged == charged + chunk_cost(small)
    assert incoming.cost(chunk(1, 16_000)) == 0.0
    assert incoming.cost(Message(MessageType.PING, 1)) == idle_cost(Message(MessageType.PING, 1))


def test_bytes_under_way_when_a_request_ended_cost_as_before_and_no_more_of_them(incoming):
    incoming.begin(request(1), 0.0)
    incoming.add(chunk(1, 3_000), 0.1)
    incoming.cancel(1)
    late = chunk(1, 4_096)
    assert incoming.cost(late) == chunk_cost(late)
    # 904 of the 8,000 are still owed
    assert incoming.cost(late) == idle_cost(late)
    rest = chunk(1, 904)
    assert incoming.cost(rest) == chunk_cost(rest)
    assert incoming.cost(rest) == idle_cost(rest)
    unknown = chunk(2, 904)
    assert incoming.cost(unknown) == idle_cost(unknown)


def test_of_many_requests_that_ended_the_oldest_is_forgotten(incoming):
    for number in range(OWED_REQUESTS + 1):
        incoming.begin(request(number), 0.0)
        incoming.cancel(number)
    late = chunk(0, 1_000)
    assert incoming.cost(late) == idle_cost(late)
    late = chunk(1, 1_000)
    assert incoming.cost(late) == chunk_cost(late)
