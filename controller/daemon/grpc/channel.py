"""What the daemon and its gRPC process say to each other, over two pipes that they alone hold.

A note is a small object, with bytes behind it where it has any: a call's message, or an answer's.
Both ends are ours, and of the same version.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import struct
from typing import IO

import msgspec

_LENGTHS = struct.Struct(">II")
"""Of the note, and of the bytes behind it."""
NOTE_BYTES = 65_536
BUFFER_BYTES = 262_144
"""Of what came and is not read."""
ANSWER_BYTES = 16_777_216
"""Of an answer; a longer one is refused."""
PIPE_BYTES = 1_048_576
"""That the system holds of what is said: the fewer, the more often both ends must take turns."""
OK = "OK"


class Bounds(msgspec.Struct, frozen=True):
    """What the gRPC process must know of the daemon's limits (`LimitSettings`)."""

    live_frames: int
    body_bytes: int
    bodies_bytes: int
    body_s: float
    connections: int
    head_s: float
    idle_s: float
    stalled_s: float


class Begin(msgspec.Struct, frozen=True, tag=True):
    """The daemon's first note: where to listen."""

    host: str
    port: int
    """0: any free one."""
    bounds: Bounds


class Reloaded(msgspec.Struct, frozen=True, tag=True):
    """The daemon's limits have changed while it runs."""

    bounds: Bounds


class Reply(msgspec.Struct, frozen=True, tag=True):
    """Of the daemon to a call; the answer's message follows where the code is `OK`."""

    number: int
    code: str = OK
    """The name of gRPC's status code."""
    why: str = ""


class End(msgspec.Struct, frozen=True, tag=True):
    """Take no more calls, and end when those under way are answered."""


class Serving(msgspec.Struct, frozen=True, tag=True):
    """The gRPC process's first note: it listens on that port."""

    port: int


class Unable(msgspec.Struct, frozen=True, tag=True):
    """In its place: it cannot listen."""

    why: str


class Call(msgspec.Struct, frozen=True, tag=True):
    """A call whose message is whole; the message follows."""

    number: int
    """New among those that are not replied to."""
    method: str
    arrival_s: float
    """When it came (monotonic seconds, which both processes share)."""
    until_s: float | None
    """When its caller gives up."""


class Gone(msgspec.Struct, frozen=True, tag=True):
    """Nobody waits for the reply to a call any more."""

    number: int


class Beat(msgspec.Struct, frozen=True, tag=True):
    """It lives."""


class Fault(msgspec.Struct, frozen=True, tag=True):
    """Something that is ours to mend, for the daemon's log."""

    what: str


OfDaemon = Begin | Reloaded | Reply | End
OfGateway = Serving | Unable | Call | Gone | Beat | Fault


def pack(note: OfDaemon | OfGateway, data: bytes = b"") -> tuple[bytes, bytes]:
    """A note as it crosses, in two parts: what is long is not copied."""
    head = msgspec.msgpack.encode(note)
    return _LENGTHS.pack(len(head), len(data)) + head, data


class NoteWriter:
    """Says notes to the other end; it never waits."""

    def __init__(self, transport: asyncio.WriteTransport) -> None:
        self._transport = transport

    def say(self, note: OfDaemon | OfGateway, data: bytes = b"") -> None:
        """Hand over a note; it is sent as soon as the other end takes it."""
        for part in pack(note, data):
            self._transport.write(part)

    @property
    def backlog_bytes(self) -> int:
        """Handed over and not sent yet."""
        return self._transport.get_write_buffer_size()

    def close(self) -> None:
        """Say no more, also of what is not sent yet."""
        if not self._transport.is_closing():  # it closes itself when the other end has ended
            self._transport.abort()


class NoteReader:
    """Reads the other end's notes."""

    def __init__(self, stream: asyncio.StreamReader, kinds: object, most_bytes: int) -> None:
        """`kinds`: what may come; `most_bytes`: behind a note."""
        self._stream, self._most_bytes = stream, most_bytes
        self._decoder = msgspec.msgpack.Decoder(kinds)

    async def next(self) -> tuple[object, bytes] | None:
        """The next note and the bytes behind it; None at the end.

        Raises `ValueError` for what the other end cannot have meant.
        """
        try:
            lengths = _LENGTHS.unpack(await self._stream.readexactly(_LENGTHS.size))
            for length, most in zip(lengths, (NOTE_BYTES, self._most_bytes), strict=True):
                if length > most:
                    raise ValueError(f"{length:,} bytes, expected at most {most:,}")
            head = await self._stream.readexactly(lengths[0])
            data = await self._stream.readexactly(lengths[1])
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return self._decoder.decode(head), data


async def connect_reader(
    pipe: IO[bytes], kinds: object, most_bytes: int
) -> tuple[NoteReader, asyncio.ReadTransport]:
    """The end of a pipe that is read (see `NoteReader`), and what closes it."""
    stream = asyncio.StreamReader(limit=BUFFER_BYTES)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), pipe
    )
    return NoteReader(stream, kinds, most_bytes), transport


async def connect_writer(pipe: IO[bytes]) -> NoteWriter:
    """The end of a pipe that is written."""
    with contextlib.suppress(OSError, AttributeError):  # a system that allows less, or knows none
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    transport, _ = await asyncio.get_running_loop().connect_write_pipe(asyncio.BaseProtocol, pipe)
    return NoteWriter(transport)
