"""The audit: the simulator predicts its own runs exactly, and finds the stage that differs."""

import json
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from made_vectors import made_setting
from tidy import tidy

from coinfer.cli.main import app
from controller.device.frame import FrameRecord
from controller.physics import TraceBank
from controller.scenarios import load_setting
from envs.simulator import Simulator
from experiments.replay import audit as audits
from experiments.replay.audit import STAGES, audit, bar_rows, stage_rows
from experiments.replay.device_run import FORMAT_VERSION, RunRecord, read_run
from experiments.replay.pictures import picture_order
from experiments.replay.session import ReplayArgs, run_replay
from experiments.reporting.audit_picture import audit_figure
from experiments.reporting.drawing import svg_bytes
from traces.trace import BandwidthTrace

TRACE = BandwidthTrace("moves", np.arange(12.0), np.linspace(3e5, 6e6, 12), 12.0)


@pytest.fixture(scope="module")
def profiled():
    """The frame-stream scenario where plans cost what their profiles say."""
    return load_setting(tidy("3g-alexnet"))


def simulated(setting, real=False, seed=0, frames=200):
    """A run of the simulator without spread, by plans at random, as a device would write it."""
    still = replace(setting, table=replace(setting.table, sigmas=(0.0, 0.0)))
    rng = np.random.default_rng(seed)
    simulator = Simulator(still, TraceBank([TRACE]), 1, "report", np.random.default_rng(1))
    simulator.place(np.ones(1, dtype=bool), np.zeros(1, dtype=np.int64), np.array([0.2]))
    kept = np.flatnonzero(~still.table.gated)
    order = picture_order(still, 1)
    places = np.searchsorted(still.outcomes.half("report"), order)
    rows, records, quality = still.rows("report"), [], []
    for number in range(frames):
        plan = rng.choice(kept, 1)
        found = simulator.step(plan).outcome
        answered = np.isfinite(found.answered_s[0])
        arrival = 0.2 + number * simulator.interval_s
        on_edge = bool(found.by_plan[0] and not still.table.local[plan[0]])
        moments = {"begun": found.device_start_s[0] - arrival,
                   "encoding": found.handed_s[0] - arrival, "handed": found.handed_s[0] - arrival,
                   "replied": found.measured_known_s[0] - arrival}  # fmt: skip
        wait = float(found.served_s[0] - found.reached_s[0]) if on_edge else 0.0
        compute = float(still.table.cost_of("compute", 1)[plan[0]])
        records.append(
            FrameRecord(
                number, int(plan[0]), arrival,
                float(found.latency_s[0]) if answered else None,
                int(found.answer_exit[0]) if answered else None, bool(found.by_plan[0]),
                "edge" if on_edge else "device", 0, 0.9, int(found.bytes_sent[0]), 0.0, None,
                {"edge queue": wait, "edge compute": compute} if on_edge else {},
                {k: float(v) for k, v in moments.items() if np.isfinite(v)},
            )
        )  # fmt: skip
        sample = places[number % len(places)]
        row = rows.row(plan, np.maximum(found.answer_exit, 0), found.by_plan)[0]
        quality.append(float(rows.quality[row, sample]) if answered else 0.0)
    return RunRecord(
        FORMAT_VERSION, still.scenario.name, "random", "drawn", tuple(records), tuple(quality),
        0, 0, 0, None, real,
    )  # fmt: skip


def test_the_simulator_predicts_its_own_run_to_the_last_frame(profiled):
    found = audit(profiled, TRACE, simulated(profiled, real=True), seed=1)
    assert found.frames == 200
    assert found.compared > 20
    assert found.p95_error < 1e-9
    assert found.agreement == found.in_time_agreement == 1.0
    assert found.goodput_accuracy == found.predicted_goodput_accuracy > 0
    assert all(found.held.values())
    assert [s.stage for s in found.stages] == list(STAGES)
    # encoding is part of the prefix in what the simulator tells of itself
    exact = [s for s in found.stages if s.stage not in ("prefix", "encoding")]
    assert max(s.p95_error_s for s in exact) < 1e-9
    assert any(s.frames > 20 and s.measured_s > 1e-3 for s in exact)


def test_quality_between_right_and_wrong_is_predicted_frame_by_frame(tmp_path):
    vectors = made_setting(tmp_path)
    run = simulated(vectors, real=True, frames=100)
    found = audit(vectors, TRACE, run, seed=1)
    assert found.agreement == found.in_time_agreement == 1.0
    assert found.goodput_accuracy == pytest.approx(np.mean(run.quality))
    assert len({row.quality for row in found.rows}) > 10
    assert [row.quality for row in found.rows] == [row.predicted_quality for row in found.rows]
    worse = msgspec.structs.replace(run, quality=tuple(0.5 * q for q in run.quality))
    off = audit(vectors, TRACE, worse, seed=1)
    assert off.agreement == pytest.approx(1.0 - np.mean(run.quality) / 2)
    assert off.in_time_agreement == 1.0


