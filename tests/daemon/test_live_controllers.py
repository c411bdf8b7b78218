"""Controllers of other packages that misbehave: frames are answered and counted all the same."""

import dataclasses
import gc
import logging
import os
import queue
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from artefacts import UsageError
from controller.daemon.configuration.choosing import make_controller
from controller.daemon.configuration.settings import FORMAT_VERSION, DeviceSettings
from controller.daemon.foreign_controllers import LOG_EVERY_S, MOST_WAITING, SHARE
from controller.daemon.monitoring.metrics import DeviceMetrics
from controller.daemon.service import FrameService
from controller.device.engine import FrameEngine
from controller.device.frame import EngineArgs
from controller.interface import FrameResult, Measurement, Situation
from controller.link.interface import NoLink
from controller.planners.fixed import device_only_plan
from models.data.pictures import generated_pictures
from models.executors import OnnxExecutor

ROOT = Path(__file__).resolve().parents[2]
FAULTY = '''
"""Controllers that do one thing wrong."""

import os
import time
from pathlib import Path

import numpy as np

from controller.planners.fixed import FixedController, device_only_plan


class Faulty(FixedController):
    pass


def does(method, call):
    def make(inputs):
        kind = type("Kind", (Faulty,), {method: lambda self, *args: call()})
        return kind("faulty", device_only_plan(inputs.setting))
    return make


def fails(error):
    def call():
        raise error
    return call


class Cancelled(BaseException):
    pass


raising = does("decide", fails(ValueError("two\\nlines")))
exiting = does("decide", fails(SystemExit(3)))
interrupting = does("decide", fails(KeyboardInterrupt()))
cancelling = does("decide", fails(Cancelled()))
negative = does("decide", lambda: -1)
outside = does("decide", lambda: 10**6)
nan = does("decide", lambda: float("nan"))
truth = does("decide", lambda: True)
nothing = does("decide", lambda: None)
arrays = does("decide", lambda: np.zeros(2, dtype=int))
observing = does("observe", fails(KeyError("o")))
recording = does("record", fails(SystemExit(4)))
resetting = does("reset", fails(OSError("no state file")))


class Unsayable(Exception):
    def __str__(self):
        raise SystemExit(5)


class Odd:
    def __index__(self):
        raise SystemExit(6)

    def __repr__(self):
        raise KeyboardInterrupt


unsayable = does("decide", fails(Unsayable()))
odd = does("decide", Odd)
forging = does("decide", fails(type("Two\\nERROR lines" + "x" * 10_000, (Exception,), {})()))
unsaid = does("record", fails(Unsayable()))


def counting(inputs):
    made = FixedController("counting", device_only_plan(inputs.setting))
    class Counting:
        name, initial_probe_bytes, fallbacks = "counting", 0, "many"
        reset, observe, record, decide = made.reset, made.observe, made.record, made.decide
    return Counting()


class Late(FixedController):
    """Its 20th decision waits for a file to go, or computes until then."""

    def __init__(self, inputs, wait):
        super().__init__("late", len(inputs.setting.table) - 1)
        self.decisions, self.heard, self._wait = 0, [], wait

    def decide(self, situation):
        self.decisions += 1
        if self.decisions == 20:
            while Path(os.environ["HANGS"]).exists():
                self._wait()
        return super().decide(situation)

    def overruled(self, frame, plan):
        self.heard.append((frame, plan))


def hanging(inputs):
    return Late(inputs, lambda: time.sleep(0.01))


def spinning(inputs):
    # longer than the interpreter's switch interval: of a thread that lets go of its lock more often
    # than that and takes it back at once, others need never get a turn
    return Late(inputs, lambda: sum(range(2_000_000)))


def good(inputs):
    return FixedController("good", device_only_plan(inputs.setting))
'''
DECIDING = {
    "raising": "decide raised ValueError: two lines",
    "exiting": "decide raised SystemExit: 3",
    "interrupting": "decide raised KeyboardInterrupt",
    "cancelling": "decide raised Cancelled",
    "unsayable": "decide raised Unsayable (",
    "odd": "decided for plan a Odd, expected a whole number",
    "forging": "decide raised Two ERROR linesxxx",
    "negative": "decided for plan -1, expected a whole number",
    "outside": "decided for plan 1000000, expected a whole number",
    "nan": "decided for plan nan, expected a whole number",
    "truth": "decided for plan True, expected a whole number",
    "nothing": "decided for plan None, expected a whole number",
    "arrays": "decided for plan array([0, 0]), expected a whole number",
}


