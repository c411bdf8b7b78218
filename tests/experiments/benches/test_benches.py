"""`coinfer bench codecs|executors|deadlines`: rows by hand, and the commands that print them."""

import itertools
import json

import numpy as np
import pytest
from tidy import tidy
from typer.testing import CliRunner

from artefacts import UsageError
from coinfer.cli.main import app
from controller.scenarios import load_profile, load_setting
from experiments.analyses.codec_table import codec_rows
from experiments.analyses.deadlines import scan_deadlines
from experiments.benches.executor import WARMUP, executor_rows
from experiments.evaluation.single_plans import single_plan_rewards
from models.codecs import LEARNED
from models.facts.cards import load_model
from models.facts.outcomes import QUANTISED, read_outcomes


@pytest.fixture(scope="module")
def camera():
    return load_model("mobilenetv2")


@pytest.fixture(scope="module")
def outcomes(camera):
    return read_outcomes(camera.folder / "outcomes.npz")


def bench(*args):
    return CliRunner().invoke(app, ["bench", *args])


def test_every_codec_has_one_row_and_its_own_figures(camera, outcomes):
    device, edge = (load_profile(name, camera) for name in ("pi4-one-core", "edge-x86"))
    rows = codec_rows(camera, outcomes, 4, device, edge)
    order = [(r.cut, r.mean_bytes) for r in rows]
    assert order == sorted(order)
    by = {(r.codec, r.cut): r for r in rows}
    assert len(by) == len(rows)
    assert QUANTISED not in {r.codec for r in rows}
    plain = outcomes.accuracy(4, half="report")
    for name, size in (("uint8", 144 * 144 * 3), ("float32", 4 * 144 * 144 * 3)):
        assert (by[name, 0].mean_bytes, by[name, 0].change) == (size, 0.0)
    for (codec, cut), row in by.items():
        assert row.change == pytest.approx(row.accuracy - plain), (codec, cut)
        if codec == "int4c+zstd":
            unpacked = by["int4c", cut]
            assert row.mean_bytes < unpacked.mean_bytes, cut
            assert row.accuracy == unpacked.accuracy, cut
    (learned,) = camera.spec.bottlenecks
    row = by[LEARNED, learned.cut]
    assert row.after == "blocks.4.body"
    assert row.mean_bytes == outcomes.mean_bytes(4, LEARNED, learned.cut)
    assert row.accuracy == outcomes.accuracy(4, LEARNED, learned.cut, "report") < plain
    assert row.encode_s == device.encode_s(LEARNED, row.after) > 0
    assert row.decode_s == edge.decode_s(LEARNED, row.after) > 0


def test_times_that_nobody_measured_are_left_out(camera, outcomes):
    rows = codec_rows(camera, outcomes, 0, None, None, "policy")
    assert {(r.encode_s, r.decode_s) for r in rows} == {(None, None)}
    assert {r.accuracy for r in rows if r.codec == "uint8"} == {outcomes.accuracy(0, half="policy")}
    assert LEARNED not in {r.codec for r in rows}  # exit 1 leaves before it


def test_the_codecs_command_prints_the_rows(camera, outcomes):
    said = bench("codecs", "--exit", "2", "--json")
    assert said.exit_code == 0, said.output
    rows = codec_rows(camera, outcomes, 1, None, None)
    found = [(r["codec"], r["cut"], r["accuracy"]) for r in json.loads(said.stdout)]
    assert found == [(r.codec, r.cut, r.accuracy) for r in rows]
    table = bench("codecs", "--device", "pi4-one-core")
    assert table.exit_code == 0, table.output
    assert "mobilenetv2, exit 5: float32 accuracy 87.01 %" in " ".join(table.output.split())


