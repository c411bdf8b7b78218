"""One kind of file, as the page of formats shows it."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec


@dataclass(frozen=True, slots=True)
class Format:
    """One kind of file: its structure, or the rows (array, type and shape, meaning) of an npz."""

    title: str
    what: str
    kind: type[msgspec.Struct] | None = None
    arrays: tuple[tuple[str, str, str], ...] = ()
    read: bool = False
    """People write it: defaults are shown."""
