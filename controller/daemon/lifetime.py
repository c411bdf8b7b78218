"""What a daemon counts over all its runs: one small file, which no trouble of a disk may stop."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from artefacts import CoinferError, read_json, write_json
from artefacts.leftovers import sweep_parts

log = logging.getLogger("coinfer.device")
STATE_VERSION = 1
STATE_BYTES = 65_536


class LifetimeCounts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`state`: what was counted over all runs of a daemon."""

    format_version: int = STATE_VERSION
    starts: int = 0
    """Of the daemon."""
    frames: int = 0
    """That came."""
    late: int = 0
    """That were not answered in time."""


class Lifetime:
    """The counts of earlier runs, and where they are kept ('': nowhere)."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._before = self._earlier()
        self._saved: LifetimeCounts | None = None

    def _earlier(self) -> LifetimeCounts:
        path = Path(self._path)
        if not self._path or not path.exists():
            return LifetimeCounts(starts=1)
        try:
            found = read_json(path, LifetimeCounts, version=STATE_VERSION, most_bytes=STATE_BYTES)
        except CoinferError as error:
            # a daemon must start whatever a disk did to its counters
            log.warning("counters begin anew: %s", error)
            found = LifetimeCounts()
        return msgspec.structs.replace(found, starts=found.starts + 1)

    def sweep(self) -> None:
        """Remove what an earlier run's interrupted writing has left beside the file."""
        if self._path:
            sweep_parts(Path(self._path).parent)

    def save(self, frames: int, late: int) -> None:
        """Keep what this run has counted so far, beside what the earlier ones did."""
        if not self._path:
            return
        before = self._before
        now = msgspec.structs.replace(
            before, frames=before.frames + frames, late=before.late + late
        )
        if now == self._saved:
            return  # nothing has come since: no need to wear the card
        try:
            write_json(self._path, now)
            self._saved = now
        except CoinferError as error:
            log.warning("counters not saved: %s", error)
