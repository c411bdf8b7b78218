"""A reload's slow part: files are read, and what they ask for is made, on a thread of its own.

What reads may hang (a file system that does not answer) and what is made may take its time; frames
are answered meanwhile, by what is there.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from artefacts import CoinferError

log = logging.getLogger("coinfer.device")
Made = TypeVar("Made")
HUNG_S = 20.0
"""After so long a reload is given up; whatever it still gives is let go."""
TWIN_S = 5.0
MOST_HUNG = 4
"""Threads that may hang at once; with so many a reload is refused."""


class ConfigFile:
    """Whether a configuration file has become another one since it was `seen` last."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.seen()

    def seen(self) -> None:
        """What it says is known: only what is written from here on is a change."""
        self._seen = self._stamp()

    @property
    def changed(self) -> bool:
        """A file that is away, or cannot be looked at, is no change."""
        stamp = self._stamp()
        return stamp != self._seen and stamp is not None

    def _stamp(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino


class TwinReloads:
    """A change of a file and the signal that says so, seen one after the other: one in the log.

    Both are obeyed, for the signal may speak of other files. The second is not said again where it
    found nothing that the first had not.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._by_signal = False
        self._last: tuple[float, bool, tuple[str, ...]] | None = None

    def asked(self, *, by_signal: bool) -> None:
        """A reload begins."""
        self._by_signal = by_signal

    def repeats(self, lines: tuple[str, ...], *, differs: bool = True) -> bool:
        """Whether the reload that ends with `lines` need not be said; `differs`: it took something.

        Such is one within 5 s of one of the other kind, with the same lines or nothing to take.
        """
        now_s, last = self._clock(), self._last
        self._last = (now_s, self._by_signal, lines)
        if last is None or last[1] == self._by_signal or now_s - last[0] >= TWIN_S:
            return False
        return lines == last[2] or not differs


class Preparing(Generic[Made]):
    """Prepares one reload at a time; asked again meanwhile, once more behind it.

    `report` is called on the preparing thread with what was made, or why nothing was. `ask` and
    `hung` belong to one thread.
    """

    def __init__(
        self,
        make: Callable[[], Made],
        report: Callable[[Made | str], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make, self._report, self._clock = make, report, clock
        self._lock = threading.Lock()
        self._number = 0
        """Of the reload under way; those of other numbers are given up."""
        self._since_s: float | None = None
        self._again = False
        self._threads: list[threading.Thread] = []

    def ask(self) -> None:
        """Prepare what the files say from now on."""
        with self._lock:
            if self._since_s is not None:
                self._again = True
                return
            too_many = self._begin_another()
        if too_many is not None:
            self._report(too_many)

    def hung(self) -> str | None:
        """Why the reload under way is given up, where it has taken too long; once.

        What was asked for meanwhile is prepared beside it: the files may be other ones by then.
        """
        with self._lock:
            if self._since_s is None or self._clock() - self._since_s < HUNG_S:
                return None
            self._number += 1
            again, self._since_s, self._again = self._again, None, False
            too_many = self._begin_another() if again else None
        why = f"the files are not read within {HUNG_S:g} s"
        return why if too_many is None else f"{why}; {too_many}"

    def _begin_another(self) -> str | None:
        """Begin one beside those that hang; why not, where they are too many."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        if len(self._threads) >= MOST_HUNG:
            return f"{len(self._threads)} reloads hang, expected files that can be read"
        self._begin()
        return None

    def _begin(self) -> None:
        self._number += 1
        self._since_s, self._again = self._clock(), False
        # nobody waits for it at the end: it may hang for ever
        thread = threading.Thread(
            target=self._run, args=(self._number,), name="reload", daemon=True
        )
        self._threads.append(thread)
        thread.start()

    def _run(self, number: int) -> None:
        found: Made | str
        try:
            found = self._make()
        except CoinferError as error:
            found = str(error)
        except BaseException as error:  # a file of any kind must not end the watch over it
            log.exception("reload")
            found = f"{type(error).__name__} (see above)"
        with self._lock:
            if number != self._number:
                return
            again, self._since_s = self._again, None
            if again:
                self._begin()
        if not again:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._report(found)
