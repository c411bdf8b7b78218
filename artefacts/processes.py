"""Child processes that end with this one, whatever way it ends.

Nothing of ours starts a process in another way. Every child is a group of its own, so that Ctrl-C
at a terminal reaches only this process, which ends its children in order. Where this process is
killed, the kernel kills its children (`artefacts.bound`). Our own modules run with `-P`: a file in
the working folder that is called as one of ours is not taken for it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import site
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from artefacts.endings import orderly, shielded

ROOT = Path(__file__).resolve().parent.parent
BOUND = Path(__file__).resolve().with_name("bound.py")
GRACE_S = 5.0
"""That children get between SIGTERM and SIGKILL."""
KILLED_WITHIN_S = 10.0
LOOK_S = 0.01


def module_command(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of ours, the same code as in this process."""
    return [sys.executable, "-P", "-m", module, *arguments]


def child_environment(given: Mapping[str, str] | None = None) -> dict[str, str]:
    """An environment (this process's) in which our modules are found without a working folder.

    The folder that holds them is named first, unless it is one where installed packages lie: that
    one is searched anyway, and before the standard library it could hide a part of it.
    """
    made = dict(os.environ if given is None else given)
    installed = {Path(p).resolve() for p in (*site.getsitepackages(), site.getusersitepackages())}
    if ROOT not in installed:
        others = made.get("PYTHONPATH")
        made["PYTHONPATH"] = f"{ROOT}{os.pathsep}{others}" if others else str(ROOT)
    return made


def start(
    command: Sequence[str], *, env: Mapping[str, str] | None = None, **options: Any
) -> subprocess.Popen[Any]:
    """`subprocess.Popen` of a child that is killed when this process ends, from the return on.

    Only for the main thread: the kernel ends a child with the *thread* that started it. A command
    that does not exist is a `FileNotFoundError`, as with `Popen`.
    """
    _check_thread()
    with _begun(command, env, options) as (process, said):
        return _bound(process, said)


async def start_beside(
    command: Sequence[str], *, env: Mapping[str, str] | None = None, **options: Any
) -> subprocess.Popen[Any]:
    """`start` of an event loop of the main thread, which does its other work meanwhile."""
    import asyncio

    _check_thread()
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    with _begun(command, env, options) as (process, said):
        loop.add_reader(said, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(said)
        return _bound(process, said)


def _check_thread() -> None:
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("a child that outlives this call must be started by the main thread")


@contextlib.contextmanager
def _begun(
    command: Sequence[str], env: Mapping[str, str] | None, options: Mapping[str, Any]
) -> Iterator[tuple[subprocess.Popen[Any], int]]:
    """A child, and a pipe on which it says that it is bound. It ends where the block fails."""
    named = [str(part) for part in command]
    said, saying = os.pipe()
    try:
        try:
            binding = [sys.executable, "-I", "-S", str(BOUND), str(os.getpid()), str(saying)]
            process = subprocess.Popen(
                [*binding, *named], env=child_environment(env), start_new_session=True,
                pass_fds=(saying,), **options,
            )  # fmt: skip
        finally:
            os.close(saying)
        process.args = named  # what messages name
        try:
            yield process, said
        except BaseException:
            end([process], grace_s=0.0)
            raise
    finally:
        os.close(said)


def _bound(process: subprocess.Popen[Any], said: int) -> subprocess.Popen[Any]:
    """The child, once it is bound: one that is stopped earlier could outlive us."""
    failed = os.read(said, 16)
    if failed:
        raise OSError(int(failed), os.strerror(int(failed)), process.args[0])  # type: ignore[index]
    return process


def run(
    command: Sequence[str],
    *,
    timeout_s: float | None = None,
    env: Mapping[str, str] | None = None,
    **options: Any,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, from any thread; its output as text.

    Raises `subprocess.TimeoutExpired` after `timeout_s`; the command is ended then, and at every
    other exception.
    """
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    more = pipes | {"text": True, "errors": "replace"} | options
    with _begun(command, env, more) as (process, said):
        _bound(process, said)
    try:
        out, err = process.communicate(timeout=timeout_s)
    except BaseException:
        end([process], grace_s=0.0)
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def end(processes: Sequence[subprocess.Popen[Any]], grace_s: float = GRACE_S) -> None:
    """End processes and what they started: SIGTERM to all, `grace_s` for all, then SIGKILL.

    A signal that comes meanwhile is obeyed afterwards. Pipes to them are closed.
    """
    with shielded():
        living = [process for process in processes if process.returncode is None]
        if grace_s > 0:
            for process in living:
                _signal(process, signal.SIGTERM)
                _signal(process, signal.SIGCONT)  # a stopped one hears nothing else
        until = time.monotonic() + grace_s
        for process in living:
            _end(process, until)
        for process in processes:
            _close(process)


def _end(process: subprocess.Popen[Any], until: float) -> None:
    """Wait, kill its group while its number is still its own, and take its exit code."""
    while not _exited(process) and time.monotonic() < until:
        time.sleep(LOOK_S)
    _signal(process, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(KILLED_WITHIN_S)


def _exited(process: subprocess.Popen[Any]) -> bool:
    if process.returncode is not None:
        return True
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
    except ChildProcessError:
        return True


def _signal(process: subprocess.Popen[Any], number: signal.Signals) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)


def _close(process: subprocess.Popen[Any]) -> None:
    pipes: tuple[IO[Any] | None, ...] = (process.stdin, process.stdout, process.stderr)
    for pipe in pipes:
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


class Children:
    """A context: whatever is started by it has ended when it is left, in whatever way.

    SIGTERM and SIGHUP unwind it (`orderly`).
    """

    def __init__(self, grace_s: float = GRACE_S) -> None:
        self._grace_s = grace_s
        self._started: list[subprocess.Popen[Any]] = []
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Children:
        """Take over the signals."""
        self._stack.enter_context(orderly())
        return self

    def start(self, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """See `start`."""
        process = start(command, **options)
        self._started.append(process)
        return process

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End all of them."""
        with self._stack:
            end(self._started, self._grace_s)


def end_with_parent(parent: int) -> None:
    """Of a process that others started for us (multiprocessing): the kernel kills it with `parent`.

    The parent's starting thread must be its main one. A parent that has ended ends this process.
    """
    import ctypes

    from artefacts.bound import PR_SET_PDEATHSIG

    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(128 + signal.SIGKILL)
