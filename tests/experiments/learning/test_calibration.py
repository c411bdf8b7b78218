"""Calibration: a world that was drawn is found again, and a real pair of machines is measured."""

import time
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from artefacts import UsageError
from coinfer.cli.main import app
from coinfer.cli.running.calibrate import other_machines
from controller.daemon.records.entries import kept_frame
from controller.device.frame import FrameRecord
from controller.scenarios import load_setting, read_scenario
from controller.scenarios.world import (
    LoadSection,
    NodeWorldSection,
    StateSection,
    WorldSection,
)
from envs.world import World
from experiments.learning.calibration import (
    AlternatingController,
    calibrate,
    recorded_pace,
    recorded_world,
    world_text,
)
from experiments.replay.device_run import DeviceRun, run_loop
from models.executors import PacedExecutor, make_executor

INTERVAL_S = 0.2


@pytest.fixture(scope="module")
def camera():
    return load_setting(read_scenario("lte-mobilenet"))


def drawn_run(setting, world, frames=6000, seed=0):
    """Records of a device and an edge that live in `world`, both idle when a frame comes."""
    scenario = msgspec.structs.replace(setting.scenario, world=world)
    there = replace(setting, scenario=scenario)
    source = World(there, there.rows("policy"), "policy", 1, np.random.default_rng(seed))
    source.place(np.ones(1, dtype=bool), np.zeros(1))
    controller = AlternatingController(setting, np.random.default_rng(seed))
    table, found = setting.table, []
    for number in range(frames):
        at_s, plan = (number + 1) * INTERVAL_S, controller.decide(None)
        draw = source.draw(np.array([at_s]))
        wait = float(draw.overheads_s[0][0])
        factors = [
            float(slower[0]) * (1.0 if own is None else float(own[0]))
            for own, slower in zip(draw.factors, draw.slower, strict=True)
        ]
        spent = float(table.prefix_s[plan]) * factors[0]
        local = bool(table.local[plan])
        moments = {"begun": wait} if spent else {"encoding": wait}
        stages, latency = {}, wait + spent
        if not local:
            queue = float(draw.overheads_s[1][0]) + float(draw.queued_s[0])
            compute = float(table.cost_of("compute", 1)[plan]) * factors[1]
            stages = {"receive": 0.005, "edge queue": queue, "edge compute": compute}
            moments |= {"handed": latency, "replied": latency + 0.035 + queue + compute}
            latency = moments["replied"]
        found.append(
            FrameRecord(number, plan, at_s, latency, 0, True, "device" if local else "edge", 0, 0.9,
                        0 if local else 3000, spent, None, stages, moments)
        )  # fmt: skip
    return found


def test_a_drawn_world_is_found_again(camera):
    world = WorldSection(
        device=NodeWorldSection(
            0.002, 0.001, (0.95, 1.0, 1.1), shared=StateSection(1.6, 6.0, 24.0)
        ),
        edge=NodeWorldSection(0.001, 0.0005, (0.9, 1.0, 1.3), load=LoadSection(6.0, 0.03)),
    )
    found = calibrate(camera, drawn_run(camera, world))
    device, edge = found.world.device, found.world.edge
    assert found.rtt_s == pytest.approx(0.03, abs=1e-6)
    assert device.overhead_s + device.jitter_s == pytest.approx(0.003, rel=0.25)
    assert edge.overhead_s + edge.jitter_s == pytest.approx(0.0015, rel=0.35)
    assert device.spread[5] == pytest.approx(1.0, abs=0.03)
    assert (device.spread[0], device.spread[-1]) == pytest.approx((0.95, 1.1), abs=0.05)
    assert (edge.spread[0], edge.spread[-1]) == pytest.approx((0.9, 1.3), abs=0.05)
    assert device.shared.factor == pytest.approx(1.6, rel=0.05)
    share = device.shared.mean_s / (device.shared.mean_s + device.shared.every_s)
    assert share == pytest.approx(0.2, abs=0.06)
    assert device.shared.mean_s == pytest.approx(6.0, rel=0.5)
    assert edge.load.share == pytest.approx(0.18, abs=0.05)
    assert edge.load.burst_s == pytest.approx(0.03, rel=0.35)