def test_executors_are_medians_in_turn_and_ratios_of_the_session(camera, outcomes):
    """A clock that gives every executor its own times: 3 turns, of which the median counts."""
    taken = {"session": (2, 9, 3), "onnx": (1, 6, 6), "onnx-int8": (1, 1, 12), "torch": (30, 9, 8)}
    starts = [0.0] * (WARMUP * len(taken))  # warming up is not timed
    turns = [(0.0, 1e-3 * taken[name][turn]) for turn in range(3) for name in taken]
    ticks = iter([*starts, *itertools.chain(*turns)])
    rows = executor_rows(camera, outcomes, 0, 3, lambda: next(ticks))
    assert next(ticks, None) is None
    assert list(rows) == list(taken)
    assert [r.value for r in rows.values()] == pytest.approx([3.0, 6.0, 1.0, 9.0])
    assert [r.ratio for r in rows.values()] == pytest.approx([1.0, 2.0, 1 / 3, 3.0])
    assert {(r.unit, r.baseline) for r in rows.values()} == {("ms", "session")}
    exact = outcomes.accuracy(0, half="report")
    small = outcomes.accuracy(0, QUANTISED, 0, "report")
    assert [r.accuracy for r in rows.values()] == [exact, exact, small, exact]
    assert small != exact


def test_the_executors_command_times_all_four():
    said = bench("executors", "--exit", "1", "--repeats", "10", "--json")
    assert said.exit_code == 0, said.output
    found = json.loads(said.stdout)
    assert list(found) == ["session", "onnx", "onnx-int8", "torch"]
    assert found["session"]["ratio"] == 1.0
    for row in found.values():
        assert row["value"] > 0
        assert row["ratio"] == pytest.approx(row["value"] / found["session"]["value"])


@pytest.mark.parametrize(
    ("argv", "match"),
    [
        (("codecs", "--exit", "6"), "--exit: found 6, expected 1 to 5"),
        (("executors", "--exit", "6"), "--exit: found 6, expected 1 to 5"),
        (("deadlines", "--scenario", "edgent", "--ms", "5;6"), "--ms: found '5;6', expected numb"),
        (("deadlines", "--scenario", "edgent", "--ms", "0"), "--ms: found '0', expected numbers a"),
    ],
)
def test_a_mistake_is_one_error(argv, match):
    said = bench(*argv)
    assert isinstance(said.exception, UsageError)
    assert match in str(said.exception)


@pytest.fixture
def no_data(monkeypatch, tmp_path):
    """Generated stand-ins for traces, whatever lies on this machine."""
    monkeypatch.setenv("COINFER_DATA", str(tmp_path))


def test_deadlines_are_judged_on_single_plans_and_the_bound(no_data):
    scenario, frames = tidy("3g-alexnet"), 15
    reported = []
    rows = scan_deadlines(scenario, [0.05, 0.088, 0.4], frames, lambda *at: reported.append(at))
    assert reported == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert [r.deadline_s for r in rows] == [0.05, 0.088, 0.4]
    setting = load_setting(scenario)  # its own deadline is the second
    rewards = single_plan_rewards(
        setting, setting.traces("train").traces, "policy", max_frames=frames
    )
    local = {str(p) for p, alone in zip(setting.table.plans, setting.table.local, strict=True)
             if alone}  # fmt: skip
    assert rows[1].best_single * rows[1].bound == pytest.approx(rewards.max())
    assert rows[1].device_only * rows[1].bound == pytest.approx(rewards[setting.table.local].max())
    assert rows[1].best_plan == str(setting.table.plans[int(np.argmax(rewards))])
    for tighter, looser in itertools.pairwise(rows):
        assert tighter.bound < looser.bound < 1.0
    for row in rows:
        assert row.best_local in local
        assert 0.5 < row.device_only <= row.best_single < 1.05
    # in 50 ms the device is through with its first exit alone; in 400 ms the edge is worth it
    assert rows[0].best_local == "exit 1 on the device"
    assert rows[2].best_plan not in local
    assert rows[2].best_single > rows[2].device_only


def test_the_deadlines_command_takes_milliseconds(no_data):
    argv = ("deadlines", "--scenario", "3g-alexnet", "--ms", "88,400", "--frames", "5")
    said = bench(*argv, "--json")
    assert said.exit_code == 0, said.output
    rows = json.loads(said.stdout)
    assert [r["deadline_s"] for r in rows] == [0.088, 0.4]
    assert rows[0]["bound"] < rows[1]["bound"]
    table = bench(*argv)
    assert table.exit_code == 0, table.output
    assert f"{rows[1]['bound']:.4f}" in table.output