@pytest.fixture(autouse=True)
def faulty(tmp_path, monkeypatch):
    site = tmp_path / "site"
    site.mkdir()
    (site / "faulty.py").write_text(FAULTY)
    monkeypatch.syspath_prepend(site)
    return site


@pytest.fixture(scope="module")
def executor(stream):
    return OnnxExecutor(stream.model)


def made(stream, factory):
    settings = DeviceSettings(FORMAT_VERSION, "3g-alexnet", controller=f"faulty:{factory}")
    return make_controller(settings, stream)


@pytest.fixture
def service(stream, executor):
    """A running engine, decided for by the device alone until another controller is set."""
    engine = FrameEngine(
        stream.model, executor, stream.device, stream.table, made(stream, "good"), NoLink(),
        EngineArgs(stream.scenario.frames.deadline_s + 5.0, always_rescue=True),
    )  # fmt: skip
    found = FrameService(engine, 8)
    found.start()
    yield found
    found.close()


def answered(service, frames=3):
    """How frames end that are given time for a slow machine."""
    answers = queue.Queue()
    picture = generated_pictures(1, np.random.default_rng(0))[0]
    for _ in range(frames):
        service.submit(picture, answers.put)
    return [answers.get(timeout=30) for _ in range(frames)]


def of_controller(caplog, factory):
    """Warnings of one controller: another test's may be on its thread still."""
    found = [r for r in caplog.records if r.levelno >= logging.WARNING]
    return [r for r in found if f"'faulty:{factory}'" in r.getMessage()]


def settled(service):
    """Wait until the engine's thread has done all that it was given."""
    heard = threading.Event()
    service.engine.post(heard.set)
    assert heard.wait(30)


def usual(controller):
    """The package's controller, whatever a request's deadline."""
    return controller._usual


SITUATION = Situation(0.0, 0, 5.0, 0.0, 0, 0.04)


@pytest.mark.parametrize("factory", DECIDING)
def test_frames_that_it_cannot_decide_are_answered_by_the_device(stream, service, factory, caplog):
    service.engine.controller = usual(made(stream, factory))
    metrics = DeviceMetrics(service.engine, lambda: 0)
    service.engine.on_record = metrics.frame_ended
    with caplog.at_level(logging.WARNING):
        records = answered(service)
        settled(service)
    assert {(r.plan, r.where, r.error) for r in records} == {
        (device_only_plan(stream), "device", None)
    }
    assert service.alive
    (line,) = of_controller(caplog, factory)
    assert f"controller 'faulty:{factory}' of package 'faulty'" in line.getMessage()
    assert DECIDING[factory] in line.getMessage()
    assert line.exc_info is None
    text = metrics.text().decode()
    assert "coinfer_controller_faults_total 3.0" in text
    assert 'coinfer_frames_total{by_plan="true",exit=' in text


@pytest.mark.parametrize("factory", ["observing", "recording", "unsaid", "counting"])
def test_what_it_fails_to_hear_or_count_costs_nothing(stream, service, factory, caplog):
    controller = made(stream, factory)
    service.replace_controller(controller)
    metrics = DeviceMetrics(service.engine, lambda: 0)
    service.engine.post(lambda: service.engine.watch.learn(controller, Measurement(0.0, 100, 0.1)))
    with caplog.at_level(logging.WARNING):
        assert all(r.latency_s is not None for r in answered(service, 1))
        settled(service)
        usual(controller).decide(SITUATION)  # it has heard what came before by then
        text = metrics.text().decode()
    assert "coinfer_controller_faults_total 1.0" in metrics.text().decode() or factory == "counting"
    assert "coinfer_policy_fallbacks_total 0.0" in text
    assert controller.faults > 0
    (line,) = of_controller(caplog, factory)
    assert line.exc_info is None
    assert f"controller 'faulty:{factory}' of package 'faulty'" in line.getMessage()


def test_the_other_rule_hears_what_it_fails_to_hear(stream):
    controller = made(stream, "observing")
    heard = []
    controller._other.observe = heard.append
    controller.observe(Measurement(0.0, 100, 0.1))
    assert len(heard) == 1


def test_faults_are_said_seldom_with_their_number(stream, caplog):
    controller = usual(made(stream, "raising"))
    now = [0.0]
    controller._clock = lambda: now[0]
    with caplog.at_level(logging.WARNING):
        for _ in range(100):
            controller.decide(SITUATION)
        now[0] = LOG_EVERY_S
        controller.decide(SITUATION)
        controller.record(FrameResult(0, 0, 0.1, 0.1, 0, True))
    first, second = [line.getMessage() for line in of_controller(caplog, "raising")]
    assert "(1 faults;" in first
    assert "(101 faults;" in second


