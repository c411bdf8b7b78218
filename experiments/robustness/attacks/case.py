"""What an attack is: a name, what it does, how it is done, and what must still hold meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Bound:
    """What a camera beside the attack may suffer, and the daemons may take."""

    lost_share: float = 0.01
    """Of the camera's frames, more than it loses without the attack."""
    device_bytes: int | None = None
    """Peak resident memory (None: `MemoryMax` of the unit)."""
    edge_bytes: int | None = None
    truthful: bool = True
    """`ready` says whether frames are answered."""


@dataclass(frozen=True, slots=True)
class Target:
    """A running device and the edge that it asks, both on loopback; the camera asks the device."""

    device_http: tuple[str, int]
    edge: tuple[str, int]
    device_pid: int
    edge_pid: int
    seconds: float
    """How long to go on."""
    second_edge: tuple[str, int]
    """Where the device's other edge reads how to behave (`hostile_edge.command`)."""
    grpc: tuple[str, int]
    """The device's other local interface."""
    folder: Path
    """`device.toml` and `edge.toml` as the daemons read them; room for files of the attack."""


@dataclass(frozen=True, slots=True)
class Case:
    """One attack. `run` goes on for `Target.seconds`, in a process of its own.

    An exception that leaves `run` means that the attack could not be made; that somebody hangs up
    on it is its own to expect.
    """

    name: str
    what: str
    run: Callable[[Target], None]
    bound: Bound = Bound()
