"""Sockets at the link's outer end, made when a packet first asks for their port.

The outer namespace takes every packet as its own. A socket for the port is opened before the packet
is handed over, and is sent to the process that lives in the network outside, which connects on.
"""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path
from typing import Literal

import msgspec

from controller.link.addresses import LINK_HOST
from experiments.replay.cell.kernel import IP_PKTINFO
from experiments.replay.cell.orders import Service

TCP, UDP, SYN, SYN_ACK = 6, 17, 0x02, 0x12
LISTENING = "0A"
BACKLOG = 128
_HOST = socket.inet_aton(LINK_HOST)


def asked_for(packet: bytes) -> tuple[Literal["tcp", "udp"], int] | None:
    """The service that a packet opens: (kind, port) of TCP's first packet, and of any of UDP."""
    header = 4 * (packet[0] & 15)
    if len(packet) < header + 8 or packet[6] & 0x1F or packet[7]:
        return None  # not a packet's first fragment
    port = int.from_bytes(packet[header + 2 : header + 4])
    if packet[9] == UDP:
        return "udp", port
    if packet[9] == TCP and len(packet) >= header + 20:
        return ("tcp", port) if packet[header + 13] & SYN_ACK == SYN else None
    return None


def listens(pid: int, port: int) -> bool:
    """Whether anything listens on a TCP port in the network of a process."""
    ending = f":{port:04X}"
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTENING and fields[1].endswith(ending):
                    return True
    return False


class Services:
    """Opens sockets in this process's namespace and sends them through `tell`."""

    def __init__(self, tell: socket.socket, host_pid: int | None) -> None:
        """`host_pid` is a process on the machine that lies outside; None: another link does."""
        self._tell, self._host_pid = tell, host_pid
        self._open: dict[tuple[str, int], socket.socket] = {}

    def open_for(self, packet: bytes) -> None:
        """Open what a packet asks for, where it is not open yet.

        Where nothing on the host listens there is no socket, so that the kernel refuses.
        """
        asked = asked_for(packet)
        if asked is None or asked in self._open:
            return
        kind, port = asked
        to_host = kind == "tcp" and packet[16:20] == _HOST
        if to_host and self._host_pid is not None and not listens(self._host_pid, port):
            return
        with contextlib.suppress(OSError):  # of sockets there may be no more
            made = _tcp(port) if kind == "tcp" else _udp(port)
            self._open[asked] = made
            message = msgspec.json.encode(Service(kind, port))
            socket.send_fds(self._tell, [message], [made.fileno()])


def _tcp(port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("0.0.0.0", port))
    made.listen(BACKLOG)
    return made


def _udp(port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    made.bind(("0.0.0.0", port))
    return made
