"""Keeps the figures of frames and transfers, on a thread of its own: no frame waits for a disk.

What finds no room in the queue, or on the disk, is dropped and counted. A disk that is in trouble
is left alone for a while; one line says so, and one says when records are kept again.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable

from artefacts import CoinferError
from controller.daemon.records.entries import (
    RecordSettings,
    RecordsHeader,
    encoded,
    kept_frame,
    kept_measurement,
    records_header,
)
from controller.daemon.records.segments import Segments, segment_name
from controller.device.engine import FrameEngine
from controller.device.frame import FrameRecord
from controller.interface import Measurement
from controller.scenarios import Setting

log = logging.getLogger("coinfer.device")
MOST_WAITING = 4096
"""Frames and measurements that are not written yet; further ones are counted."""
GATHER_S = 1.0
"""What comes within it is written at once: a card wears by writes."""
PRUNE_S = 60.0
"""Old segments are looked for so often, also where nothing comes."""
AGAIN_S = 30.0
"""So long a disk that refused is left alone."""
CLOSE_S = 2.0
"""At the end what waits gets so long to be written."""

Header = Callable[[str, int], RecordsHeader]
"""The first line of a stream's segment, by the stream's name and the segment's number."""


class RecordsKeeper:
    """`keep` from any thread, never waiting; `change` where the settings are others (None: off).

    `header` is asked on the keeper's thread. `clock` counts on, `wall` is seconds since 1970.
    """

    def __init__(
        self,
        header: Header,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._header, self._clock, self._wall = header, clock, wall
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._waiting: deque[FrameRecord | Measurement] = deque()
        self._settings: RecordSettings | None = None
        self._current: RecordSettings | None = None
        self._asked = self._done = 0
        self._closed = False
        self._thread: threading.Thread | None = None
        self._dropped = 0
        self._segments: Segments | None = None
        self._stream, self._number, self._written = "", 0, 0
        self._tried_s: float | None = None

    @property
    def dropped(self) -> int:
        """Frames and measurements that were not kept, since the start."""
        return self._dropped

    @property
    def bytes(self) -> int:
        """Of all segments in the folder; 0 where nothing is kept."""
        segments = self._segments
        return 0 if segments is None else segments.bytes

    def keep(self, what: FrameRecord | Measurement) -> None:
        """Have a frame or a measurement kept, or counted where there is no room."""
        if self._settings is None:
            return
        with self._lock:
            if len(self._waiting) >= MOST_WAITING:
                self._dropped += 1
                return
            self._waiting.append(what)
            if len(self._waiting) == 1:
                self._changed.notify_all()

    def change(self, settings: RecordSettings | None) -> None:
        """Keep what comes from here on so; a thread is begun with the first settings."""
        with self._lock:
            if settings == self._settings:
                return
            self._settings = settings
            self._asked += 1
            if self._thread is None:
                # nobody waits long for it at the end: a disk may hang for ever
                self._thread = threading.Thread(target=self._run, name="records", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self, within_s: float = CLOSE_S) -> bool:
        """Wait until what has come is written or counted; False where that takes longer."""
        with self._lock:
            if self._thread is None:
                return True
            self._asked += 1
            asked = self._asked
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._done >= asked, within_s)

    def close(self, within_s: float = CLOSE_S) -> None:
        """Write what waits and end the open segment; a disk that hangs is not waited for."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(within_s)

    # -- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._lock:
                self._changed.wait_for(lambda: self._waiting or self._urgent, PRUNE_S)
                if self._waiting:
                    self._changed.wait_for(lambda: self._urgent, GATHER_S)
                asked, closed, wanted = self._asked, self._closed, self._settings
                came = list(self._waiting)
                self._waiting.clear()
            try:
                self._turn(came, wanted)
            except Exception:  # whatever it is, what comes next is tried anew
                log.exception("records")
            with self._lock:
                self._done = asked
                self._changed.notify_all()
            if closed:
                self._end()
                return

    @property
    def _urgent(self) -> bool:
        return self._closed or self._done < self._asked

    def _turn(self, came: list[FrameRecord | Measurement], wanted: RecordSettings | None) -> None:
        if wanted is None:
            self._write(came)  # it came while records were kept
        if wanted != self._current:
            self._end()
            self._current, self._tried_s = wanted, None
            self._segments = None if wanted is None else Segments(wanted)
            said = "no longer kept" if wanted is None else f"kept in {wanted.folder}"
            log.info("records are %s", said)
            self._attempt(lambda segments: segments.ready(self._wall()))
        if wanted is not None:
            self._write(came)

    def _write(self, came: list[FrameRecord | Measurement]) -> None:
        """Write what came; what a disk does not take is counted."""
        resting = self._tried_s is not None and self._clock() - self._tried_s < AGAIN_S
        self._written = 0
        if not resting:
            self._attempt(lambda segments: self._write_to(segments, came))
        if self._segments is not None:
            with self._lock:
                self._dropped += len(came) - self._written

    def _attempt(self, work: Callable[[Segments], None]) -> None:
        """Have work done on the disk; one line where it refuses, and one when it obeys again."""
        if self._segments is None:
            return
        try:
            work(self._segments)
        except CoinferError as error:
            if self._tried_s is None:
                log.warning("records are not kept: %s", error)
            self._tried_s = self._clock()
            self._segments.give_up()
            self._stream = ""  # reading stops at a torn line only where a stream ends
            return
        if self._tried_s is not None:
            self._tried_s = None
            log.info("records are kept again")

    def _write_to(self, segments: Segments, came: list[FrameRecord | Measurement]) -> None:
        """Write all that came, in as many segments as it takes."""
        now_s = self._wall()
        if not came:
            if segments.full(0, now_s):
                segments.end()
            segments.prune(now_s)
        gathered = bytearray()
        for number, what in enumerate(came):
            line = encoded(
                kept_frame(what) if isinstance(what, FrameRecord) else kept_measurement(what)
            )
            if segments.full(len(gathered) + len(line), now_s):
                segments.write(bytes(gathered))
                gathered.clear()
                self._written = number
                self._begin(segments, now_s)
            gathered += line
        segments.write(bytes(gathered))
        self._written = len(came)

    def _begin(self, segments: Segments, now_s: float) -> None:
        self._number += 1
        if not self._stream:
            self._stream, self._number = secrets.token_hex(4), 0
        header = self._header(self._stream, self._number)
        segments.begin(segment_name(now_s, self._stream, self._number), encoded(header), now_s)

    def _end(self) -> None:
        if self._segments is not None:
            self._segments.give_up()


def engine_keeper(engine: FrameEngine, setting: Setting) -> RecordsKeeper:
    """A keeper that hears of an engine's measurements; it is off at first, and hears of no frames.

    The `engine` runs frames of `setting`.
    """

    def header(stream: str, number: int) -> RecordsHeader:
        begun_at_s = time.time() - (engine.clock() - engine.begin_s)
        return records_header(setting, stream, number, begun_at_s)

    keeper = RecordsKeeper(header)
    engine.watch.on_measured = keeper.keep
    return keeper