def test_a_tidy_run_gives_a_tidy_world(camera):
    found = calibrate(camera, drawn_run(camera, WorldSection(), 600))
    assert found.world.device.shared is None
    assert found.world.edge.load is None
    assert found.world.device.overhead_s == found.world.device.jitter_s == 0.0
    assert set(found.world.device.spread) == {1.0}
    assert (found.device_ratio, found.edge_ratio) == pytest.approx((1.0, 1.0))


def test_what_is_written_is_a_world_that_a_scenario_takes(camera, tmp_path):
    world = WorldSection(
        device=NodeWorldSection(0.002, 0.001, shared=StateSection(1.6, 6.0, 24.0)),
        edge=NodeWorldSection(load=LoadSection(6.0, 0.03)),
    )
    found = calibrate(camera, drawn_run(camera, world, 3000))
    from controller.scenarios import SHIPPED

    path = tmp_path / "mine.toml"
    without, own, _ = (SHIPPED / "lte-mobilenet.toml").read_text().partition("[world]")
    assert own
    path.write_text(without + world_text(found, "x"))
    assert read_scenario(path).world == found.world
    # what minutes cannot measure stays the scenario's
    mine = camera.scenario.world
    assert (found.world.scene_s, found.world.likeness) == (mine.scene_s, mine.likeness)
    assert found.world.device.throttled == mine.device.throttled


def test_what_a_device_has_kept_tells_its_world(camera):
    world = WorldSection(
        device=NodeWorldSection(0.002, 0.001, (1.4, 1.5, 1.6)),
        edge=NodeWorldSection(load=LoadSection(6.0, 0.03)),
    )
    frames = [kept_frame(frame) for frame in drawn_run(camera, world, 3000)]
    found, own = recorded_world(camera, frames), camera.scenario.world
    assert found.device.overhead_s == pytest.approx(0.002, rel=0.1)
    assert np.median(found.device.spread) == pytest.approx(1.5, rel=0.03)
    assert found.edge.load.share == pytest.approx(0.18, abs=0.05)
    # what frames do not tell stays the scenario's
    assert found.device.throttled == own.device.throttled
    assert (found.scene_s, found.likeness) == (own.scene_s, own.likeness)
    local = [frame for frame in frames if frame.where == "device"]
    assert recorded_world(camera, local).edge == own.edge
    assert recorded_world(camera, frames[:40]) == own
    # of a device that computes nothing whole its own runs are not known, its overhead is
    sent = recorded_world(camera, [frame for frame in frames if frame.where != "device"]).device
    assert (sent.spread, sent.shared) == (own.device.spread, own.device.shared)
    assert sent.overhead_s == pytest.approx(0.002, rel=0.1)
    assert recorded_world(camera, []) == own


def test_profiles_of_other_machines_are_named_with_what_measures_these(camera):
    found = calibrate(camera, drawn_run(camera, WorldSection(), 600))
    assert other_machines(camera, found) == []
    (line,) = other_machines(camera, msgspec.structs.replace(found, device_ratio=0.027))
    assert "'pi4-one-core' is of another machine than this device, which takes 0.027 of" in line
    assert "coinfer profile --model mobilenetv2" in line
    assert "device_profile" in line
    (line,) = other_machines(camera, msgspec.structs.replace(found, edge_ratio=3.0))
    assert "another machine than this edge, which takes 3 of" in line


def test_too_few_frames_are_refused(camera):
    with pytest.raises(UsageError, match="frames that found the device idle, expected 60 at least"):
        calibrate(camera, drawn_run(camera, WorldSection(), 40))
    local = [f for f in drawn_run(camera, WorldSection(), 400) if f.where == "device"]
    with pytest.raises(UsageError, match="found 0 frames that the edge answered"):
        calibrate(camera, local)


class Idle:
    """An executor that computes nothing: what a paced one takes is then its profile's alone."""

    def __init__(self, inner):
        self._inner = inner

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def run(self, branch, start, stop, x):
        shape = self._inner.model.spec.shapes[branch][stop]
        return np.zeros((len(x), *shape), dtype=np.float32)


