"""What the daemons write to standard error, as text or as one JSON object a line.

Lines that are alike are limited in rate: what a stranger can cause without end must not fill a
disk. How many were left out is said in their place.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from controller.daemon.settings import LogSettings

BURST, WINDOW_S = 10, 10.0
"""So many alike are written in so long; the others are counted."""
MOST_KINDS = 256
"""Kinds of lines that are remembered; of more the one not seen for longest is forgotten."""
OTHERS = {"asyncio": logging.WARNING, "opentelemetry": logging.ERROR, "grpc": logging.ERROR}
"""Libraries whose lines are written too, and from which level on."""


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        said = {
            "time_s": round(record.created, 3),
            "level": record.levelname.lower(),
            "from": record.name,
            "message": record.getMessage(),
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


def set_up_log(settings: LogSettings) -> RepeatLimit:
    """Write to standard error in the form that was asked for (the journal takes it from there)."""
    inner = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(levelname)s %(name)s: %(message)s")
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
