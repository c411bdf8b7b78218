"""What the daemon promises: the worst log counts, and a mistake is one line."""

import json

import pytest

from controller.daemon.configuration.settings import DEFAULT_CONTROLLER
from controller.scenarios import load_setting, read_scenario
from experiments.replay import promise
from experiments.robustness import soak
from experiments.robustness.chaos import __main__ as chaos


@pytest.mark.parametrize(
    ("script", "argv", "said"),
    [
        (promise, ["--scenario", "mars"], "scenario: found 'mars'"),
        (promise, ["--controller", "magic"], "controller: found 'magic'"),
        (promise, ["--controller", "robust,learned"], "'robust,learned', expected one name"),
        (promise, ["--controller", "oracle"], "controller: found 'oracle'"),
        (promise, ["--seconds", "0"], "found '0', expected a number above 0"),
        (promise, ["--logs", "0"], "found '0', expected a whole number of 1 or more"),
        (promise, ["--method", "wire"], "wire"),
        (chaos, ["--frames", "0"], "found '0', expected a whole number of 1 or more"),
        (soak, ["--minutes", "nan"], "found 'nan', expected a number above 0"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(script, argv, said, capsys):
    with pytest.raises(SystemExit) as ended:
        script.main(argv)
    assert ended.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert said in lines[0]


@pytest.mark.parametrize(
    ("accuracies", "late", "code"),
    [((0.85, 0.80), (0.0, 0.001), 0), ((0.85, 0.78), (0.0, 0.0), 1), ((0.85, 0.8), (0.0, 0.01), 1)],
)
def test_the_worst_log_decides(accuracies, late, code, monkeypatch, capsys):
    """The device alone answers 0.8 of every log here, all in time."""
    asked = []

    class Reported:
        def __init__(self, goodput_accuracy, late_share):
            self.goodput_accuracy, self.late_share = goodput_accuracy, late_share

    def measured(setting, trace, scenario, controller, method):
        asked.append((trace.name, trace.duration_s, controller))
        if controller == "device-only":
            return Reported(0.8, 0.0)
        log = len(asked) // 2
        return Reported(accuracies[log], late[log])

    monkeypatch.setattr(promise, "_measured", measured)
    assert promise.main(["--logs", "2", "--seconds", "12"]) == code
    found = json.loads(capsys.readouterr().out)
    names = [t.name for t in load_setting(read_scenario("lte-mobilenet")).traces("test").traces[:2]]
    assert asked == [(name, 12.0, c) for name in names for c in (DEFAULT_CONTROLLER, "device-only")]
    assert found["worst_goodput_difference"] == pytest.approx(min(accuracies) - 0.8)
    assert found["worst_late_difference"] == pytest.approx(max(late))
