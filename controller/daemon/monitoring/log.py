"""What the daemons write to standard error, as text or as one JSON object a line.

Lines that are alike are limited in rate: what unknown clients cause without end must not fill a
disk. How many were left out is said in their place. A thread of its own writes: whoever reads
standard error may stand still, and nothing else waits for that. What finds no room is counted.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from artefacts import printable, shortened
from controller.daemon.configuration.settings import LogSettings

BURST, WINDOW_S = 10, 10.0
"""So many alike are written in so long; the others are counted."""
MOST_KINDS = 256
"""Kinds of lines that are remembered; of more the one not seen for longest is forgotten."""
MOST_WAITING_BYTES = 256 * 1024
"""Of lines that are not written yet; further ones are counted."""
_LEFT_OUT = "%d lines were left out: nobody read standard error"
FIRST_S, LONGEST_S = 60.0, 3600.0
"""A trouble that goes on is said again after so long; then after twice as long each time."""
MOST_KEPT = 256
"""Troubles that are remembered; of more the one not met for longest is forgotten."""
FLUSH_S = 1.0
"""At the end what waits gets so long to be written."""
OTHERS = {"asyncio": logging.WARNING, "opentelemetry": logging.ERROR, "grpc": logging.ERROR}
"""Libraries whose lines are written too, and from which level on."""


class LineWriter:
    """Writes lines to a descriptor on a thread of its own; `put` never waits.

    `write` is `os.write` of the descriptor: it may take as long as it likes.
    """

    def __init__(self, write: Callable[[bytes], int]) -> None:
        self._write = write
        self.said = _text_of_left_out
        """What is written of so many lines that found no room."""
        self._waiting: deque[bytes] = deque()
        self._bytes = self._left_out = 0
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._thread: threading.Thread | None = None

    def put(self, line: bytes) -> None:
        """Have a line written, or counted where there is no room."""
        with self._lock:
            if self._thread is None:
                # nobody waits for it at the end: it may stand still for ever
                self._thread = threading.Thread(target=self._run, name="log", daemon=True)
                self._thread.start()
            if self._bytes + len(line) > MOST_WAITING_BYTES:
                self._left_out += 1
                return
            if self._left_out:
                line = self.said(self._left_out) + line
                self._left_out = 0
            self._waiting.append(line)
            self._bytes += len(line)
            self._changed.notify_all()

    def flush(self, within_s: float = FLUSH_S) -> bool:
        """Wait until everything is written; False where that takes longer."""
        with self._lock:
            return self._changed.wait_for(lambda: not self._bytes, within_s)

    def _run(self) -> None:
        while True:
            with self._lock:
                self._changed.wait_for(lambda: self._waiting)
                line = self._waiting.popleft()
            rest = line
            with contextlib.suppress(OSError):  # nobody reads any more
                while rest:
                    rest = rest[self._write(rest) :]
            with self._lock:
                self._bytes -= len(line)
                self._changed.notify_all()


def _text_of_left_out(count: int) -> bytes:
    return f"{_LEFT_OUT % count}\n".encode()


class QueueHandler(logging.Handler):
    """Formats a line and hands it to a writer."""

    def __init__(self, writer: LineWriter) -> None:
        super().__init__()
        self._writer = writer
        writer.said = self._left_out

    def _left_out(self, count: int) -> bytes:
        record = logging.LogRecord(
            "coinfer", logging.WARNING, __file__, 0, _LEFT_OUT, (count,), None
        )
        return self.format(record).encode() + b"\n"

    def flush(self) -> None:
        """At the process's end, behind the last line: wait a little."""
        self._writer.flush()

    def emit(self, record: logging.LogRecord) -> None:
        """Never waits."""
        try:
            line = self.format(record)
        except Exception:
            self.handleError(record)
            return
        self._writer.put(line.encode("utf-8", "backslashreplace") + b"\n")


