"""Controllers of other packages that cannot be made, or count without end."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from artefacts import UsageError, endings
from controller.daemon.configuration.choosing import make_controller
from controller.daemon.configuration.settings import FORMAT_VERSION, DeviceSettings
from controller.registry.making import MOST_FALLBACKS

ROOT = Path(__file__).resolve().parents[2]
ODD = """
def leaving(inputs):
    raise KeyboardInterrupt


def closing(inputs):
    raise GeneratorExit("closed")


class Boasting:
    name, initial_probe_bytes, fallbacks = "boasting", 0, 10**5000

    def __init__(self, inputs):
        pass

    def reset(self, *heard):
        pass

    observe = record = decide = reset


class Owing(Boasting):
    fallbacks = -10**20
"""


@pytest.fixture
def made(stream, tmp_path, monkeypatch):
    (tmp_path / "odd.py").write_text(ODD)
    monkeypatch.syspath_prepend(tmp_path)

    def make(factory):
        settings = DeviceSettings(FORMAT_VERSION, "3g-alexnet", controller=f"odd:{factory}")
        return make_controller(settings, stream)

    return make


@pytest.mark.parametrize(("factory", "shown"), [("Boasting", MOST_FALLBACKS), ("Owing", 0)])
def test_a_count_beyond_all_numbers_is_one_that_a_metric_can_show(made, factory, shown):
    assert made(factory).fallbacks == shown


@pytest.fixture
def signals_seen(monkeypatch):
    """As the command line has it: a signal would be remembered."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr(endings._State, "came", None)
    endings.unwind_from_start()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("factory", "said"),
    [("leaving", "making it failed: KeyboardInterrupt"), ("closing", "GeneratorExit: closed")],
)
@pytest.mark.usefixtures("signals_seen")
def test_a_factory_that_raises_what_ends_processes_is_one_line(made, factory, said):
    with pytest.raises(UsageError, match=said) as refused:
        made(factory)
    assert refused.value.__context__ is None  # a signal would be seen in it


@pytest.mark.system
def test_a_daemon_does_not_start_with_it_and_says_so(tmp_path):
    (tmp_path / "odd.py").write_text(ODD)
    config = tmp_path / "device.toml"
    config.write_text(
        f'format_version = 1\nscenario = "3g-alexnet"\ncontroller = "odd:leaving"\n'
        f'state = "{tmp_path / "state.json"}"\n[http]\nport = 0\n'
    )
    found = subprocess.run(
        [sys.executable, "-m", "coinfer.cli.entry", "device", "--config", config],
        check=False, capture_output=True, text=True, timeout=120,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
    )  # fmt: skip
    assert found.returncode == 2
    assert "making it failed: KeyboardInterrupt" in found.stderr.splitlines()[-1]


@pytest.mark.usefixtures("signals_seen")
def test_whoever_interrupts_the_making_is_obeyed(made, monkeypatch):
    monkeypatch.setattr(endings._State, "came", signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        made("leaving")
