"""What Algorithm 1 does not take though it is in time and right more often, and why."""

import msgspec
import numpy as np
import pytest

from controller.scenarios import load_setting, read_scenario
from experiments.learning.explanation import explain_plan


@pytest.fixture(scope="module")
def camera():
    return load_setting(read_scenario("lte-mobilenet"))


def test_a_codec_that_costs_more_than_a_point_keeps_the_better_plan_out(camera):
    found = explain_plan(camera, 0.5e6, None)
    other = found.kept_out
    assert other is not None
    table = camera.candidates
    [row] = [k for k, plan in enumerate(table.plans) if str(plan) == other.plan]
    assert other.accuracy == table.accuracy[row] > found.accuracy + 0.04
    assert other.latency_s < 0.1
    lost = 100 * (table.exit_accuracy[table.exit[row]] - table.accuracy[row])
    assert lost > 1
    assert f"its codec costs exit 5 {lost:.1f} points" in other.why


def test_frames_that_come_too_fast_keep_it_out(camera):
    found = explain_plan(camera, 0.1e6, None)
    assert found.kept_out is not None
    assert "a frame comes every 43.5 ms" in found.kept_out.why
    frames = msgspec.structs.replace(camera.scenario.frames, rate_fps=5.0)
    slower = load_setting(msgspec.structs.replace(camera.scenario, frames=frames))
    again = explain_plan(slower, 0.1e6, None)
    assert again.kept_out is None
    assert (again.plan, again.accuracy) == (found.kept_out.plan, found.kept_out.accuracy)


@pytest.mark.parametrize("bandwidth_bps", [0.0, 0.4e6, 2e6, 20e6])
def test_the_most_accurate_plan_in_time_has_none_above_it(camera, bandwidth_bps):
    found = explain_plan(camera, bandwidth_bps, None)
    table = camera.candidates
    in_time = table.latency_s(bandwidth_bps, camera.scenario.link.rtt_s) <= 0.1
    best = float(np.max(table.accuracy[in_time & ~table.gated]))
    assert (found.kept_out is None) == (best <= found.accuracy + 0.005)
