"""What the kernel tells of a link's socket and is asked to do with it (Linux; elsewhere less)."""

from __future__ import annotations

import contextlib
import fcntl
import math
import select
import socket
import struct
import termios

from controller.link.estimate import NOT_SENT_BYTES
from controller.link.secure import SecureSocket

Stream = socket.socket | SecureSocket
"""What the link's two threads send into and receive from."""
TCP_INFO = struct.Struct("=16xI60xI")
"""Of the kernel's `struct tcp_info`: bytes of a segment, segments of the window."""


def in_flight_bytes(sock: Stream) -> int:
    """Bytes in a socket that the other side has not acknowledged; 0 where it is closed."""
    if not hasattr(termios, "TIOCOUTQ"):
        return 0
    try:
        answer = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
    except (OSError, ValueError):
        return 0  # closed meanwhile
    return int(struct.unpack("i", answer)[0])


def window_bytes(sock: Stream) -> float:
    """Bytes that TCP lets into one round trip at this moment; infinite where nobody tells.

    Asked behind an upload's first bytes: after a silence TCP begins anew with the next send.
    """
    if not hasattr(socket, "TCP_INFO"):
        return math.inf
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO.size)
    except (OSError, ValueError):
        return math.inf  # closed meanwhile
    if len(info) < TCP_INFO.size:
        return math.inf
    segment, window = TCP_INFO.unpack(info)
    # the kernel may grant less than was asked for, and says twice what it grants
    held = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) / 2.0
    return min(float(segment * window), held)


def set_send_buffer(sock: Stream, size: int, unsent_bytes: int = NOT_SENT_BYTES) -> None:
    """Have the kernel hold `size` bytes, and ask for more when so many of them are unsent."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, unsent_bytes)


def writable(sock: Stream, timeout_s: float) -> bool:
    """Whether a socket takes bytes within so long (poll knows descriptors beyond 1,024)."""
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLOUT)
    return bool(poll.poll(1e3 * timeout_s))


def hang_up(sock: Stream) -> None:
    """Wake whoever waits for a socket."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
