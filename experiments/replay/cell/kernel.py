"""What is asked of Linux: namespaces without names, TUN interfaces, addresses and routes.

Everything belongs to the calling thread's namespaces and goes when the last process in them ends.
No program is run for it, so that it also works in a user namespace. Imports nothing that starts
threads: a process that has any may not enter a user namespace.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import struct
from pathlib import Path

from artefacts import CoinferError

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
PR_SET_TIMERSLACK = 29
IP_PKTINFO = 8
"""Python's socket module lacks it before 3.14."""
TUN = "/dev/net/tun"
TUNSETIFF, IFF_TUN, IFF_NO_PI, IFF_UP = 0x400454CA, 0x0001, 0x1000, 0x1
RTM_NEWLINK, RTM_NEWADDR, RTM_NEWROUTE = 16, 20, 24
NLM_F_REQUEST, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLMSG_ERROR = 0x1, 0x4, 0x400, 0x200, 2
IFLA_MTU, IFLA_TXQLEN, IFA_ADDRESS, IFA_LOCAL, RTA_DST, RTA_OIF = 4, 13, 1, 2, 1, 4
RT_TABLE_LOCAL, RT_TABLE_MAIN, RTPROT_STATIC, RTN_UNICAST, RTN_LOCAL = 255, 254, 4, 1, 2
RT_SCOPE_LINK, RT_SCOPE_HOST = 253, 254


class CellError(CoinferError):
    """The link could not be made as asked."""


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def unshare_network() -> bool:
    """Go into a network namespace of one's own; True where a user namespace was needed for it.

    Raises `CellError` where this user gets neither.
    """
    if _libc().unshare(CLONE_NEWNET) == 0:
        return False
    if ctypes.get_errno() != errno.EPERM:
        raise _refused("a network namespace")
    user, group = os.geteuid(), os.getegid()
    if _libc().unshare(CLONE_NEWUSER) != 0:
        raise _refused("a user namespace")
    # the user stays who they are; groups cannot be kept
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"),
                       ("gid_map", f"{group} {group} 1")):  # fmt: skip
        Path(f"/proc/self/{name}").write_text(text)
    if _libc().unshare(CLONE_NEWNET) != 0:
        raise _refused("a network namespace inside a user namespace")
    return True


def _refused(what: str) -> CellError:
    code = ctypes.get_errno()
    why = "no more allowed" if code == errno.ENOSPC else os.strerror(code).lower()
    return CellError(f"{what}: found {why}, expected root, or a kernel that grants it to users")


def be_punctual() -> None:
    """Let this process wake as exactly as the kernel can, and before others where it may.

    It needs little of a core; a link that waits for whoever computes would be a slower one.
    """
    _libc().prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0)
    with contextlib.suppress(OSError):  # of users it is refused
        policy = os.SCHED_RR | os.SCHED_RESET_ON_FORK
        os.sched_setscheduler(0, policy, os.sched_param(1))


def open_tun(interface: str) -> int:
    """A TUN interface in this namespace; it goes when its descriptor is closed."""
    try:
        device = os.open(TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(
            device, TUNSETIFF, struct.pack("16sH22x", interface.encode(), IFF_TUN | IFF_NO_PI)
        )
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise CellError(f"{TUN}: found {why}, expected a device to make a link with") from None
    return device


def bring_up(interface: str, mtu: int | None = None) -> None:
    """Bring an interface of this namespace up."""
    attributes = b"" if mtu is None else _attribute(IFLA_MTU, struct.pack("I", mtu))
    body = struct.pack("BxHiII", 0, 0, socket.if_nametoindex(interface), IFF_UP, IFF_UP)
    _ask(RTM_NEWLINK, 0, body + attributes, f"interface {interface}")


def give_address(interface: str, address: str, peer: str) -> None:
    """Give an interface its address, and that of the other end."""
    body = struct.pack("BBBBi", socket.AF_INET, 32, 0, 0, socket.if_nametoindex(interface))
    own = _attribute(IFA_LOCAL, socket.inet_aton(address))
    other = _attribute(IFA_ADDRESS, socket.inet_aton(peer))
    _ask(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, body + own + other, f"address {address}")


def route_everything(interface: str) -> None:
    """Send every packet without a nearer route through an interface."""
    _route(interface, RTN_UNICAST, RT_SCOPE_LINK)


def answer_to_everything() -> None:
    """Take packets to any address without a nearer route as this namespace's own."""
    _route("lo", RTN_LOCAL, RT_SCOPE_HOST)


def route_loopback(interface: str, address: str) -> None:
    """Send packets to one loopback address through an interface, and take its answers."""
    take_loopback(interface)
    _route(interface, RTN_UNICAST, RT_SCOPE_LINK, RT_TABLE_LOCAL, address)


def take_loopback(interface: str) -> None:
    """Let packets from and to loopback addresses come in by an interface, where that can be set."""
    with contextlib.suppress(OSError):  # in a container /proc/sys may be read-only
        Path(f"/proc/sys/net/ipv4/conf/{interface}/route_localnet").write_text("1")


def _route(
    interface: str, kind: int, scope: int, table: int = RT_TABLE_MAIN, address: str | None = None
) -> None:
    """A route to one address, or to every one."""
    length = 0 if address is None else 32
    body = struct.pack(
        "BBBBBBBBI", socket.AF_INET, length, 0, 0, table, RTPROT_STATIC, scope, kind, 0
    )
    if address is not None:
        body += _attribute(RTA_DST, socket.inet_aton(address))
    out = _attribute(RTA_OIF, struct.pack("i", socket.if_nametoindex(interface)))
    _ask(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, body + out, f"route through {interface}")


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _ask(kind: int, flags: int, body: bytes, what: str) -> None:
    """One request over rtnetlink, and its acknowledgement."""
    header = struct.pack("IHHII", 16 + len(body), kind, NLM_F_REQUEST | NLM_F_ACK | flags, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as asked:
        asked.bind((0, 0))
        asked.send(header + body)
        answer = asked.recv(8192)
    code = struct.unpack_from("i", answer, 16)[0]
    if struct.unpack_from("H", answer, 4)[0] != NLMSG_ERROR or code != 0:
        raise CellError(f"{what}: found {os.strerror(-code).lower()}, expected it to be set")
