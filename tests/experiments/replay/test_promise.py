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
        (promise, ["--controllers", "magic"], "controller: found 'magic'"),
        (promise, ["--controllers", "robust,oracle"], "controller: found 'oracle'"),
        (promise, ["--seconds", "0"], "found '0', expected a number above 0"),
        (promise, ["--seed", "-1"], "found '-1', expected a whole number of 0 or more"),
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
        log = len(asked) // 3
        return Reported(accuracies[log] + 0.1 * (controller == "rate-rule"), late[log])

    monkeypatch.setattr(promise, "_measured", measured)
    controllers = [DEFAULT_CONTROLLER, "rate-rule"]
    given = ["--logs", "2", "--seconds", "12", "--controllers", ",".join(controllers)]
    assert promise.main(given) == code
    found = json.loads(capsys.readouterr().out)
    assert found["means"]["device-only"] == {"goodput_accuracy": 0.8, "late_share": 0.0}
    over = found["over"][DEFAULT_CONTROLLER]
    assert over["rate-rule"]["mean"] == pytest.approx(-0.1)
    assert over["device-only"]["mean"] == pytest.approx(sum(accuracies) / 2 - 0.8)
    assert len(found["rows"]) == 2
    names = [t.name for t in load_setting(read_scenario("lte-mobilenet")).traces("test").traces[:2]]
    assert asked == [(name, 12.0, c) for name in names for c in (*controllers, "device-only")]
    assert found["worst_goodput_difference"] == pytest.approx(min(accuracies) - 0.8)
    assert found["worst_late_difference"] == pytest.approx(max(late))


def test_the_device_alone_is_measured_once(monkeypatch, capsys):
    asked = []

    def measured(setting, trace, scenario, controller, method):
        asked.append(controller)
        return promise.Shares(0.8 + 0.1 * (controller != "device-only"), 0.0)

    monkeypatch.setattr(promise, "_measured", measured)
    assert promise.main(["--logs", "1", "--controllers", "rate-rule,device-only"]) == 0
    assert asked == ["rate-rule", "device-only"]
    found = json.loads(capsys.readouterr().out)
    assert found["means"]["device-only"]["goodput_accuracy"] == pytest.approx(0.8)


def test_an_interrupted_run_prints_the_logs_that_it_has_measured(monkeypatch, capsys):
    class Reported:
        goodput_accuracy, late_share = 0.9, 0.0

    asked = []

    def measured(setting, trace, scenario, controller, method):
        asked.append(controller)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return Reported()

    monkeypatch.setattr(promise, "_measured", measured)
    with pytest.raises(SystemExit) as ended:
        promise.main(["--logs", "3", "--seconds", "12"])
    assert ended.value.code == 130
    found = capsys.readouterr()
    assert len(json.loads(found.out)["rows"]) == 1
    assert "interrupted after 1 of 3 logs" in found.err
