"""The console entry point: what holds for every command, before and after it.

Signals are handled and standard streams made ready before anything heavy is imported. A user's
mistake, and what the system refuses, is one line on standard error and exit code 2.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import select
import signal
import sys
from types import FrameType
from typing import NoReturn

INTERRUPTED, PIPE_CLOSED = 130, 141
"""As shells say it of a process that SIGINT, or SIGPIPE, has ended."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
THREADS_S = 5.0
"""That threads of other code may still take at the end."""
REFUSALS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
)
"""What a system has no more of; no fault of a program's."""


class _Ended:
    """How this process ends: 1 where an error of ours leaves a traceback."""

    code = 1


def run() -> NoReturn:
    """Run the command line and exit."""
    atexit.register(_leave_threads_behind)  # first, and so called last
    try:
        signal.signal(signal.SIGTERM, _exit)  # at once: what follows takes a moment to load
        hangups: list[int] = []
        if _is_daemon(sys.argv[1:]):
            signal.signal(signal.SIGHUP, lambda number, frame: hangups.append(number))
        from artefacts.endings import remember_hangups, unwind_from_start

        remember_hangups(hangups)
        unwind_from_start()
        _fill_closed_streams()
        for stream in (sys.stdout, sys.stderr):
            # a name that the stream's encoding lacks is printed in escapes
            if stream.errors == "strict":
                stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        code = _command()
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except OSError as error:
        code = _refused(error)
    except Exception as error:
        ended = _ended_by_signal(error)
        if ended is None:
            raise
        code = ended
    except SystemExit as asked:
        code = asked.code if isinstance(asked.code, int) else int(asked.code is not None)
        _Ended.code = code
        _bound_last_threads()
        raise
    _Ended.code = code
    _bound_last_threads()
    raise SystemExit(code)


def _bound_last_threads() -> None:
    """Let threads that the interpreter waits for at its end have their time, and no longer.

    What a user's module begins may never end, and the command would not either.
    """
    threads = sys.modules.get("threading")
    if threads is None:
        return
    main = threads.main_thread()
    if all(one is main or one.daemon for one in threads.enumerate()):
        return

    def end() -> None:
        left = [one.name for one in threads.enumerate() if not (one is main or one.daemon)]
        if left:
            _say(f"found thread '{left[0]}' still running, expected none: it is not waited for")
        _exit_at_once()

    timer = threads.Timer(THREADS_S, end)
    timer.daemon = True
    timer.start()


def _leave_threads_behind() -> None:
    """End the process here where threads still compute that nobody waits for.

    The interpreter ends such a thread when it comes back from native code, by an unwinding that
    C++ answers with `abort`: a daemon that is asked to end while its network loads would die so.
    """
    threads = sys.modules.get("threading")
    if threads is None or all(
        one is threads.main_thread() or not one.daemon for one in threads.enumerate()
    ):
        return
    _exit_at_once()


def _exit_at_once() -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(_Ended.code)


def _exit(number: int, frame: FrameType | None) -> NoReturn:
    """End where nothing has begun."""
    raise SystemExit(128 + number)


def _is_daemon(arguments: list[str]) -> bool:
    """Whether this becomes a process to which SIGHUP means that its files are to be read again."""
    named = any(one == "--config" or one.startswith("--config=") for one in arguments)
    return named and arguments[0] in ("device", "edge")


def _bound_threads(usable: int, machine: int) -> None:
    """Let numerical libraries start no more threads than may run; they count the machine's."""
    if usable < machine:
        for name in THREAD_VARIABLES:
            os.environ.setdefault(name, str(usable))


def _command() -> int:
    """Run one command; its exit code."""
    from artefacts import usable_cpus

    _bound_threads(usable_cpus(), os.cpu_count() or 1)
    import typer
    from typer.exceptions import TyperException
    from typer.main import get_command

    from artefacts import CoinferError

    try:
        from coinfer.cli.app import app

        code = get_command(app).main(prog_name="coinfer", standalone_mode=False)
    except TyperException as error:
        # a wrong option: the parser's own words, in our one line
        said = str(getattr(error, "format_message", error.__str__)())
        if said:
            _say(f"{' '.join(said.split())} ('--help' lists what there is)")
        return 2
    except typer.Abort:
        return INTERRUPTED
    except (CoinferError, ModuleNotFoundError) as error:
        ended = _ended_by_signal(error)
        if ended is None:
            _say(_mistake(error))
            return error.exit_code if isinstance(error, CoinferError) else 2
        return ended
    return code if isinstance(code, int) else 0


def _mistake(error: Exception) -> str:
    """A user's mistake in one line."""
    if isinstance(error, ModuleNotFoundError):
        from artefacts.namesakes import clash

        hidden = clash(error.name or "")
        if hidden is not None:
            return hidden
        from artefacts.errors import extra_of, without_package

        return str(without_package("this command", error.name, extra_of(error.name)))
    return str(error)


def _refused(error: OSError) -> int:
    """Say in one line what the system refused; a bug's error is raised again."""
    if isinstance(error, BrokenPipeError) and _nobody_reads():
        _discard_output()
        return PIPE_CLOSED
    why = (error.strerror or str(error)).lower()
    if error.filename is not None:
        where = error.filename
        named = os.fsdecode(where) if isinstance(where, str | bytes) else str(where)
        _say(f"{named}: found {why}, expected a place that can be used")
    elif error.errno in REFUSALS:
        _say(f"found {why}, expected room to work in")
    elif _is_of_places(error) or _is_of_places(error.__cause__):
        _say(" ".join((error.strerror or str(error)).split()))
    else:
        raise error
    _discard_output()
    return 2


def _is_of_places(error: BaseException | None) -> bool:
    """Whether an error is `tempfile`'s, which names the places that it tried in its text."""
    return isinstance(error, FileNotFoundError) and error.filename is None


def _ended_by_signal(error: BaseException) -> int | None:
    """The exit code where an error is what some library has made of a signal; else None.

    Extension modules turn whatever is raised while they load into an `ImportError`.
    """
    from artefacts.endings import Terminated

    said: BaseException | None = error
    while said is not None:
        if isinstance(said, Terminated):
            return int(said.code or 0)
        if isinstance(said, KeyboardInterrupt):
            return INTERRUPTED
        # 'from None' hides what an error was made of; what merely came while another was handled
        # is a mistake of its own
        hidden = said.__context__ if said.__suppress_context__ else None
        said = said.__cause__ or hidden
    return None


def _say(line: str) -> None:
    from artefacts.printing import printable, shortened

    with contextlib.suppress(OSError, ValueError):  # nobody is there to hear it
        sys.stderr.write(f"coinfer: {printable(shortened(line))}\n")


def _nobody_reads() -> bool:
    """Whether standard output is a pipe whose reader has gone."""
    poll = select.poll()
    try:
        poll.register(sys.stdout.fileno(), 0)
    except (OSError, ValueError):
        return False
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _discard_output() -> None:
    """Let go of what is still to be written, which the interpreter would try again at its end."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def _fill_closed_streams() -> None:
    """Open what a parent has closed, so that no file of ours becomes standard output."""
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(handle)
    # the interpreter has made none for what was closed
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


if __name__ == "__main__":
    run()
