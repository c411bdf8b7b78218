"""SIGTERM and SIGINT end a daemon at every moment, as the first process of a container too."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from artefacts import DependencyError, endings
from coinfer.cli.entry import _ended_by_signal

CONTAINER = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]
if os.geteuid() != 0:
    CONTAINER.insert(1, "--map-root-user")
DEVICE = 'format_version = 1\nscenario = "3g-alexnet"\n[http]\nport = 0\n'
EDGE = 'format_version = 1\nmodels = ["alexnet"]\nport = 0\n'
COMMANDS = {
    "device": ("device", "--config", "device.toml", "--ready-file", "ready"),
    "edge": ("edge", "--config", "edge.toml", "--port-file", "ready"),
    "plain-edge": ("edge", "--model", "alexnet", "--port", "0", "--port-file", "ready"),
    "frame-loop": ("device", "--scenario", "3g-alexnet", "--duration-s", "600", "--edge",
                   "127.0.0.1:1", "--records", "records.json"),
}  # fmt: skip
PROMPT_S = 10.0
"""A generous bound for a machine under load; what is measured is under a second."""


def containers_allowed():
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*CONTAINER, "true"], capture_output=True, check=False).returncode == 0


contained = pytest.mark.skipif(not containers_allowed(), reason="needs a PID namespace of its own")


def until(true, process):
    end = time.monotonic() + 60.0
    while not true():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.002)


def handles(pid, number):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) & 1 << (number - 1))
    return False


def handles_sigterm(pid):
    return handles(pid, signal.SIGTERM)


@contextlib.contextmanager
def first_process(folder, command):
    """(outer process, pid) of a command that is process 1 of a PID namespace."""
    (folder / "device.toml").write_text(DEVICE)
    (folder / "edge.toml").write_text(EDGE)
    (folder / "ready").unlink(missing_ok=True)
    outer = subprocess.Popen(
        [*CONTAINER, sys.executable, "-m", "coinfer.cli.entry", *COMMANDS[command]], cwd=folder,
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
    try:
        until(lambda: children.read_text().split(), outer)
        yield outer, int(children.read_text())
    finally:
        outer.kill()  # which ends its child
        outer.wait()
        outer.stderr.close()


def ended(outer, pid, number):
    """(exit code, what it said) of a process that is asked to end, promptly."""
    os.kill(pid, number)
    _, said = outer.communicate(timeout=PROMPT_S)
    return outer.returncode, said


@contained
@pytest.mark.parametrize("command", COMMANDS)
def test_the_handler_is_there_before_anything_that_takes_time(tmp_path, command):
    with first_process(tmp_path, command) as (outer, pid):
        until(lambda: handles_sigterm(pid), outer)
        loaded = Path(f"/proc/{pid}/maps").read_text()
        assert "numpy" not in loaded
        assert "onnxruntime" not in loaded
        assert ended(outer, pid, signal.SIGTERM) == (143, "")
    assert not (tmp_path / "ready").exists()


@contained
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("command", ["device", "edge"])
def test_a_signal_at_any_moment_of_the_start_ends_it(tmp_path, command, number):
    # both signals have the same handler: together they try every 0.15 s of a start
    moment_s, served = 0.0 if number == signal.SIGTERM else 0.15, False
    while not served:
        with first_process(tmp_path, command) as (outer, pid):
            until(lambda: handles_sigterm(pid), outer)
            due_s = time.monotonic() + moment_s
            until(lambda due_s=due_s: time.monotonic() >= due_s, outer)
            code, said = ended(outer, pid, number)
            served = (tmp_path / "ready").exists()
            # before it handles both itself it is unwound, then it ends of its own
            assert code in ((0,) if served else (0, 128 + number)), said
            assert "Traceback" not in said
            left = [p.name for p in tmp_path.rglob("*.part")]
            assert not left
        moment_s += 0.3


@contained
def test_a_frame_loop_keeps_what_it_has_recorded(tmp_path):
    with first_process(tmp_path, "frame-loop") as (outer, pid):
        said = ""
        while "answered locally" not in said:
            line = outer.stderr.readline()
            assert line, said
            said += line
        begun_s = time.monotonic()
        until(lambda: time.monotonic() >= begun_s + 1.0, outer)  # some frames' worth
        code, rest = ended(outer, pid, signal.SIGTERM)
        assert "interrupted after" in rest, (code, said)
        assert code == 0
    assert (tmp_path / "records.json").stat().st_size > 100


@pytest.mark.parametrize("command", ["device", "edge"])
def test_a_hangup_from_the_first_moment_on_is_a_reload_and_no_end(tmp_path, command):
    (tmp_path / "device.toml").write_text(DEVICE)
    (tmp_path / "edge.toml").write_text(EDGE)
    log, ready = tmp_path / "log", tmp_path / "ready"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "coinfer.cli.entry", *COMMANDS[command]], cwd=tmp_path,
            stderr=stream,
        )  # fmt: skip

    def reloads():
        return log.read_text().count("reloaded: ")

    def until_here(true):
        end = time.monotonic() + 60.0
        while not true():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.002)

    try:
        until_here(lambda: handles(process.pid, signal.SIGHUP))
        assert "numpy" not in Path(f"/proc/{process.pid}/maps").read_text()
        process.send_signal(signal.SIGHUP)
        until_here(lambda: reloads() == 1)  # remembered until it serves
        assert ready.exists()
        process.send_signal(signal.SIGHUP)
        until_here(lambda: reloads() == 2)
    finally:
        process.terminate()
        code = process.wait(PROMPT_S)
    assert code == 0, log.read_text()


def test_an_edge_without_a_file_ends_in_order_when_its_terminal_is_closed(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "coinfer.cli.entry", *COMMANDS["plain-edge"]], cwd=tmp_path,
        stderr=subprocess.PIPE, text=True,
        # whoever runs the tests may ignore it, as nohup does: then the edge does, too
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )  # fmt: skip
    try:
        until((tmp_path / "ready").exists, process)
        process.send_signal(signal.SIGHUP)
        _, said = process.communicate(timeout=PROMPT_S)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, "0 requests served" in said) == (0, True), said


LOADING = """
import threading
from onnx import TensorProto, helper
from coinfer.cli import entry
from models.graphs.onnx_runtime import onnxruntime

