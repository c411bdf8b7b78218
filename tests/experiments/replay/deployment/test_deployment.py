"""The loop of a deployment: each step once, in its folder, and the page says what was found."""

from dataclasses import replace

import pytest

from artefacts import read_json
from controller.policies.network import read_card
from experiments.learning.training import TrainArgs
from experiments.replay.deployment import __main__ as command
from experiments.replay.deployment.loop import (
    AFTER,
    BEFORE,
    PROFILED,
    RUNS,
    Deployment,
    Figures,
    Judged,
    Learnt,
    Plan,
    Run,
)
from experiments.replay.deployment.page import page
from experiments.replay.deployment.places import place_of
from traces.trace import BandwidthTrace

SHORT = Plan("lte-mobilenet", "norway", None, 1.5, 2.0, 2, 4.0, 0, True, "auto")
CHEAP = TrainArgs(frames=0, planning_backlogs=4, planning_sweeps=20, validation_frames=100)


@pytest.mark.slow
def test_a_short_loop_is_made_once_and_kept(tmp_path):
    folder = tmp_path / "out"
    deployment = replace(Deployment.of(SHORT, folder), training=CHEAP)
    said = []
    records = deployment.recorded(said.append)
    learnt = deployment.learnt(records, said.append)
    assert any(line.startswith("records: ") for line in said)
    assert len(learnt.verdict) == 3
    assert read_card(folder / "policy").device_pace == learnt.device_pace
    runs = list(deployment.runs())
    logs = [trace.name for trace in deployment.place.held_back]
    assert [(r.when, r.controller, r.trace) for r in runs] == [
        (*one, log) for one in RUNS for log in logs
    ]
    good = {(r.when, r.controller): r.goodput_accuracy for r in runs if r.trace == logs[0]}
    assert good[PROFILED, "learned"] > good[BEFORE, "device-only"]
    times = {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*.json"))}
    again = replace(Deployment.of(SHORT, folder), training=CHEAP)
    assert again.learnt(again.recorded(said.append), said.append) == learnt
    assert list(again.runs()) == runs
    assert times == {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*.json"))}


def figures():
    made = {PROFILED: 0.86, BEFORE: 0.76, AFTER: 0.81}
    runs = tuple(
        Run(when, controller, log, 100, made[when] - worse + more, 0.02, 0.8)
        for when, controller in RUNS
        for worse in [0.1 * (controller == "device-only")]
        for log, more in (("one", 0.01), ("two", -0.01))
    )
    judged = {"policy from records": Judged(0.81, 0.805, 0.03)}
    learnt = Learnt(("a line",), 1.5, judged, ("it is better",), {})
    return Figures(SHORT, 3.5, "some logs", learnt, runs)


def test_the_page_says_what_is_lost_and_what_is_won_back():
    text = page(figures(), "COMMAND")
    assert "`COMMAND` made this page, with a simulated device" in text
    assert "Lost by the slower device: 10.00 points." in text
    assert "Won back by learning from records: +5.00 points, 50 % of it." in text
    assert "| before | device-only | 66.00 % | 2.00 % |" in text
    assert "| learned after less learned before | +5.00 |" in text
    assert "| one | 87.00 (2.00) | 77.00 (2.00) |" in text
    assert "- it is better" in text


def test_a_family_keeps_its_split_and_a_file_is_halved(tmp_path):
    setting = Deployment.of(SHORT, tmp_path / "out").setting
    found = place_of(setting, "norway", None, 6.0, 3, 30.0)
    assert sum(trace.duration_s for trace in found.recorded) == pytest.approx(360.0)
    assert all(trace.duration_s <= 30.0 for trace in found.held_back)
    assert not {t.name for t in found.recorded} & {t.name for t in found.held_back}
    path = tmp_path / "own.csv"
    rows = ["time_s,rate_bps", *(f"{second},{1e6 * (1 + second % 3)}" for second in range(600))]
    path.write_text("\n".join(rows) + "\n")
    own = place_of(setting, str(path), 2.0, 4.0, 3, 60.0)
    assert sum(trace.duration_s for trace in own.recorded) == pytest.approx(240.0, abs=1.0)
    assert len(own.held_back) == 1
    held: BandwidthTrace = own.held_back[0]
    assert held.total_bytes * 8 / held.duration_s == pytest.approx(4e6, rel=0.05)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--scenario", "mars"], "found 'mars'"),
        (["--scenario", "edgent"], "found a closed loop, expected a frame stream"),
        (["--minutes", "1"], "--minutes: found 1, expected 2 or more"),
        (["--slowdown", "0"], "found '0', expected a number above 0"),
        (["--traces", "absent"], "absent"),
        (["--frames", "-1"], "found '-1', expected a whole number"),
    ],
)
def test_a_mistake_is_one_line(argv, said, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(["--out", str(tmp_path / "out"), *argv])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_a_folder_of_other_runs_is_refused(tmp_path, capsys):
    folder = tmp_path / "out"
    Deployment.of(SHORT, folder)
    assert read_json(folder / "plan.json", Plan) == SHORT
    with pytest.raises(SystemExit):
        command.main(["--out", str(folder), "--simulated", "--minutes", "3"])
    assert "found runs of other options" in capsys.readouterr().err.splitlines()[-1]
