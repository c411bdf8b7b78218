import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.wire import (
    CHUNK_BYTES,
    Connection,
    Inbox,
    LocalProtocolError,
    Message,
    MessageType,
    RemoteProtocolError,
    Role,
    serialise,
)
from controller.wire.messages import HEADER, MAX_METADATA_BYTES, meta_int, meta_shape

T = MessageType
HELLO = Message(T.HELLO, meta={"model": "d"})


def opened():
    device, edge = Connection(Role.DEVICE), Connection(Role.EDGE)
    edge.receive(device.send(HELLO))
    device.receive(edge.send(Message(T.WELCOME)))
    return device, edge


SPEECH = [
    Message(T.REQUEST, 1, meta={"bytes": 3, "exit": 0}),
    Message(T.CHUNK, 1, 0, payload=b"abc"),
    Message(T.PING, 7),
    Message(T.CANCEL, 1),
]


def test_golden_bytes():
    assert serialise(HELLO).hex() == (
        "434e4652" "01" "01" "0000" "0000000000000000" "00000000" "0000000d" "00000000"
        + b'{"model":"d"}'.hex()
    )  # fmt: skip
    assert serialise(Message(T.CHUNK, 5, 2, payload=b"xy")).hex() == (
        "434e4652" "01" "04" "0000" "0000000000000005" "00000002" "00000000" "00000002" "7879"
    )  # fmt: skip


@pytest.mark.parametrize("step", [1, 2, 3, 27, 28, 29, 1000])
def test_any_division_of_the_stream_gives_the_same_messages(step):
    device, edge = opened()
    raw = b"".join(device.send(m) for m in SPEECH)
    found = []
    for at in range(0, len(raw), step):
        found += edge.receive(raw[at : at + step])
    assert found == SPEECH
    assert edge.buffered_bytes == 0
    edge.end_of_stream()


def test_trailing_bytes_wait_for_the_rest():
    device, edge = opened()
    raw = device.send(SPEECH[0]) + device.send(SPEECH[1])
    assert edge.receive(raw[:-2]) == SPEECH[:1]
    with pytest.raises(
        RemoteProtocolError, match="stream ended after 29 bytes .* expected 31 bytes"
    ):
        edge.end_of_stream()
    assert edge.receive(raw[-2:]) == SPEECH[1:2]


def test_only_what_the_table_allows_may_be_sent():
    device = Connection(Role.DEVICE)
    with pytest.raises(
        LocalProtocolError, match="device in state 'new': found PING, expected HELLO"
    ):
        device.send(Message(T.PING))
    device, edge = opened()
    with pytest.raises(LocalProtocolError, match="found REPLY"):
        device.send(Message(T.REPLY))
    with pytest.raises(LocalProtocolError, match="found REQUEST"):
        edge.send(Message(T.REQUEST))
    with pytest.raises(LocalProtocolError, match="16385 bytes of payload"):
        device.send(Message(T.CHUNK, payload=bytes(CHUNK_BYTES + 1)))


@pytest.mark.parametrize(
    ("raw", "match"),
    [
        (b"XXXX" + bytes(24), "magic: found b'XXXX', expected b'CNFR'"),
        (HEADER.pack(b"CNFR", 9, 1, 0, 0, 0, 0, 0), "protocol version: found 9, expected 1"),
        (HEADER.pack(b"CNFR", 1, 99, 0, 0, 0, 0, 0), "message type: found 99"),
        (HEADER.pack(b"CNFR", 1, 1, 0, 0, 0, MAX_METADATA_BYTES + 1, 0), "metadata length"),
        (HEADER.pack(b"CNFR", 1, 1, 0, 0, 0, 0, 1 << 31), "payload length"),
        (HEADER.pack(b"CNFR", 1, 3, 0, 0, 0, 0, 0), "found REQUEST, expected HELLO"),
        (HEADER.pack(b"CNFR", 1, 1, 0, 0, 0, 3, 0) + b"[1]", "found list, expected a map"),
        (HEADER.pack(b"CNFR", 1, 1, 0, 0, 0, 3, 0) + b"{{{", "invalid JSON"),
    ],
)
def test_a_malformed_message_fails_the_connection_for_good(raw, match):
    edge = Connection(Role.EDGE)
    with pytest.raises(RemoteProtocolError, match=match):
        edge.receive(raw)
    with pytest.raises(RemoteProtocolError, match="after a failure"):
        edge.receive(serialise(HELLO))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=10), st.booleans())
