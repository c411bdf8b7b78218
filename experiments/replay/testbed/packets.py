"""A link that delays packets, between two namespaces of a kernel that has no netem.

    python -m experiments.replay.testbed.packets DEVICE_NS INTERFACE EDGE_NS INTERFACE RTT_S

Makes a TUN interface in either namespace and carries every packet to the other after half a round
trip, so that TCP between them sees the delay itself: its ramp, its windows, its acknowledgements.
Prints one JSON line when both exist; ends when its standard input closes. Needs root.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import struct
import sys
import time
from collections import deque

from experiments.replay.testbed.namespaces import inside

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
PACKET_BYTES = 2048
SPIN_S = 0.0002
"""A packet that is due so soon is waited for awake: the kernel's timers are coarser."""


def open_tun(namespace: str, interface: str) -> int:
    """A TUN interface made inside a namespace; its file descriptor."""
    with inside(namespace):
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(
            device, TUNSETIFF, struct.pack("16sH22x", interface.encode(), IFF_TUN | IFF_NO_PI)
        )
    return device


def carry(ends: tuple[int, int], delay_s: float, until: int) -> None:
    """Carry packets between both ends, each `delay_s` late, until `until` is readable."""
    other = {ends[0]: ends[1], ends[1]: ends[0]}
    held: deque[tuple[float, int, bytes]] = deque()
    while True:
        pause = held[0][0] - time.monotonic() if held else None
        wait = None if pause is None else max(pause - SPIN_S, 0.0)
        ready, _, _ = select.select([*ends, until], [], [], wait)
        if until in ready:
            return
        now = time.monotonic()
        for end in ready:
            try:
                while True:
                    held.append((now + delay_s, other[end], os.read(end, PACKET_BYTES)))
            except BlockingIOError:
                pass
        while held and held[0][0] <= time.monotonic():
            _, end, packet = held.popleft()
            try:
                os.write(end, packet)
            except OSError:
                continue  # the interface is down, or full: packets are lost, as on any link


def main() -> None:
    """Carry until standard input ends."""
    device, device_end, edge, edge_end, rtt_s = sys.argv[1:]
    ends = open_tun(device, device_end), open_tun(edge, edge_end)
    print(json.dumps({"ready": True}), flush=True)
    carry(ends, float(rtt_s) / 2.0, sys.stdin.fileno())


if __name__ == "__main__":
    main()
