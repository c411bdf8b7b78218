"""A reload reads and plans on a thread of its own; a hung one is given up and ends nothing."""

import os
import queue
import threading

import pytest

from artefacts import ArtefactError, UsageError
from controller.daemon.client import Client, DeviceError
from controller.daemon.configuration.device_reloading import PreparedDevice, prepare_device
from controller.daemon.configuration.reloading import (
    HUNG_S,
    MOST_HUNG,
    TWIN_S,
    Preparing,
    TwinReloads,
)

WAIT_S = 10.0


class Desk:
    """A reload whose making waits until it is let go, on a clock that the test sets."""

    def __init__(self):
        self.now_s, self.reports, self.begun = 0.0, queue.Queue(), queue.Queue()
        self.preparing = Preparing(self.make, self.reports.put, lambda: self.now_s)

    def make(self):
        gate, found = threading.Event(), []
        self.begun.put((gate, found))
        assert gate.wait(WAIT_S)
        if isinstance(found[0], BaseException):
            raise found[0]
        return found[0]

    def end(self, found):
        gate, said = self.begun.get(timeout=WAIT_S)
        said.append(found)
        gate.set()

    def hang(self):
        return self.begun.get(timeout=WAIT_S)


def test_it_is_made_elsewhere_and_reported_once():
    desk = Desk()
    made = PreparedDevice(None, None)
    desk.preparing.ask()
    assert desk.reports.empty()
    desk.end(made)
    assert desk.reports.get(timeout=WAIT_S) is made
    desk.preparing.ask()
    desk.end(UsageError("controller: found 'x'"))
    assert desk.reports.get(timeout=WAIT_S) == "controller: found 'x'"
    desk.preparing.ask()
    desk.end(KeyError("x"))
    assert "KeyError" in desk.reports.get(timeout=WAIT_S)


def test_asked_again_meanwhile_it_is_made_once_more_and_the_last_counts():
    desk = Desk()
    first, last = PreparedDevice(None, None), PreparedDevice(1, 1)
    for _ in range(5):
        desk.preparing.ask()
    desk.end(first)
    desk.end(last)
    assert desk.reports.get(timeout=WAIT_S) is last
    assert desk.reports.empty()
    assert desk.begun.empty()


def test_what_hangs_is_given_up_and_not_without_end():
    desk, hanging = Desk(), []
    for _ in range(MOST_HUNG):
        desk.preparing.ask()
        hanging.append(desk.hang())
        assert desk.preparing.hung() is None
        desk.now_s += HUNG_S
        assert "not read within" in desk.preparing.hung()
        assert desk.preparing.hung() is None
    desk.preparing.ask()
    assert f"{MOST_HUNG} reloads hang" in desk.reports.get(timeout=WAIT_S)
    for gate, found in hanging:  # what they still give is let go
        found.append(PreparedDevice(None, None))
        gate.set()
    for thread in desk.preparing._threads:
        thread.join(WAIT_S)
    made = PreparedDevice(2, 2)
    desk.preparing.ask()
    desk.end(made)
    assert desk.reports.get(timeout=WAIT_S) is made
    assert desk.reports.empty()


def test_what_was_asked_for_behind_one_that_hangs_is_made_beside_it():
    desk, made = Desk(), PreparedDevice(3, 3)
    desk.preparing.ask()
    gate, found = desk.hang()
    for _ in range(5):
        desk.preparing.ask()  # a corrected file
    assert desk.preparing.hung() is None
    desk.now_s += HUNG_S
    assert "not read within" in desk.preparing.hung()
    desk.end(made)
    assert desk.reports.get(timeout=WAIT_S) is made
    found.append(PreparedDevice(None, None))
    gate.set()
    for thread in desk.preparing._threads:
        thread.join(WAIT_S)
    assert desk.reports.empty()
    assert desk.begun.empty()


def test_where_each_one_hangs_the_last_is_said_and_no_more_are_begun():
    desk = Desk()
    desk.preparing.ask()
    hanging = []
    for number in range(MOST_HUNG):
        hanging.append(desk.hang())
        desk.preparing.ask()
        desk.now_s += HUNG_S
        said = desk.preparing.hung()
        assert (f"{MOST_HUNG} reloads hang" in said) == (number == MOST_HUNG - 1)
    assert desk.begun.empty()
    for gate, found in hanging:
        found.append(PreparedDevice(None, None))
        gate.set()


def test_an_exception_of_any_kind_is_a_reason():
    for error in (KeyboardInterrupt(), GeneratorExit(), SystemExit(3)):
        desk = Desk()
        desk.preparing.ask()
        desk.end(error)
        assert type(error).__name__ in desk.reports.get(timeout=WAIT_S)


def test_a_pipe_that_nobody_writes_is_refused(tmp_path, stream):
    os.mkfifo(tmp_path / "map.json")
    os.mkfifo(tmp_path / "policy.json")
    config = tmp_path / "device.toml"
    for more in ('controller = "map"\nmap = "map.json"', 'controller = "learned"\npolicy = "."'):
        config.write_text(f'format_version = 1\nscenario = "3g-alexnet"\n{more}\n')
        with pytest.raises(ArtefactError, match="found a pipe, expected a file"):
            prepare_device(config, stream)


def test_without_a_port_the_socket_alone_is_served_and_only_its_own_is_removed(running, tmp_path):
    other = tmp_path / "other.sock"
    with running("", port="-1") as daemon:
        assert not daemon.address
        with Client(f"unix:{tmp_path / 'device.sock'}") as client:
            assert client.state()["model"] == "alexnet"
        assert "listening on http" not in daemon.said()
        # another daemon's socket has taken the place of ours
        (tmp_path / "device.sock").rename(other)
        (tmp_path / "device.sock").write_text("")
        assert daemon.stop() == 0
    assert (tmp_path / "device.sock").exists()
    with pytest.raises(DeviceError), Client(f"unix:{other}") as client:
        client.state()


def test_a_change_and_its_signal_are_one_line_of_the_log():
    now = [0.0]
    twins = TwinReloads(lambda: now[0])
    twins.asked(by_signal=False)
    assert not twins.repeats(("limits",))
    twins.asked(by_signal=True)
    assert twins.repeats((), differs=False)
    # a second signal is somebody who wants to hear
    twins.asked(by_signal=True)
    assert not twins.repeats((), differs=False)
    twins.asked(by_signal=False)
    assert not twins.repeats(("tls",))
    now[0] += TWIN_S
    twins.asked(by_signal=True)
    assert not twins.repeats(("tls",))
    twins.asked(by_signal=False)
    assert twins.repeats(("tls",))
