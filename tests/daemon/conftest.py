"""A daemon as a real process, and an engine on loopback, for the daemon's tests."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

CONFIG = """format_version = 1
scenario = "3g-alexnet"
{more}
[http]
port = {port}
socket = "device.sock"
{http}
"""


class Running:
    """A daemon process: where it listens, its log, and a way to write its configuration."""

    def __init__(self, folder, more, environment, port="0", http=""):
        self.folder, self.config, self._port, self.http = folder, folder / "device.toml", port, http
        self.write(more)
        ready = folder / "ready"
        command = [sys.executable, "-m", "coinfer.cli.main", "device", "--config", self.config]
        self.log = (folder / "log").open("w+")
        self.process = subprocess.Popen(
            [*command, "--ready-file", ready], stderr=self.log, stdout=self.log, cwd=folder,
            env=os.environ | environment,
        )  # fmt: skip
        self.until(lambda: ready.exists() or self.process.poll() is not None)
        if not ready.exists():
            self.log.close()
        assert ready.exists(), self.said()
        reported = ready.read_text().splitlines()
        self.address, self.unix, *more = reported if port != "-1" else ["", *reported]
        self.grpc = more[0].removeprefix("grpc://") if more else None

    def write(self, more):
        text = CONFIG.format(more=more, port=self._port, http=self.http).replace(
            "device.sock", str(self.folder / "device.sock")
        )
        fresh = self.config.with_suffix(".new")
        fresh.write_text(text)
        fresh.rename(self.config)

    def said(self):
        return (self.folder / "log").read_text()

    def until(self, true, seconds=60.0):
        """Wait for another process: nothing here can hear when it is there."""
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, self.said()
            time.sleep(0.01)

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.process.wait(30)


@pytest.fixture
def running(tmp_path):
    """`with running(more) as daemon:` a daemon whose configuration ends so."""
    return starter(tmp_path)


@pytest.fixture(scope="module")
def running_module(tmp_path_factory):
    """The same for a daemon that all tests of a file share."""
    return starter(tmp_path_factory.mktemp("daemon"))


def starter(folder):
    @contextlib.contextmanager
    def start(more="", port="0", http="", **environment):
        daemon = Running(folder, more, environment, port, http)
        try:
            yield daemon
        finally:
            if daemon.process.poll() is None:
                daemon.process.kill()
                daemon.process.wait()
            daemon.log.close()

    return start
