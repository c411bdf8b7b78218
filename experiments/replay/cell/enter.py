"""Run a command inside a link's namespaces; with --keep, end all that it started when it ends.

    python -I -S enter.py [--keep PARENT] USER NETWORK COMMAND...

USER and NETWORK are paths of namespaces (USER may be empty). Without --keep this process becomes
the command. With it, it waits: SIGTERM and the end of the process PARENT end the command, and
whatever is left of what the command started is killed. The exit code is the command's; 127 where
there is none of that name, 126 where it cannot be run. It is run by its path, so it imports nothing
of ours.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator
from typing import NoReturn

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
NOT_RUN, NOT_FOUND = 126, 127
GRACE_S = 3.0
"""That the command gets between SIGTERM and SIGKILL."""
SWEPT_WITHIN_S = 5.0
LOOK_S = 0.05
WATCHED = {signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP}
_libc = ctypes.CDLL(None, use_errno=True)


def enter(path: str, kind: int) -> None:
    """Go into a namespace."""
    with open(path, "rb") as there:
        if _libc.setns(there.fileno(), kind) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)


def become(command: list[str]) -> NoReturn:
    """Be the command; ends this process where that cannot be."""
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        sys.stderr.flush()
        os._exit(NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_RUN)


def begin(command: list[str]) -> int:
    """Start the command with the signals as they were; it is killed with this process."""
    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGQUIT)}
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    for number in handlers:  # of the terminal's signals the command makes what it wants
        signal.signal(number, signal.SIG_IGN)
    own = os.getpid()
    child = os.fork()
    if child:
        return child
    _libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != own:
        os._exit(128 + signal.SIGKILL)
    for number, handler in handlers.items():
        ignored = handler is signal.SIG_IGN
        signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
    become(command)


def wait_for(child: int) -> int:
    """The command's exit code; SIGTERM ends it."""
    until_s = None
    while True:
        wait_s = 3600.0 if until_s is None else max(until_s - time.monotonic(), 0.0)
        got = signal.sigtimedwait(WATCHED, wait_s)
        if got is None and until_s is not None:
            os.kill(child, signal.SIGKILL)
            until_s = None
        elif got is not None and got.si_signo != signal.SIGCHLD and until_s is None:
            os.kill(child, signal.SIGTERM)
            os.kill(child, signal.SIGCONT)
            until_s = time.monotonic() + GRACE_S
        for pid, code in ended():
            if pid == child:
                return 128 - code if code < 0 else code


def ended() -> Iterator[tuple[int, int]]:
    """(process id, exit code) of children that have ended."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        yield pid, os.waitstatus_to_exitcode(status)


def adopt() -> None:
    """Let whatever loses its parent among our descendants come to this process."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def sweep(spared: int | None = None) -> None:
    """Kill whatever the command has left, and what comes to this process thereby."""
    until_s = time.monotonic() + SWEPT_WITHIN_S
    while time.monotonic() < until_s:
        for _ in ended():
            pass
        left = [pid for pid in children() if pid != spared]
        if not left:
            return
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(LOOK_S)


def children() -> list[int]:
    """Process ids of our children."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as stat:
                if int(stat.read().rpartition(b")")[2].split()[1]) == os.getpid():
                    found.append(int(name))
    return found


def main() -> None:
    """Enter, then keep the command or be it."""
    arguments = sys.argv[1:]
    parent = None
    if arguments[0] == "--keep":
        parent, arguments = int(arguments[1]), arguments[2:]
    user, network, *command = arguments
    try:
        if user:
            enter(user, CLONE_NEWUSER)
        enter(network, CLONE_NEWNET)
    except OSError as error:
        sys.exit(f"{error.filename}: {error.strerror}")
    if parent is None:
        become(command)
    adopt()
    child = begin(command)
    _libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)
    code = wait_for(child)
    sweep()
    os._exit(code)


if __name__ == "__main__":
    main()
