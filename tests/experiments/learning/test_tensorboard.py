"""`coinfer train --tensorboard`: what is written, and that it changes no training."""

import sys
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from coinfer.cli.main import app
from experiments.learning.training import TrainArgs, train_policy

SMALL = TrainArgs(
    frames=1024, lanes=32, steps=16, batch=128, epochs=1, validations=2, hidden=8,
    validation_frames=40, planning_backlogs=4, planning_sweeps=10, episode_frames=20, blind_s=0.5,
)  # fmt: skip


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_figures_are_written_and_the_policy_is_the_same(stream, tmp_path, algorithm):
    reading = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="tensorboard is not installed (extra 'train')",
    )
    args = replace(SMALL, algorithm=algorithm)
    plain, written = train_policy(stream, args), train_policy(stream, args, tensorboard=tmp_path)
    assert plain.card.weights_digest == written.card.weights_digest
    (run,) = tmp_path.iterdir()
    found = reading.EventAccumulator(str(run))
    found.Reload()
    names = set(found.Tags()["scalars"])
    assert "validation/reward" in names
    if algorithm == "ppo":
        assert {"rollout/reward_per_frame", "train/value_loss"} <= names
        rewards = [event.value for event in found.Scalars("rollout/reward_per_frame")]
        assert len(rewards) == 2
        assert all(0.0 < reward < 1.0 for reward in rewards)


def test_without_the_package_there_is_one_line_and_no_training(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    done = CliRunner().invoke(
        app, ["train", "--scenario", "3g-alexnet", "--out", str(tmp_path / "p"),
              "--tensorboard", str(tmp_path / "t")],
    )  # fmt: skip
    assert done.exit_code != 0
    assert "--tensorboard: found no package 'tensorboard', expected pip install" in str(
        done.exception or done.output
    )
    assert not list(tmp_path.iterdir())
