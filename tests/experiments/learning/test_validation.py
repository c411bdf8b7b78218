"""What is judged says how far it is, and nothing is judged twice."""

from dataclasses import replace

import numpy as np
import pytest

from controller.policies.probing import BLIND_S
from envs.observed import PlanningAlone
from experiments.learning import training
from experiments.learning.distillation import distil
from experiments.learning.scorer import SHARP, Scorer
from experiments.learning.tasks import Data
from experiments.learning.training import train_policy
from experiments.learning.training_args import TrainArgs
from experiments.learning.validation import (
    OTHER_BLIND_S,
    ProgressDecider,
    Validation,
    learnt_blind_s,
    same_weights,
)

SMALL = TrainArgs(
    frames=2048, lanes=32, steps=64, batch=512, epochs=1, validations=1, hidden=8,
    validation_frames=100, planning_backlogs=4, planning_sweeps=20,
)  # fmt: skip


@pytest.fixture
def judgings(monkeypatch):
    """Every (blind_s, decider) that a task was judged with."""
    seen = []
    own = Validation.rewards

    def rewards(self, task, decider):
        seen.append((self._blind_s, type(decider).__name__))
        return own(self, task, decider)

    monkeypatch.setattr(Validation, "rewards", rewards)
    return seen


def test_what_was_judged_is_not_judged_again(stream, judgings):
    heard = []
    policy = train_policy(stream, SMALL, judging=lambda what, share: heard.append((what, share)))
    # planning with every time to ask the link; a rollout in which only the value estimate learns
    # leaves a scorer that decides as planning does
    assert [blind_s for blind_s, _ in judgings] == [BLIND_S, *OTHER_BLIND_S]
    record = policy.card.training
    asked = record["validation_reward_asking_after_s"][f"{record['blind_s']:g}"]
    assert record["validation_reward_of_planning"] == record["validation_reward"] == asked
    assert {what for what, _ in heard} == {"when to ask the link"}
    shares = [share for _, share in heard]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert len(shares) > 2 * len(OTHER_BLIND_S)  # within each, too


def test_an_untrained_scorer_earns_what_planning_alone_does(stream, judgings, monkeypatch):
    tasks = []
    monkeypatch.setattr(training, "learn", lambda found, *more: tasks.append(found) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train_policy(stream, SMALL)
    judged = tasks[0].judged
    chosen, _, planned = learnt_blind_s(judged, 100)
    validation = Validation(judged, chosen, 100)
    for sharpness in (SHARP, 0.05):  # of PPO and of DQN
        untrained = Scorer(8, sharpness).exported()
        assert np.array_equal(validation.rewards(judged[0], untrained), planned[0])
    assert validation.reward(PlanningAlone()) == validation.weighed(planned)


def test_weights_that_moved_are_judged(stream, judgings):
    heard = []
    args = replace(SMALL, frames=4096, critic_share=0.0, learning_rate=0.05, blind_s=0.5)
    train_policy(stream, args, judging=lambda what, share: heard.append((what, share)))
    assert len(judgings) >= 2
    assert {what for what, _ in heard} == {"validation"}
    assert heard[-1][1] == 1.0


def test_weights_are_the_same_bit_by_bit():
    one = Scorer(8, 2.0).exported()
    assert same_weights(one, replace(one))
    assert not same_weights(one, replace(one, out=one.out + np.float32(1e-6)))


def test_the_share_is_of_all_frames():
    heard = []
    decider_heard = ProgressDecider(PlanningAlone(), 200, heard.append)
    for _ in range(120):
        assert decider_heard.decide(np.zeros((3, 2), np.float32)).tolist() == [0, 0, 0]
    assert heard == [0.25, 0.5]


def test_a_map_takes_what_is_known_of_its_policy(stream):
    policy = train_policy(stream, replace(SMALL, frames=0, blind_s=0.5))
    heard = []
    data = Data.of(stream)
    made, judged = distil(stream, policy, data, 100, heard.append)
    assert judged.policy_reward == policy.card.training["validation_reward"]
    again, known = distil(stream, policy, data, 100, policy_reward=judged.policy_reward)
    assert known == judged
    assert again == made
    assert heard == sorted(heard)
    assert (heard[0], heard[-1]) == (0.0, 1.0)
