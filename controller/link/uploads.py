"""A link's requests that are under way: who asks, sends and hears of them are three threads."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from controller.link.measuring import Upload

MOST_OWED = 256
"""Requests under way; of more the oldest that was cancelled is forgotten."""


class Uploads:
    """Requests by their numbers. Safe from any thread; none is taken in while it is `shut`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = False
        self._next_id = 1
        self._under_way: dict[int, Upload] = {}

    def open(self) -> None:
        """There is a connection: requests are taken in."""
        with self._lock:
            self._open = True

    def shut(self) -> None:
        """There is none: no request is taken in."""
        with self._lock:
            self._open = False

    def add(
        self, meta: Mapping[str, Any], data: bytes, now_s: float, until_s: float
    ) -> Upload | None:
        """A request that is worth answering until `until_s`; None while shut."""
        with self._lock:
            if not self._open:
                return None
            number = self._next_id
            self._next_id += 1
            job = Upload(number, dict(meta) | {"bytes": len(data)}, data, now_s, until_s)
            self._under_way[number] = job
            return job

    def __contains__(self, number: object) -> bool:
        with self._lock:
            return number in self._under_way

    def pop(self, number: int) -> Upload | None:
        """It is over; None where it was before."""
        with self._lock:
            return self._under_way.pop(number, None)

    def pop_all(self) -> list[int]:
        """All of them are over; gives their numbers."""
        with self._lock:
            lost = list(self._under_way)
            self._under_way.clear()
            return lost

    def cancel(self, number: int) -> int | None:
        """Stop one between two chunks; bytes handed over so far, None where it is over."""
        with self._lock:
            job = self._under_way.get(number)
            if job is None:
                return None
            job.cancelled = True
            if len(self._under_way) > MOST_OWED:
                # an edge that owes so many a word will not say it
                gone = next((n for n, one in self._under_way.items() if one.cancelled), number)
                if gone != number:
                    del self._under_way[gone]
            return job.sent_bytes

    def handed_on(self, number: int, *, every: bool = False) -> bool:
        """Whether one that has hops still before it (or `every` one) was sent whole, and is under
        way.
        """
        with self._lock:
            job = self._under_way.get(number)
            return job is not None and job.finished and (every or "hops" in job.meta)

    def sent_bytes(self, number: int) -> int:
        """Bytes of one handed over so far (0 where it is over)."""
        with self._lock:
            job = self._under_way.get(number)
            return 0 if job is None else job.sent_bytes

    def wanted_bytes(self) -> tuple[int, int]:
        """Bytes of those that are still wanted, and how many of them are not handed over yet."""
        with self._lock:
            wanted = [job for job in self._under_way.values() if not job.cancelled]
            whole = sum(len(job.data) for job in wanted)
            return whole, whole - sum(job.sent_bytes for job in wanted)
