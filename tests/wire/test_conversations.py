"""Two ends and a stream that may break anywhere between them: what is allowed goes through."""

from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
)

from controller.wire import (
    CHUNK_BYTES,
    Connection,
    Inbox,
    Message,
    MessageType,
    RemoteProtocolError,
    Role,
    serialise,
)
from controller.wire.connection import State
from controller.wire.messages import HEADER, VERSION

T = MessageType


class Conversation(RuleBasedStateMachine):
    """A device and an edge; bytes arrive in pieces of any size, messages in the order sent."""

    requests = Bundle("requests")

    def __init__(self):
        super().__init__()
        self.device, self.edge = Connection(Role.DEVICE), Connection(Role.EDGE)
        self.wires = {self.device: bytearray(), self.edge: bytearray()}
        self.expected = {self.device: deque(), self.edge: deque()}
        self.inbox, self.sent, self.cancelled, self.arrived = Inbox(), {}, set(), {}
        self.next_id = 1

    def say(self, who, message):
        other = self.edge if who is self.device else self.device
        self.wires[other] += who.send(message)
        self.expected[other].append(message)

    def hear(self, who, count):
        data = bytes(self.wires[who][:count])
        del self.wires[who][:count]
        for message in who.receive(data):
            wanted = self.expected[who].popleft()
            assert (message.type, message.request_id, message.offset, message.payload) == (
                wanted.type, wanted.request_id, wanted.offset, bytes(wanted.payload),
            )  # fmt: skip
            assert message.meta == wanted.meta
            if who is self.edge:
                self.at_edge(message)

    def at_edge(self, message):
        if message.type is T.HELLO:
            self.say(self.edge, Message(T.WELCOME, meta={"models": ["m"]}))
        elif message.type is T.PING:
            self.say(self.edge, Message(T.PONG, message.request_id))
        elif message.type is T.CANCEL:
            self.inbox.cancel(message.request_id)
        elif message.type in (T.REQUEST, T.CHUNK):
            take = self.inbox.begin if message.type is T.REQUEST else self.inbox.add
            whole = take(message)
            if whole is not None:
                assert whole.request_id not in self.arrived
                self.arrived[whole.request_id] = whole.data

    @initialize()
    def greet(self):
        self.say(self.device, Message(T.HELLO, meta={"model": "m", "later": {"key": [1]}}))
        self.hear(self.edge, 1 << 20)
        self.hear(self.device, 1 << 20)

    @precondition(lambda self: len(self.sent) - len(self.arrived) - len(self.cancelled) < 20)
    @rule(target=requests, data=st.binary(max_size=40))
    def request(self, data):
        number, self.next_id = self.next_id, self.next_id + 1
        self.sent[number] = [data, 0]
        self.say(self.device, Message(T.REQUEST, number, meta={"bytes": len(data)}))
        return number

    @rule(number=requests, size=st.integers(1, 25))
    def chunk(self, number, size):
        data, at = self.sent[number]
        if number not in self.cancelled and at < len(data):
            self.sent[number][1] = min(at + size, len(data))
            self.say(self.device, Message(T.CHUNK, number, at, payload=data[at : at + size]))

    @rule(number=consumes(requests))
    def cancel(self, number):
        if self.sent[number][1] < len(self.sent[number][0]):
            self.cancelled.add(number)
            self.say(self.device, Message(T.CANCEL, number))

    @rule(number=st.integers(1, 5))
    def ping(self, number):
        self.say(self.device, Message(T.PING, number))

    @rule(number=requests)
    def answer(self, number):
        self.say(self.edge, Message(T.REPLY, number, meta={"bytes": 0, "class": 3}))

    @rule(count=st.integers(1, 200))
    def edge_hears(self, count):
        self.hear(self.edge, count)

    @rule(count=st.integers(1, 200))
    def device_hears(self, count):
        self.hear(self.device, count)

    @invariant()
    def nothing_is_kept_but_one_message(self):
        for end in (self.device, self.edge):
            assert end.buffered_bytes < HEADER.size + 70_000 + CHUNK_BYTES
            assert end.state is not State.FAILED

    def teardown(self):
        for end in (self.edge, self.device, self.edge):
            self.hear(end, 1 << 20)
        for number, (data, sent) in self.sent.items():
            if number not in self.cancelled and sent == len(data):
                assert self.arrived[number] == data
            else:
                assert number not in self.arrived


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)

GOLDEN = {
    T.HELLO: (
        "434e46520101000001020304050607080000000900000015000000007b2261223a312c226222"
        "3a5b322e352c2263225d7d"
    ),
    T.WELCOME: (
        "434e46520102000001020304050607080000000900000015000000007b2261223a312c226222"
        "3a5b322e352c2263225d7d"
    ),
    T.REQUEST: (
        "434e46520103000001020304050607080000000900000015000000007b2261223a312c226222"
        "3a5b322e352c2263225d7d"
    ),
    T.CHUNK: ("434e4652010400000102030405060708000000090000000000000003010203"),
    T.CANCEL: ("434e4652010500000102030405060708000000090000000000000000"),
    T.CANCELLED: (
        "434e46520106000001020304050607080000000900000015000000007b2261223a312c226222"
        "3a5b322e352c2263225d7d"
    ),
    T.REPLY: (
        "434e46520107000001020304050607080000000900000015000000007b2261223a312c226222"
        "3a5b322e352c2263225d7d"
    ),
    T.REFUSE: (
        "434e46520108000001020304050607080000000900000015000000007b2261223a312c226222"
        "3a5b322e352c2263225d7d"
    ),
    T.PING: ("434e4652010900000102030405060708000000090000000000000000"),
    T.PONG: ("434e4652010a00000102030405060708000000090000000000000000"),
}


def sample(kind):
    payload = b"\x01\x02\x03" if kind is T.CHUNK else b""
    meta = {} if kind in (T.CHUNK, T.CANCEL, T.PING, T.PONG) else {"a": 1, "b": [2.5, "c"]}
    return Message(kind, 0x0102030405060708, 9, meta, payload)


@pytest.mark.parametrize("kind", list(T))
def test_golden_bytes_of_every_type(kind):
    assert serialise(sample(kind)).hex() == GOLDEN[kind]


def opened(role):
    """A connection past its greeting."""
    made = Connection(role)
    if role is Role.EDGE:
        made.receive(serialise(Message(T.HELLO)))
        made.send(Message(T.WELCOME))
    else:
        made.send(Message(T.HELLO))
        made.receive(serialise(Message(T.WELCOME)))
    return made


def test_fields_that_a_later_version_adds_are_passed_over():
    edge = opened(Role.EDGE)
    meta = {"bytes": 0, "route": ["a", "b"], "new": {"deep": None}}
    (message,) = edge.receive(serialise(Message(T.REQUEST, 1, meta=meta)))
    assert message.meta["bytes"] == 0


@pytest.mark.parametrize("role", list(Role))
def test_another_version_is_refused_with_both_numbers(role):
    raw = bytearray(serialise(Message(T.PING if role is Role.EDGE else T.PONG, 1)))
    raw[4:6] = (VERSION + 1).to_bytes(2, "big") if raw[4] == 0 else bytes([VERSION + 1, raw[5]])
    with pytest.raises(RemoteProtocolError, match=f"found {VERSION + 1}, expected {VERSION}"):
        opened(role).receive(bytes(raw))