def test_a_record_of_format_2_is_read(profiled, tmp_path):
    run = simulated(profiled, real=True)
    run.save(tmp_path / "run.json")
    assert read_run(tmp_path / "run.json") == run
    plain = json.loads((tmp_path / "run.json").read_text())
    plain["format_version"] = 2
    plain["correct"] = [quality == 1.0 for quality in plain.pop("quality")]
    (tmp_path / "run.json").write_text(json.dumps(plain))
    assert read_run(tmp_path / "run.json").quality == run.quality


@pytest.mark.parametrize("stage", ["device wait", "link, both ways", "edge compute"])
def test_what_takes_longer_than_predicted_is_found_in_its_stage(profiled, stage):
    late_s, run = 0.02, simulated(profiled)
    after = {"device wait": ("begun", "encoding", "handed", "replied"),
             "link, both ways": ("replied",), "edge compute": ("replied",)}[stage]  # fmt: skip

    def slower(frame):
        if frame.where != "edge":
            return frame
        moved = {k: v + late_s * (k in after) for k, v in frame.moments_s.items()}
        spent = {k: v + late_s * (k == stage) for k, v in frame.stages_s.items()}
        return msgspec.structs.replace(
            frame, latency_s=frame.latency_s + late_s, moments_s=moved, stages_s=spent
        )

    run = msgspec.structs.replace(run, frames=tuple(slower(f) for f in run.frames))
    before = audit(profiled, TRACE, simulated(profiled), seed=1)
    found = audit(profiled, TRACE, run, seed=1)
    assert found.compared > 10
    assert not found.held["median error of latency"]
    off = {s.stage: s.median_error_s for s in found.stages}
    # a plan without a prefix does not wait for the device: then its encoding begins late
    where = {stage, "prefix"} if stage == "device wait" else {stage}
    was = {s.stage: s.median_error_s for s in before.stages}
    moved = {name for name in STAGES if off[name] > was[name] + late_s / 2}
    assert moved
    assert moved <= where


def test_pictures_that_no_outcome_was_recorded_of_are_judged_by_time_alone(profiled):
    found = audit(profiled, TRACE, simulated(profiled, real=False), seed=1)
    assert found.agreement == found.in_time_agreement
    assert {row.predicted_quality for row in found.rows} == {None}


def test_a_frame_that_time_was_kept_for_runs_with_its_fallback(profiled):
    plans = profiled.table.plans
    pairs = [(k, plans.index(replace(p, rescue=True))) for k, p in enumerate(plans)
             if not p.rescue and replace(p, rescue=True) in plans]  # fmt: skip
    assert pairs
    frame = simulated(profiled).frames[0]
    for plain, kept in pairs:
        one = msgspec.structs.replace(frame, plan=plain, reserved=True)
        assert audits._as_run(profiled.table, one) == kept
        assert audits._as_run(profiled.table, msgspec.structs.replace(one, reserved=False)) == plain


def test_an_audit_is_drawn_alike_every_time(profiled):
    found = audit(profiled, TRACE, simulated(profiled), seed=1)
    one, two = (svg_bytes(audit_figure(found), "a") for _ in range(2))
    assert one == two
    assert b"predicted - measured" in one
    assert len(stage_rows(found)) == len(STAGES)
    assert all("held" in row[2] for row in bar_rows(found))


def test_a_real_run_tells_every_stage(stream):
    trace = BandwidthTrace("steady", np.array([0.0]), np.array([6e6]), 4.0)
    args = ReplayArgs("3g-alexnet", "edge-only", None, "relay", 1)
    replayed = run_replay(stream, trace, args, lambda line: None)
    found = audit(stream, trace, replayed.record, seed=1)
    assert found.frames == replayed.result.measured.frames
    assert found.compared > 0
    by_name = {s.stage: s for s in found.stages}
    for name in ("link, both ways", "edge compute", "encoding"):
        assert by_name[name].frames == found.compared
        assert by_name[name].measured_s > 0
    assert found.in_time_agreement > 0.5  # a busy machine answers late


def test_the_command_writes_figures_and_a_picture(tmp_path, capsys):
    path, picture = tmp_path / "t.csv", tmp_path / "audit.svg"
    path.write_text("time_s,bandwidth_mbps\n" + "".join(f"{k},6\n" for k in range(4)))
    code = app(
        ["replay", "--scenario", "3g-alexnet", "--trace", str(path), "--controller", "edge-only",
         "--method", "relay", "--audit", "--audit-picture", str(picture), "--json"],
        standalone_mode=False,
    )  # fmt: skip
    assert not code
    document = msgspec.json.decode(capsys.readouterr().out.encode())
    assert [s["stage"] for s in document["audit"]["stages"]] == list(STAGES)
    assert document["audit"]["frames"] == document["replay"]["measured"]["frames"]
    assert picture.read_bytes().startswith(b"<?xml")