class _Text(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:
        """A line of bounded length that no terminal obeys: it may hold what others sent."""
        return printable(shortened(super().formatMessage(record)))


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        said = {
            "time_s": round(record.created, 3),
            "level": record.levelname.lower(),
            "from": record.name,
            "message": shortened(record.getMessage()),
        }
        if record.exc_info:
            said["error"] = self.formatException(record.exc_info)
        return json.dumps(said)


@dataclass(slots=True)
class _Window:
    """Since when lines of a kind are counted, and how many were left out."""

    began_s: float
    written: int
    left_out: int
    last: logging.LogRecord


class RepeatLimit(logging.Handler):
    """Passes lines on to another handler, of each kind at most `BURST` in `WINDOW_S`.

    A kind is the place in the code that a line comes from. How many were left out is written when
    the window is over: at the next line of any kind, at `tell`, or at the end.
    """

    def __init__(self, inner: logging.Handler, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.inner, self._clock = inner, clock
        self._kinds: OrderedDict[tuple[str, int, int], _Window] = OrderedDict()

    def emit(self, record: logging.LogRecord) -> None:
        """Write it, or count it."""
        now_s = self._clock()
        self._tell(self._over(now_s))
        kind = (record.pathname, record.lineno, record.levelno)
        window = self._kinds.get(kind)
        if window is None:
            if len(self._kinds) >= MOST_KINDS:
                self._tell([self._kinds.popitem(last=False)[1]])
            window = self._kinds[kind] = _Window(now_s, 0, 0, record)
        self._kinds.move_to_end(kind)
        if window.written < BURST:
            window.written += 1
            self.inner.handle(record)
        else:
            window.left_out += 1
            window.last = record

    def tell(self) -> None:
        """Say what was left out in windows that are over."""
        self.acquire()
        try:
            self._tell(self._over(self._clock()))
        finally:
            self.release()

    def close(self) -> None:
        """Say what was left out; forget everything."""
        self.acquire()
        try:
            self._tell(self._kinds.values())
            self._kinds.clear()
        finally:
            self.release()
        super().close()

    def _over(self, now_s: float) -> list[_Window]:
        over = [k for k, window in self._kinds.items() if now_s - window.began_s >= WINDOW_S]
        return [self._kinds.pop(kind) for kind in over]

    def _tell(self, windows: Iterable[_Window]) -> None:
        for window in windows:
            if window.left_out:
                self.inner.handle(_summary(window))


def _summary(window: _Window) -> logging.LogRecord:
    """The last line that was left out, and how many were like it."""
    last = window.last
    return logging.LogRecord(
        last.name, last.levelno, last.pathname, last.lineno,
        f"{last.getMessage().splitlines()[0][:200]} … and {window.left_out:,} like it", (), None,
    )  # fmt: skip


@dataclass(slots=True)
class _Trouble:
    since_s: float
    every_s: float
    times: int


class RepeatedTroubles:
    """Which lines `HOST:PORT: trouble` are to be written. For one thread.

    A device that an edge refuses tries again for as long as it runs. The first line is written;
    then, at growing intervals, how many there were.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: OrderedDict[str, _Trouble] = OrderedDict()

    def lines(self, line: str) -> Iterator[str]:
        """What is to be written of a new line: itself, a count of the last ones, or nothing."""
        key, now_s = without_port(line), self._clock()
        known = self._kept.get(key)
        if known is None:
            if len(self._kept) >= MOST_KEPT:
                yield from _count(*self._kept.popitem(last=False), now_s)
            self._kept[key] = _Trouble(now_s, FIRST_S, 0)
            yield line
            return
        known.times += 1
        self._kept.move_to_end(key)

    def due(self) -> Iterator[str]:
        """Counts whose time has come. What has not come again since is forgotten."""
        now_s = self._clock()
        for key, known in list(self._kept.items()):
            if now_s - known.since_s < known.every_s:
                continue
            if not known.times:
                del self._kept[key]
                continue
            yield from _count(key, known, now_s)
            every_s = min(2.0 * known.every_s, LONGEST_S)
            self._kept[key] = _Trouble(now_s, every_s, 0)

    def rest(self) -> Iterator[str]:
        """At the end: what was counted and not said yet."""
        now_s = self._clock()
        while self._kept:
            yield from _count(*self._kept.popitem(last=False), now_s)


def without_port(line: str) -> str:
    """The line without the port of the address that it begins with: each try has another one."""
    address, colon, trouble = line.partition(": ")
    host, _, port = address.rpartition(":")
    return f"{host}{colon}{trouble}" if host and port.isdecimal() else line


def _count(key: str, known: _Trouble, now_s: float) -> Iterator[str]:
    if known.times:
        times = "once" if known.times == 1 else f"{known.times:,} times"
        yield f"{key} ({times} more in {max(now_s - known.since_s, 1.0):.0f} s)"


_WRITERS: dict[int, LineWriter] = {}
"""By descriptor, for the life of the process: a reload changes the form, not who writes."""


def error_writer() -> LineWriter | None:
    """The process's writer of standard error; None where that is none of the system's."""
    try:
        handle = sys.stderr.fileno()
    except (OSError, ValueError, AttributeError):
        return None
    if handle not in _WRITERS:
        # past Python's own buffer, whose lock a writer that stands still would hold at the end
        _WRITERS[handle] = LineWriter(lambda line: os.write(handle, line))
    return _WRITERS[handle]


def _standard_error() -> logging.Handler:
    """A handler for standard error; what is none of the system's is written to at once."""
    writer = error_writer()
    return logging.StreamHandler(sys.stderr) if writer is None else QueueHandler(writer)


def set_up_log(settings: LogSettings) -> RepeatLimit:
    """Write to standard error in the form that was asked for (the journal takes it from there)."""
    inner = _standard_error()
    text = _Text("%(levelname)s %(name)s: %(message)s")
    inner.setFormatter(_Json() if settings.form == "json" else text)
    handler = RepeatLimit(inner)
    # what a client gets wrong is answered, and what is ours is logged by ourselves
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)
    levels: dict[str, int | str] = {"coinfer": settings.level.upper(), **OTHERS}
    for name, level in levels.items():
        logger = logging.getLogger(name)
        for old in logger.handlers:
            old.close()
        logger.handlers[:] = [handler]
        logger.propagate = False
        logger.setLevel(level)
    return handler
