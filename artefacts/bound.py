"""Run in every child of ours before its command: the child ends with whoever started it.

    python -I -S bound.py PARENT PIPE COMMAND...

The kernel is asked to kill this process when its parent ends, however that happens. A parent that
ended before it could be asked is found by its process id. Then this process becomes the command,
and the pipe closes; where it cannot, the system's error number is written into it first. It is run
by its path (see `artefacts.processes`), so it imports nothing of ours.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
NOT_RUN = 126


def main() -> None:
    """Bind, then be the command."""
    parent, pipe, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    os.set_inheritable(pipe, False)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(128 + signal.SIGKILL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        os.write(pipe, str(error.errno).encode())
        os._exit(NOT_RUN)


if __name__ == "__main__":
    main()