def test_any_bytes_give_messages_or_one_error_in_bounded_memory(parts, greeted):
    edge = opened()[1] if greeted else Connection(Role.EDGE)
    limit = HEADER.size + MAX_METADATA_BYTES + CHUNK_BYTES
    try:
        for part in parts:
            edge.receive(part)
            assert edge.buffered_bytes <= limit
    except RemoteProtocolError:
        pass


metas = st.dictionaries(
    st.text(max_size=8), st.one_of(st.integers(-99, 99), st.text(max_size=9)), max_size=4
)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), metas, st.binary(max_size=2000))
def test_messages_round_trip(request_id, offset, meta, payload):
    device, edge = opened()
    sent = Message(T.CHUNK, request_id, offset, meta, payload)
    assert edge.receive(device.send(sent)) == [sent]


def request(number, size):
    return Message(T.REQUEST, number, meta={"bytes": size})


def chunk(number, offset, data):
    return Message(T.CHUNK, number, offset, payload=data)


def test_interleaved_tensors_are_put_together():
    inbox = Inbox()
    assert inbox.begin(request(1, 4)) is None
    assert inbox.begin(request(2, 2)) is None
    assert inbox.add(chunk(1, 0, b"ab")) is None
    done = inbox.add(chunk(2, 0, b"xy"))
    assert (done.request_id, done.data) == (2, b"xy")
    assert inbox.add(chunk(1, 2, b"cd")).data == b"abcd"
    assert len(inbox) == 0


def test_a_cancelled_tensor_is_freed_and_its_stragglers_ignored():
    inbox = Inbox()
    inbox.begin(request(1, 4))
    inbox.add(chunk(1, 0, b"abc"))
    assert inbox.cancel(1) == 3
    assert len(inbox) == 0
    assert inbox.add(chunk(1, 3, b"d")) is None
    assert inbox.cancel(1) == 0


@pytest.mark.parametrize(
    ("messages", "match"),
    [
        ([request(1, 10**9)], "bytes: found 1000000000"),
        ([Message(T.REQUEST, 1)], "bytes: found None"),
        ([request(1, 4), request(1, 4)], "found it twice"),
        ([request(1, 4), chunk(1, 2, b"cd")], "found offset 2, expected 0"),
        ([request(1, 4), chunk(1, 0, b"abcde")], "found 5 bytes at 0, expected 1 to 4"),
        ([request(1, 4), chunk(1, 0, b"")], "found 0 bytes"),
        ([request(k, 4) for k in range(40)], "expected at most 32"),
    ],
)
def test_hostile_transfers_are_refused(messages, match):
    inbox = Inbox()
    with pytest.raises(RemoteProtocolError, match=match):
        for message in messages:
            inbox.begin(message) if message.type is T.REQUEST else inbox.add(message)


@pytest.mark.parametrize("value", [True, "3", 1.5, None, 9])
def test_fields_are_checked(value):
    with pytest.raises(RemoteProtocolError, match="exit: found"):
        meta_int({"exit": value}, "exit", 0, 4)
    with pytest.raises(RemoteProtocolError, match="shape: found"):
        meta_shape({"shape": [value, 0]}, "shape")


@pytest.mark.parametrize("cut", [1, 27, 28, 29, 33])
def test_bad_metadata_that_comes_in_pieces_is_the_documented_error(cut):
    raw = bytearray(serialise(Message(MessageType.HELLO, meta={"a": 1})))
    raw[-1:] = b"!"
    edge = Connection(Role.EDGE)
    edge.receive(bytes(raw[:cut]))
    with pytest.raises(RemoteProtocolError, match="metadata: found invalid JSON"):
        edge.receive(bytes(raw[cut:]))
    with pytest.raises(RemoteProtocolError, match="after a failure"):
        edge.receive(b"x")
