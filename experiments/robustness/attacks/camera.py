"""A camera as a process of its own: 10 frames a second to a device, and whether each was answered.

    python -m experiments.robustness.attacks.camera HOST:PORT FILE

Each frame is a `POST /infer` with a deadline of 100 ms, asked when it is due, whatever became of
the one before. `ready` is asked over another connection. Everything is a line of JSON in FILE, as
it comes, until the process is ended. Times are of the system's monotonic clock.
"""

from __future__ import annotations

import http.client
import itertools
import sys
import threading
import time
from pathlib import Path
from typing import IO

import msgspec
import numpy as np

from controller.daemon.client import Client, DeviceError
from controller.link.addresses import join_address, split_address

RATE_FPS = 10.0
DEADLINE_S = 0.1
SLACK_S = 0.05
"""Beside the deadline: the camera, the attack and both daemons run on the same machine."""
GIVEN_UP_S = 1.0
"""After so long a frame is lost, and its connection is made anew."""
READY_EVERY_S = 0.25
WINDOW_S = 1.0
LEAST_FRAMES = 10
"""Around an answer of `ready`, to judge it by them."""
SIDE = 32
STREAMS = 4
"""Connections in turn, so that a frame that hangs holds up none of the next."""


class Frame(msgspec.Struct, frozen=True, tag="frame"):
    """When it was due and how long its answer took (None: none came), and why it has none."""

    due_s: float
    latency_s: float | None
    why: str = ""

    @property
    def kept(self) -> bool:
        """Whether its answer was there in time."""
        return self.latency_s is not None and self.latency_s <= DEADLINE_S + SLACK_S


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """What `ready` said, and when it was asked; None where it said nothing in time."""

    asked_s: float
    said: bool | None


class Footage(msgspec.Struct, frozen=True):
    """What came between two moments: frames that were due, and what was said of readiness."""

    frames: tuple[Frame, ...]
    ready: tuple[Ready, ...]

    @property
    def lost(self) -> int:
        """Frames without an answer in time."""
        return sum(not frame.kept for frame in self.frames)

    @property
    def lies(self) -> int:
        """How often `ready` said another thing than the frames around it.

        It is a lie to be ready where none of them is answered, and not to be where all are.
        """
        return sum(self._is_lie(one) for one in self.ready)

    def _is_lie(self, one: Ready) -> bool:
        near = [f for f in self.frames if abs(f.due_s - one.asked_s) <= WINDOW_S]
        if one.said is None or len(near) < LEAST_FRAMES:
            return False
        kept = sum(frame.kept for frame in near)
        return kept == 0 if one.said else kept == len(near)


def footage(path: Path, begin_s: float, end_s: float) -> Footage:
    """What a camera has written of the time from `begin_s` to `end_s`.

    A frame that was due and is not written was not answered.
    """
    lines = path.read_bytes().split(b"\n")[:-1]  # the last may be half a line
    found = [msgspec.json.decode(line, type=Frame | Ready) for line in lines]
    frames = sorted(
        (f for f in found if isinstance(f, Frame) and begin_s <= f.due_s < end_s),
        key=lambda frame: frame.due_s,
    )
    due = int((end_s - begin_s) * RATE_FPS)
    absent = [Frame(end_s, None, "no answer at all")] * max(due - len(frames), 0)
    ready = (r for r in found if isinstance(r, Ready) and begin_s <= r.asked_s < end_s)
    return Footage((*frames, *absent), tuple(ready))


class Camera:
    """Asks a device for ever and writes what came into a stream."""

    def __init__(self, host: str, port: int, stream: IO[bytes]) -> None:
        self._host, self._port, self._stream = host, port, stream
        self._picture = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        self._lock = threading.Lock()

    def film(self) -> None:
        """Does not return."""
        begun = time.monotonic()
        threads = [
            threading.Thread(target=self._frames, args=(begun, first), daemon=True)
            for first in range(STREAMS)
        ]
        for thread in threads:
            thread.start()
        while True:
            self._write(self._ready())
            time.sleep(READY_EVERY_S)

    def _frames(self, begun: float, first: int) -> None:
        address = f"http://{join_address(self._host, self._port)}"
        client = Client(address, margin_s=GIVEN_UP_S - DEADLINE_S)
        for number in itertools.count(first, STREAMS):
            due = begun + number / RATE_FPS
            time.sleep(max(due - time.monotonic(), 0.0))
            try:
                client.infer(self._picture, deadline_s=DEADLINE_S)
            except DeviceError as error:
                self._write(Frame(due, None, f"{error.status}: {error}"[:120]))
            else:
                self._write(Frame(due, time.monotonic() - due))

    def _ready(self) -> Ready:
        asked = time.monotonic()
        connection = http.client.HTTPConnection(self._host, self._port, timeout=GIVEN_UP_S)
        try:
            connection.request("GET", "/v2/health/ready")
            return Ready(asked, connection.getresponse().status == http.client.OK)
        except (OSError, http.client.HTTPException):
            return Ready(asked, None)
        finally:
            connection.close()

    def _write(self, seen: Frame | Ready) -> None:
        with self._lock:
            self._stream.write(msgspec.json.encode(seen) + b"\n")
            self._stream.flush()


def main() -> None:
    """The camera's process."""
    where, path = sys.argv[1:]
    with open(path, "wb") as stream:
        Camera(*split_address(where), stream).film()


if __name__ == "__main__":
    main()
