"""A policy of a device that takes longer than its profile all the time."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from artefacts import ArtefactError, read_json, write_json
from controller.interface import Measurement, Situation
from controller.policies.learned import LearnedController
from controller.policies.network import load_policy, read_card, save_policy
from controller.scenarios import at_pace, load_setting, read_scenario
from experiments.evaluation.evaluator import evaluate
from experiments.replay.deployment.places import slower_device


@pytest.fixture(scope="module")
def camera():
    return load_setting(read_scenario("lte-mobilenet"))


@pytest.fixture(scope="module")
def policy(camera, random_policy):
    return random_policy(camera)


def paced(policy, pace):
    return replace(policy, card=msgspec.structs.replace(policy.card, device_pace=pace))


def at(camera, pace, now_s=0.5):
    return Situation(now_s, 3, camera.scenario.frames.deadline_s, 0.01, 0, 0.03, pace)


def test_it_sees_what_a_policy_sees_whose_profile_says_so(camera, policy):
    mine = LearnedController(paced(policy, 1.5), camera)
    other = LearnedController(policy, at_pace(camera, 1.5))
    for controller in (mine, other):
        controller.reset()
        controller.observe(Measurement(0.4, 20_000, 0.05))
    for pace, relative in ((1.5, 1.0), (1.0, 1.0), (1.8, 1.2)):
        seen = mine.observation(at(camera, pace))
        expected = other.observation(at(camera, relative))
        assert np.allclose(seen.flat, expected.flat, atol=1e-6)
        assert mine.decide(at(camera, pace)) == other.decide(at(camera, relative))


def test_the_guard_leaves_it_alone_on_its_own_device(camera, policy):
    """A policy of the profile gives every frame of a device 1.5 times slower to the planner."""
    for one, fallbacks in ((policy, 1), (paced(policy, 1.5), 0)):
        controller = LearnedController(one, camera)
        controller.reset()
        controller.decide(at(camera, 1.5))
        assert controller.fallbacks == fallbacks
        controller.decide(at(camera, 2.5, 0.6))
        assert controller.fallbacks == fallbacks + 1


def test_the_guard_of_many_streams_leaves_it_alone_there(camera, policy):
    traces = [t.slice(0.0, 5.0) for t in camera.traces("test").traces[:2]]
    there, fallbacks = slower_device(camera, 1.5), []
    for one in (policy, paced(policy, 1.5)):
        made = [LearnedController(one, camera) for _ in traces]
        runs = evaluate(there, traces, made.__getitem__)
        frames = sum(len(run.plan) for run in runs)
        fallbacks.append(sum(controller.fallbacks for controller in made) / frames)
    # streams begin with nothing known, and a state that comes and goes is still the planner's
    assert fallbacks[0] > 0.5
    assert fallbacks[1] < 0.5 * fallbacks[0]


def test_the_pace_is_kept_and_bounded(camera, policy, tmp_path):
    save_policy(tmp_path / "slow", paced(policy, 1.05))
    assert load_policy(tmp_path / "slow", camera).card.device_pace == 1.05
    save_policy(tmp_path / "usual", policy)
    assert "device_pace" not in read_json(tmp_path / "usual" / "policy.json", dict)
    write_json(tmp_path / "slow" / "policy.json", paced(policy, 200.0).card)
    with pytest.raises(ArtefactError, match="device_pace"):
        read_card(tmp_path / "slow")
