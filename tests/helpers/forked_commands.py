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
LONGEST_S = 150
"""A command that takes longer is ended by SIGALRM."""


class Server:
    """The process that commands are forked from; `run` is for one thread."""

    def __init__(self, root, env=None, also=()):
        """`env` is what its interpreter begins in (this process's): its locale lasts.

        `also`: modules that it imports beside what all commands share.
        """
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, *also], encoding="ascii", stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, env=(os.environ if env is None else env) | {"PYTHONPATH": root},
        )  # fmt: skip

    def run(self, module, *argv, folder, cwd=None, env=None, text=True):
        """`python -m MODULE ARGV...` in `cwd` (this process's): how it ended and what it said.

        `env` is all of its environment (this process's); its streams are files in `folder`, read as
        `text` or as bytes.
        """
        streams = [Path(folder) / f".{name}" for name in ("stdout", "stderr")]
        own = os.environ if env is None else env
        request = {
            "module": module, "argv": [packed(a) for a in argv], "cwd": packed(cwd or Path.cwd()),
            "env": {packed(k): packed(v) for k, v in own.items()},
            "streams": [packed(s) for s in streams],
        }  # fmt: skip
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        said = [stream.read_text() if text else stream.read_bytes() for stream in streams]
        for stream in streams:
            stream.unlink()
        return subprocess.CompletedProcess(argv, code, *said)

    def close(self):
        """End it."""
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(30)


def packed(value):
    """What the system is given for a name, as text that any locale carries."""
    return os.fsencode(str(value)).decode("latin-1")


def unpacked(text):
    """That name, as this process's locale has it."""
    return os.fsdecode(text.encode("latin-1"))


def serve():
    """Fork and answer until the requests end."""
    for name in (*SHARED, *sys.argv[1:]):
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
    cwd = unpacked(request["cwd"])
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update({unpacked(k): unpacked(v) for k, v in request["env"].items()})
    empty = os.open(os.devnull, os.O_RDONLY)
    for number, place in enumerate([empty, *map(unpacked, request["streams"])]):
        opened = place if number == 0 else os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, number)
        os.close(opened)
    sys.argv = ["", *map(unpacked, request["argv"])]
    known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [cwd, *(place for place in known if place not in sys.path)]  # as `python -m`
    runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    serve()
