"""Notes between the daemon and its gRPC process: whole, in order, bounded."""

import asyncio

import pytest

from controller.daemon.configuration.settings import LimitSettings
from controller.daemon.grpc import channel
from controller.daemon.grpc.channel import NoteReader, pack


def packed(note, data=b""):
    return b"".join(pack(note, data))


def read(sent, kinds):
    """Every note of what was sent, then the end."""

    async def all_of_it():
        stream = asyncio.StreamReader()
        stream.feed_data(sent)
        stream.feed_eof()
        notes, found = NoteReader(stream, kinds, 300_000), []
        while (note := await notes.next()) is not None:
            found.append(note)
        return found

    return asyncio.run(all_of_it())


def test_notes_come_as_they_were_said_with_the_bytes_behind_them():
    pytest.importorskip("google.protobuf", reason="protobuf is not installed (extra grpc)")
    pytest.importorskip("grpc", reason="grpcio is not installed (extra grpc)")
    from controller.daemon.grpc.process import bounds_of

    bounds = bounds_of(LimitSettings(body_s=0.5))
    assert (bounds.body_s, bounds.body_bytes) == (0.5, LimitSettings().body_bytes)
    daemon = [
        (channel.Begin("127.0.0.1", 0, bounds), b""), (channel.Reloaded(bounds), b""),
        (channel.Reply(7), b"\x00" * 300_000), (channel.Reply(8, "NOT_FOUND", "żółw"), b""),
        (channel.End(), b""),
    ]  # fmt: skip
    assert read(b"".join(packed(*one) for one in daemon), channel.OfDaemon) == daemon
    gateway = [
        (channel.Serving(1), b""), (channel.Call(1, "ModelInfer", 1.5, None), b"message"),
        (channel.Gone(1), b""), (channel.Beat(), b""), (channel.Fault("what"), b""),
        (channel.Unable("why"), b""),
    ]  # fmt: skip
    assert read(b"".join(packed(*one) for one in gateway), channel.OfGateway) == gateway


def test_half_a_note_is_the_end():
    whole = packed(channel.Reply(1), b"answer")
    for cut in range(len(whole)):
        assert read(whole[:cut], channel.OfDaemon) == []


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"\xff" * 8, "4,294,967,295 bytes, expected at most 65,536"),
        (packed(channel.Reply(1), b"x" * 300_001), "300,001 bytes, expected at most 300,000"),
        (packed(channel.Beat()), "Invalid value 'Beat'"),
        (b"\x00\x00\x00\x01\x00\x00\x00\x00\xc1", "malformed"),
    ],
    ids=["long", "much behind it", "of the other end", "no note"],
)
def test_what_the_other_end_cannot_mean_is_an_error(sent, said):
    with pytest.raises(ValueError, match=said):
        read(sent, channel.OfDaemon)