class Slower:
    """An executor that takes longer than another one: by a factor, of every interval."""

    def __init__(self, inner, factor):
        self._inner, self._factor = inner, factor

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def run(self, *args):
        begun = time.monotonic()
        found = self._inner.run(*args)
        time.sleep((self._factor - 1.0) * (time.monotonic() - begun))
        return found


def test_a_real_edge_that_is_slower_than_its_profile_is_found(camera, serving):
    # of a machine that is slower than the profile's the real layers would take longer than that
    idle = Idle(make_executor("onnx", camera.model))
    with serving(camera.model, Slower(PacedExecutor(idle, camera.profiles["edge"]), 3.0)) as server:
        controller = AlternatingController(camera, np.random.default_rng(1))
        run = DeviceRun(
            "lte-mobilenet", ("127.0.0.1", server.port), "alternating", None, "onnx", True, None,
            18.0, None, 1, interval_s=controller.interval_s,
        )  # fmt: skip
        seen = []
        record = run_loop(camera, run, controller, lambda line: None, seen.append)
    found = calibrate(camera, record.frames)
    # beside the layers there is the codec, which is not slowed
    assert 2.0 < found.edge_ratio < 4.5
    assert 0.9 < found.device_ratio < 2.0
    assert found.rtt_s < 0.02
    assert seen[-1] > 17.0


@pytest.mark.parametrize("there", [False, True])
def test_without_an_edge_for_its_network_the_command_says_so_at_once(
    camera, serving, tmp_path, there
):
    other = load_setting(read_scenario("edgent")).model
    with serving(other, make_executor("onnx", other)) as server:
        edge = f"127.0.0.1:{server.port if there else 1}"
        begun_s = time.monotonic()
        with pytest.raises(UsageError, match="the edge refused us" if there else "edge: found"):
            app(
                ["calibrate", "--scenario", "lte-mobilenet", "--edge", edge, "--minutes", "10",
                 "--out", str(tmp_path / "w.toml"), "--pace"],
                standalone_mode=False,
            )  # fmt: skip
        assert time.monotonic() - begun_s < 300.0
    assert not (tmp_path / "w.toml").exists()


def test_a_device_that_is_always_slower_shows_in_its_records(camera):
    def pace(spread, frames=600):
        world = WorldSection(device=NodeWorldSection(spread=spread))
        return recorded_pace(camera, [kept_frame(f) for f in drawn_run(camera, world, frames)])

    assert pace((1.4, 1.5, 1.6)) == pytest.approx(1.5, rel=0.02)
    assert pace((0.7, 0.75, 0.8)) == pytest.approx(0.75, rel=0.02)
    assert pace((0.9, 1.02, 1.1)) == 1.0, "times vary by as much"
    assert pace((1.4, 1.5, 1.6), 60) == 1.0, "too few ran on the device"
    # a state that comes and goes is none of it
    states = WorldSection(
        device=NodeWorldSection(spread=(1.0, 1.0), shared=StateSection(1.6, 20.0, 20.0))
    )
    frames = [kept_frame(frame) for frame in drawn_run(camera, states, 3000)]
    assert recorded_pace(camera, frames) == 1.0


def test_fallbacks_tell_a_devices_pace_and_plans_with_gates_do_not(camera):
    table = camera.table
    sender = next(
        k for k, plan in enumerate(table.plans)
        if not table.gated[k] and not table.local[k] and not np.isfinite(table.rescue_s[k])
        and table.wait_exit[k, 0] < 0 and replace(plan, rescue=True) in table.plans
    )  # fmt: skip
    twin = table.plans.index(replace(table.plans[sender], rescue=True))
    gated = int(np.flatnonzero(table.gated & table.local)[0])

    def frames(plan, spent_s, by_plan):
        return [
            FrameRecord(k, plan, 0.05 * k, 0.09, 0, by_plan, "device", 0, 0.9, 0, spent_s, None)
            for k in range(100)
        ]

    fallback_s = float(table.prefix_s[sender] + table.rescue_s[twin])
    assert recorded_pace(camera, frames(sender, 1.4 * fallback_s, False)) == 1.4
    assert recorded_pace(camera, frames(gated, 0.3 * table.prefix_s[gated], True)) == 1.0
