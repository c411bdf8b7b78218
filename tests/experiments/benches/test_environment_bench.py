"""`coinfer bench environment`: what is counted, and the command that prints it."""

import json

import pytest
from typer.testing import CliRunner

from artefacts import UsageError
from coinfer.cli.main import app
from controller.scenarios import load_setting, read_scenario
from envs.simulator import Simulator
from experiments.benches.environment import environment_rows

PATHS = ["draws", "step", "policy", "observed"]


@pytest.fixture(scope="module")
def camera():
    return load_setting(read_scenario("lte-mobilenet"))


def test_rates_are_frames_over_medians_and_ratios_of_the_draws(camera):
    """A clock by hand: the paths take 1, 2, 4 and 5 s, but for a first turn and an outlier."""
    spent = [1.0, 2.0, 4.0, 5.0]
    reported = [0.0]
    for slower in (7.0, 1.0, 100.0, 1.0):
        for seconds in spent:
            reported += [reported[-1], reported[-1] + slower * seconds]
    rows = environment_rows(camera, 8, 43, repeats=3, clock=iter(reported[1:]).__next__)
    assert [r.path for r in rows] == PATHS
    assert {(r.lanes, r.frames, r.repeats) for r in rows} == {(8, 40, 3)}
    assert [r.million_per_s for r in rows] == pytest.approx([4e-5 / s for s in spent])
    assert [r.ratio for r in rows] == pytest.approx([1.0 / s for s in spent])


def test_every_path_steps_every_frame(camera, monkeypatch):
    stepped = []
    step = Simulator.step
    monkeypatch.setattr(
        Simulator, "step", lambda self, plan: stepped.append(len(plan)) or step(self, plan)
    )
    environment_rows(camera, 16, 16 * 6, repeats=1)
    # step, policy and observed; a turn to warm up and one that counts
    assert stepped == [16] * 6 * 3 * 2


def test_frames_must_do_for_the_lanes(camera):
    with pytest.raises(UsageError, match="found 64 and 63"):
        environment_rows(camera, 64, 63)


def test_the_command_prints_the_rows():
    args = ["bench", "environment", "--scenario", "lte-mobilenet", "--lanes", "32"]
    said = CliRunner().invoke(app, [*args, "--frames", "320", "--json"])
    assert said.exit_code == 0, said.output
    found = json.loads(said.stdout)
    assert (found["scenario"], [r["path"] for r in found["rows"]]) == ("lte-mobilenet", PATHS)
    assert all(r["million_per_s"] > 0 and r["frames"] == 320 for r in found["rows"])
    assert found["rows"][0]["ratio"] == 1.0
    # a simulator that were faster than its own random numbers would not step
    assert all(r["ratio"] < 1.0 for r in found["rows"][1:])
    table = CliRunner().invoke(app, [*args, "--frames", "320"])
    assert table.exit_code == 0, table.output
    assert all(path in table.stdout for path in PATHS)