def test_faults_of_earlier_controllers_stay_counted(stream, service):
    metrics = DeviceMetrics(service.engine, lambda: 0)
    for total in (2, 4):
        service.engine.controller = usual(made(stream, "raising"))
        answered(service, 2)
        assert f"coinfer_controller_faults_total {total}.0" in metrics.text().decode()
        service.engine.controller = made(stream, "good")
        assert f"coinfer_controller_faults_total {total}.0" in metrics.text().decode()


def test_one_that_cannot_begin_is_refused(stream):
    with pytest.raises(UsageError, match="reset raised OSError: no state file"):
        made(stream, "resetting").reset()


@pytest.mark.parametrize("factory", ["hanging", "spinning"])
def test_one_that_hangs_costs_no_frame_and_decides_again_once_it_is_back(
    stream, service, factory, tmp_path, monkeypatch, caplog
):
    hangs, deadline_s = tmp_path / "hangs", 2.0
    hangs.touch()
    monkeypatch.setenv("HANGS", str(hangs))
    controller = usual(made(stream, factory))
    service.replace_controller(controller)
    last, local = len(stream.table) - 1, device_only_plan(stream)
    picture, answers, records = (
        generated_pictures(1, np.random.default_rng(0))[0],
        queue.Queue(),
        [],
    )
    with caplog.at_level(logging.WARNING):
        for _ in range(40):
            service.submit(picture, answers.put, deadline_s=deadline_s)
            records.append(answers.get(timeout=30))
        begun_s = time.monotonic()
        assert controller.fallbacks == 0  # metrics wait for nothing that is out
        assert time.monotonic() - begun_s < 1.0
    assert all(r.latency_s is not None and r.latency_s < deadline_s for r in records)
    assert [r.plan for r in records[19:]] == [local] * 21
    late = f"decide has not come back within {1e3 * SHARE * deadline_s:.0f} ms"
    assert late in caplog.text
    assert service.alive
    hangs.unlink()
    package = controller._made._made
    heard = threading.Event()
    controller._calls.put(heard.set)
    assert heard.wait(30)
    assert package.decisions == 20
    assert package.heard[-1] == (records[19].frame, local)
    service.submit(picture, answers.put, deadline_s=deadline_s)
    answers.get(timeout=30)
    settled(service)
    assert package.decisions == 21
    assert controller.decide(SITUATION) == last


def test_what_a_hanging_one_should_hear_is_bounded_and_its_thread_ends_with_it(
    stream, tmp_path, monkeypatch
):
    hangs = tmp_path / "hangs"
    hangs.touch()
    monkeypatch.setenv("HANGS", str(hangs))
    before = threading.active_count()
    controller = usual(made(stream, "hanging"))
    for _ in range(20):
        controller.decide(dataclasses.replace(SITUATION, deadline_s=0.5))
    for _ in range(10 * MOST_WAITING):
        controller.record(FrameResult(0, 0, 0.1, 0.1, 0, True))
    assert controller._calls.qsize() <= MOST_WAITING
    hangs.unlink()
    del controller
    until_s = time.monotonic() + 30
    while threading.active_count() > before:
        gc.collect()
        assert time.monotonic() < until_s
        time.sleep(0.01)


@pytest.mark.system
def test_a_daemon_keeps_the_old_one_and_looks_in_no_folder_of_its_own(running, faulty, tmp_path):
    path = os.pathsep.join([str(faulty), str(ROOT)])
    (tmp_path / "nearby.py").write_text(FAULTY)
    # as the installed command begins: `python -m` would look in the working folder
    safe = {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    with running('controller = "faulty:raising"', **safe) as daemon:
        for name, said in (
            ("faulty:resetting", "reset raised OSError: no state file"),
            ("nearby:good", "or of a folder in PYTHONPATH"),
        ):
            daemon.write(f'controller = "{name}"')
            daemon.until(lambda said=said: said in daemon.said())
            (line,) = [one for one in daemon.said().splitlines() if said in one]
            assert "not reloaded: " in line
            assert f"controller '{name}'" in line
        with urllib.request.urlopen(f"{daemon.address}/metrics", timeout=30) as answer:
            assert b"coinfer_controller_faults_total" in answer.read()
        assert " reloaded: controller" not in daemon.said()
        assert "Traceback" not in daemon.said()
