"""Tools as processes of their own: what they started is found by a mark that children inherit."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MARK = "COINFER_TEST_MARK"


def until(true, what, timeout_s=60.0):
    """Poll for what other processes do."""
    limit_s = time.monotonic() + timeout_s
    while time.monotonic() < limit_s:
        found = true()
        if found:
            return found
        time.sleep(0.02)
    pytest.fail(f"{what}: not within {timeout_s:g} s")


def marked(mark):
    """Processes that live and were started with a mark, by whomever: id and command line."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            if f"{MARK}={mark}".encode() in environment:
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                found[int(folder.name)] = command.decode(errors="replace")
        except OSError:
            continue
    return found


class Tool:
    """A command in a session of its own, with its own folder for temporary files."""

    def __init__(self, command, folder, *, ignored=(), stdin=None, **environment):
        self.folder, self.mark = folder, uuid.uuid4().hex
        folder.mkdir(exist_ok=True)

        def heard():
            # a shell's background jobs, these tests perhaps among them, are deaf to Ctrl-C
            for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)

        own = {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder), MARK: self.mark}
        self.process = subprocess.Popen(
            [sys.executable, *map(str, command)], env=os.environ | own | environment, cwd=folder,
            stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True, preexec_fn=heard,
        )  # fmt: skip
        self.said = None

    @property
    def pid(self):
        return self.process.pid

    def children(self):
        """Everything alive of its tree, itself aside."""
        return {pid: command for pid, command in marked(self.mark).items() if pid != self.pid}

    def running(self, *parts):
        """Wait until for each part there is a process with it in its command line."""

        def there():
            ended = self.process.poll() is not None
            assert not ended, self.process.stderr.read()
            commands = self.children().values()
            return all(any(part in command for command in commands) for part in parts)

        until(there, f"processes with {parts}")

    until = staticmethod(until)

    def kill(self):
        """End it as nothing can notice; then the kernel ends its tree."""
        return self.end(signal.SIGKILL)

    def line(self):
        return self.process.stdout.readline().strip()

    def end(self, number=None, within_s=30.0):
        """Send a signal; the exit code once the process and all its tree have ended."""
        if number is not None:
            self.process.send_signal(number)
        self.said = self.process.communicate(timeout=within_s)
        until(lambda: not marked(self.mark), f"the end of {self.children()}", 5.0)
        return self.process.returncode

    def left(self):
        """Our temporary folders that are still there."""
        return sorted(path.name for path in self.folder.glob("coinfer-*"))

    def close(self):
        for pid in marked(self.mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def tool(tmp_path):
    """Starts tools; whatever is alive of them when the test ends is killed."""
    begun = []

    def start(command, folder=None, **options):
        begun.append(Tool(command, folder or tmp_path / "temporary", **options))
        return begun[-1]

    yield start
    for one in begun:
        one.close()


@pytest.fixture
def program(tmp_path):
    """Writes a program to run as a tool: its command."""

    def write(text, name="program.py"):
        path = tmp_path / name
        path.write_text(textwrap.dedent(text))
        return [path]

    return write
