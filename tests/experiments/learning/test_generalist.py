"""The generalist: drawn scenarios, its artefact, and policies made of it without training."""

import json
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from priced import taken
from typer.testing import CliRunner

from artefacts import ArtefactError, data_directory, digest_file
from coinfer.cli.main import app
from controller.planners.queue_values import Solving
from controller.policies import SHIPPED_GENERALIST
from controller.policies.generalist import load_generalist, save_generalist
from controller.policies.network import load_policy, written_belief
from controller.policies.observation import WIDTH
from controller.scenarios import load_setting, read_scenario
from experiments.evaluation.comparison import compare
from experiments.evaluation.controllers import ControllerFactory, chosen_names
from experiments.learning.randomised import GENERALIST, draw, pooled_belief, train_generalist
from traces.library import TraceSet
from traces.trace import BandwidthTrace

SMALL = replace(
    GENERALIST, frames=256, lanes=16, steps=16, batch=64, epochs=1, validations=1, hidden=8,
    validation_frames=20, planning_backlogs=3, planning_sweeps=5, episode_frames=10, generated=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def made():
    reported = []
    found = train_generalist(SMALL, 2, planning=reported.append)
    assert reported == [0.0, 0.5, 1.0]
    return found


def test_scenarios_are_drawn_alike_for_a_seed_and_none_is_norwegian():
    rng = np.random.default_rng(3)
    drawn = [draw(rng, number) for number in range(24)]
    again = np.random.default_rng(3)
    assert [draw(again, number) for number in range(24)] == drawn
    assert {s.traces.family for s in drawn} == {"belgium"}
    assert sum(s.kind == "closed-loop" for s in drawn) == 3
    streams = [s for s in drawn if s.kind == "frame-stream"]
    assert all(0.06 <= s.frames.deadline_s <= 0.2 for s in streams)
    assert all(0.6 <= s.device_slowdown <= 1.8 for s in streams)
    assert len({s.network for s in streams}) == 2
    assert {bool(s.reward.megabyte) for s in streams} == {True, False}
    assert load_setting(drawn[1]).table.senders.size


def test_it_is_written_read_and_refused(made, tmp_path):
    save_generalist(tmp_path, made)
    again = load_generalist(tmp_path)
    x = np.random.default_rng(0).uniform(-3, 3, (50, WIDTH)).astype(np.float32)
    assert np.array_equal(again.weights.scores(x), made.weights.scores(x))
    assert np.array_equal(again.belief.kernels, made.belief.kernels)
    assert msgspec.json.encode(again.card) == msgspec.json.encode(made.card)
    assert len(again.card.training["settings"]) == 2
    for field, value in (("context", ["a"]), ("candidates", 3), ("hidden", 0), ("blind_s", -1.0)):
        card = json.loads((tmp_path / "generalist.json").read_text())
        save_generalist(tmp_path / field, made)
        (tmp_path / field / "generalist.json").write_text(json.dumps(card | {field: value}))
        with pytest.raises(ArtefactError, match=field):
            load_generalist(tmp_path / field)
    raw = bytearray((tmp_path / "generalist.npz").read_bytes())
    raw[100] ^= 1
    (tmp_path / "generalist.npz").write_bytes(raw)
    with pytest.raises(ArtefactError, match="field 'digest'"):
        load_generalist(tmp_path)
    card = json.loads((tmp_path / "generalist.json").read_text())
    (tmp_path / "generalist.npz").write_bytes(b"PK")
    card["weights_digest"] = digest_file(tmp_path / "generalist.npz")
    (tmp_path / "generalist.json").write_text(json.dumps(card))
    with pytest.raises(ArtefactError, match="expected an npz of arrays"):
        load_generalist(tmp_path)
    with pytest.raises(ArtefactError, match=r"generalist\.json: found no such file"):
        load_generalist(tmp_path / "none")


def test_a_policy_of_it_needs_no_trace_of_its_scenario(made, monkeypatch):
    setting = load_setting(read_scenario("3g-alexnet"))
    monkeypatch.setattr(type(setting), "traces", None)
    policy = made.adapted(setting, how=Solving(3, sweeps=5))
    reported = made.card.training
    assert policy.card.training == {
        "generalist": made.card.weights_digest,
        "seed": reported["seed"], "traces": reported["traces"],
    }  # fmt: skip
    assert policy.belief is made.belief or np.array_equal(
        policy.belief.kernels, made.belief.kernels
    )
    assert policy.advantages.table.shape[-1] == len(setting.table)


def test_the_command_adapts_and_compare_plans_for_it(made, tmp_path, monkeypatch):
    save_generalist(tmp_path / "g", made)
    argv = ["adapt", "--scenario", "3g-alexnet", "--generalist", str(tmp_path / "g"), "--out",
            str(tmp_path / "p"), "--json"]  # fmt: skip
    monkeypatch.setattr("controller.planners.queue_values.Solving", lambda: Solving(3, sweeps=5))
    done = CliRunner().invoke(app, argv)
    assert done.exit_code == 0, done.output
    setting = load_setting(read_scenario("3g-alexnet"))
    policy = load_policy(tmp_path / "p", setting)
    trace = BandwidthTrace("t", np.arange(8.0), np.full(8, 2e6), 8.0)
    factory = ControllerFactory(setting, policy=policy, generalist_folder=tmp_path / "g")
    found = compare(
        setting, TraceSet((trace,), True, "made"), ["learned", "generalist"], factory, max_frames=50
    )
    assert found.controllers["generalist"].reward == found.controllers["learned"].reward
    assert "generalist" not in chosen_names("", setting)


def test_the_command_trains_one(tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.learning.randomised.GENERALIST", SMALL)
    done = CliRunner().invoke(
        app, ["train-generalist", "--out", str(tmp_path), "--frames", "0", "--settings", "1"]
    )
    assert done.exit_code == 0, done.output
    found = load_generalist(tmp_path)
    assert found.card.training["frames_seen"] == 0
    assert not found.weights.out.any()


def test_the_shipped_one_has_seen_belgium_alone():
    shipped = load_generalist(SHIPPED_GENERALIST)
    record = shipped.card.training
    assert {drawn["family"] for drawn in record["settings"]} == {"belgium"}
    assert len(record["settings"]) == 32
    assert "norway" not in record["traces"]
    if data_directory() is None:
        pytest.skip("no real logs here: what the belief was counted on is not there")
    belief = written_belief(pooled_belief())
    assert np.array_equal(shipped.belief.rates_bps, belief.rates_bps)
    assert np.array_equal(shipped.belief.kernels, belief.kernels)


def test_a_device_unlike_those_it_was_trained_for_is_said():
    shipped = load_generalist(SHIPPED_GENERALIST)
    for name in ("lte-mobilenet", "3g-mobilenet-priced", "3g-alexnet", "edgent"):
        assert shipped.beyond(load_setting(taken(name))) == ()
    scenario = read_scenario("3g-mobilenet").with_node(0, slowdown=20.0)
    (reported,) = shipped.beyond(load_setting(scenario))
    assert reported.startswith("device_slowdown, found 20, drawn from 0.")


def test_what_leaves_its_training_is_said(made):
    setting = load_setting(read_scenario("3g-alexnet"))
    wide = replace(
        made, lowest=np.full_like(made.lowest, -3), highest=np.full_like(made.highest, 3)
    )
    policy = wide.adapted(setting, how=Solving(3, sweeps=5))
    assert wide.outside(policy, setting) == ()
    narrow = replace(wide, highest=np.full_like(made.highest, -2.9))
    policy = narrow.adapted(setting, how=Solving(3, sweeps=5))
    named = [line.split(",")[0] for line in narrow.outside(policy, setting)]
    assert named == ["device_price", "byte_price", "deadline", "interval", "round_trip"]
