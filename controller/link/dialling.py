"""Connecting to a host that has several addresses: a dead one does not shut out a good one.

After RFC 8305 ("happy eyeballs"): attempts begin a little apart and go on side by side; the first
that succeeds is kept.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import time
from collections.abc import Sequence

from controller.link.addresses import Resolved, join_address

ATTEMPT_APART_S = 0.25
"""RFC 8305, section 5: the recommended delay between two attempts."""


def connect(addresses: Sequence[Resolved], timeout_s: float) -> tuple[socket.socket, Resolved]:
    """A connected socket (with that time-out), and to which of the addresses.

    Raises what the last attempt met (`OSError`), or `TimeoutError` after `timeout_s` in all.
    """
    waiting, several = list(addresses), len(addresses) > 1
    under_way: dict[int, tuple[socket.socket, Resolved]] = {}
    poll, until_s = select.poll(), time.monotonic() + timeout_s
    error: OSError = TimeoutError(f"no answer within {timeout_s:g} s")
    try:
        while waiting or under_way:
            if waiting:
                try:
                    sock = _begin(waiting[0])
                    under_way[sock.fileno()] = (sock, waiting[0])
                    poll.register(sock, select.POLLOUT)
                except OSError as problem:
                    error = problem
                    continue
                finally:
                    del waiting[0]
            now_s = time.monotonic()
            if now_s >= until_s:
                raise TimeoutError(f"no answer within {timeout_s:g} s")
            wait_s = min(until_s - now_s, ATTEMPT_APART_S if waiting else timeout_s)
            for handle, _ in poll.poll(1e3 * wait_s):
                poll.unregister(handle)
                sock, address = under_way.pop(handle)
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if not code:
                    sock.settimeout(timeout_s)
                    return sock, address
                sock.close()
                error = _refused(code, address if several else None)
        raise error
    finally:
        for sock, _ in under_way.values():
            sock.close()


def interleaved(addresses: Sequence[Resolved]) -> list[Resolved]:
    """Families by turns, the first one's first (RFC 8305, section 4)."""
    families = list(dict.fromkeys(family for family, _ in addresses))
    queues = [[a for a in addresses if a[0] == family] for family in families]
    longest = max(map(len, queues), default=0)
    return [queue[k] for k in range(longest) for queue in queues if k < len(queue)]


def _begin(address: Resolved) -> socket.socket:
    family, where = address
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        code = sock.connect_ex(where)
        if code not in (0, errno.EINPROGRESS):
            raise _refused(code, address)
    except BaseException:
        sock.close()
        raise
    return sock


def _refused(code: int, address: Resolved | None) -> OSError:
    """What the system said; of several addresses also which one it was about."""
    at = "" if address is None else f" ({join_address(*address[1][:2])})"
    return OSError(code, os.strerror(code) + at)


def listen(addresses: Sequence[Resolved]) -> list[socket.socket]:
    """A listening socket for each address; port 0 takes any free one, the same for all.

    An address that this machine does not have is passed over where another can be had.
    """
    made: list[socket.socket] = []
    refused: OSError | None = None
    several = len(addresses) > 1
    with contextlib.ExitStack() as undo:
        for family, where in addresses:
            port = made[0].getsockname()[1] if made and where[1] == 0 else where[1]
            try:
                sock = _listener(family, (where[0], port, *where[2:]))
            except OSError as error:
                if not several or error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                refused = error
                continue
            undo.callback(sock.close)
            made.append(sock)
        if not made and refused is not None:
            raise refused
        undo.pop_all()
    return made


def _listener(family: socket.AddressFamily, where: tuple[str | int, ...]) -> socket.socket:
    """`::` serves both families, as users of one address expect; other addresses their own."""
    both = family == socket.AF_INET6 and where[0] == "::" and socket.has_dualstack_ipv6()
    return socket.create_server(where, family=family, dualstack_ipv6=both)