value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [4])
nodes = [helper.make_node("Relu", [f"x{k}"], [f"x{k + 1}"]) for k in range(60)]
graph = helper.make_graph(nodes, "chain", [value("x0")], [value("x60")])
opset = [helper.make_opsetid("", 17)]
made = helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()
begun = threading.Event()

def load():
    while True:
        onnxruntime.InferenceSession(made, providers=["CPUExecutionProvider"])
        begun.set()

def command():
    threads = [threading.Thread(target=load, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    begun.wait()
    print("said")
    return 3

entry._command = command
entry.run()
"""


def test_a_thread_that_still_loads_a_network_does_not_end_the_process_otherwise():
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", LOADING], capture_output=True, text=True, check=False, timeout=60
        )
        assert (done.returncode, done.stdout, done.stderr) == (3, "said\n", "")


def chained_import(cause):
    """What an extension module makes of an exception while it loads."""
    try:
        raise cause
    except BaseException as inner:
        raise ImportError("initialization failed") from inner


def test_what_a_library_makes_of_a_signal_is_still_an_end():
    def chained(cause):
        try:
            chained_import(cause)
        except ImportError as error:
            return _ended_by_signal(error)

    assert chained(endings.Terminated(signal.SIGTERM)) == 143
    assert chained(KeyboardInterrupt()) == 130
    assert chained(ValueError()) is None
    try:
        try:
            chained_import(KeyboardInterrupt())
        except ImportError:
            raise DependencyError("no such package") from None
    except DependencyError as error:
        assert _ended_by_signal(error) == 130
    try:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise ZeroDivisionError  # noqa: B904
    except ZeroDivisionError as error:
        assert _ended_by_signal(error) is None


def test_a_signal_that_was_swallowed_is_remembered(monkeypatch):
    monkeypatch.setattr(endings._State, "ended_by", None)
    monkeypatch.setattr(endings._State, "came", None)
    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        endings.unwind_from_start()
        endings.raise_if_ended()
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            endings.raise_if_ended()
        with contextlib.suppress(SystemExit):
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(endings.Terminated) as ended:
            endings.raise_if_ended()
        assert ended.value.code == 143
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
