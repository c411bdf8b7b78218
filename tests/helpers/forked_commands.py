"""Commands as processes of their own that are forked from one, which has imported what they share.

Starting Python and importing what a command needs takes half a second, a fork some milliseconds.
Each command has its own process all the same: its folder, environment, streams and exit code. Where
a test is about the start of the interpreter itself, it starts one.

This file is the client, and as a script the server: a request a line of JSON, an answer a line.
"""

import gc
import json
import os
import runpy
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path

SHARED = (
    "numpy.random", "msgspec", "pydantic.main", "typer.rich_utils", "coinfer.cli.app",
    "coinfer.cli.entry", "controller.daemon.main", "experiments.evaluation.comparison",
    "experiments.learning.explanation",
)  # fmt: skip
"""Imported once. What a command imports beside them it imports itself."""
LONGEST_S = 120
"""A command that takes longer is ended by SIGALRM."""


class Server:
    """The process that commands are forked from; `run` is for one thread."""

    def __init__(self, root):
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__], text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(root)},
        )  # fmt: skip

    def run(self, module, *argv, folder, cwd=None, env=None):
        """`python -m MODULE ARGV...` in `cwd` (this process's): how it ended and what it said.

        `env` is all of its environment (this process's); its streams are files in `folder`.
        """
        streams = [Path(folder) / f".{name}" for name in ("stdout", "stderr")]
        request = {
            "module": module, "argv": [str(a) for a in argv], "cwd": str(cwd or Path.cwd()),
            "env": dict(os.environ if env is None else env), "streams": [str(s) for s in streams],
        }  # fmt: skip
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        said = [stream.read_text() for stream in streams]
        for stream in streams:
            stream.unlink()
        return subprocess.CompletedProcess(argv, code, *said)

    def close(self):
        """End it."""
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(30)


def serve():
    """Fork and answer until the requests end."""
    for name in SHARED:
        import_module(name)
    gc.freeze()  # a collection in the forked process would copy every page of what is shared
    answers = os.fdopen(os.dup(1), "w")  # the command's own standard output is another file
    while line := sys.stdin.readline():
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            answers.close()
            become(request)
            return
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)


def become(request):
    """Run one command to its end, in this process."""
    signal.alarm(LONGEST_S)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    empty = os.open(os.devnull, os.O_RDONLY)
    for number, place in enumerate([empty, *request["streams"]]):
        opened = place if number == 0 else os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, number)
        os.close(opened)
    sys.argv = ["", *request["argv"]]
    sys.path.insert(0, request["cwd"])  # as `python -m` has it
    runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    serve()
