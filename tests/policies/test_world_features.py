"""What frames show of a world that is not tidy, as numbers of the observation."""

import json
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from tidy import tidy

from artefacts import digest_bytes
from controller.interface import FrameResult, Measurement, Noticed, Situation
from controller.planners.robust import RobustPlanner
from controller.policies.arrays import packed, read_arrays
from controller.policies.features import LEAST_RATIO, WORLD, Observer, Scales
from controller.policies.learned import LearnedController
from controller.policies.network import load_policy, read_card, save_policy
from controller.policies.observation import CONTEXT, DESCRIBED, EARLIER_CONTEXTS
from controller.scenarios import load_setting
from controller.scenarios.world import WorldSection
from controller.sensing.pace import CLEARLY_SLOW

ONE = np.array([True, False])
DEADLINE_S = 0.1


def seen(observer, pace=1.0):
    return dict(zip(WORLD, observer.world(np.full(2, pace))[0].tolist(), strict=True))


def end(observer, latency_s=0.05, **shown):
    order = ("size", "edge_queue_s", "confidence")
    noticed = np.array([[shown.get(name, np.nan)] * 2 for name in order])
    yes = np.array([True, True])
    observer.ended(ONE, yes, yes, np.full(2, latency_s), noticed)


@pytest.fixture
def observer():
    return Observer(2, Scales(DEADLINE_S, worldly=True))


def test_what_a_frame_shows_is_followed(observer):
    end(observer, size=4.0, edge_queue_s=0.1, confidence=1.0)
    found = seen(observer)
    assert found["own_size"] == pytest.approx(1.0)
    assert found["size_changes"] == pytest.approx(0.4)  # a fifth of two octaves
    assert found["edge_queue"] == pytest.approx(0.5)
    assert found["last_latency"] == pytest.approx(0.5)
    assert found["confidence"] == pytest.approx(0.3)
    for _ in range(60):
        end(observer, size=4.0, edge_queue_s=0.1, confidence=1.0)
    found = seen(observer)
    assert found["own_size"] == pytest.approx(2.0)
    assert found["size_changes"] == pytest.approx(0.0, abs=1e-3)
    assert not observer.world(np.ones(2))[1].any(), "the other lane's frame has not ended"


def test_what_a_frame_does_not_show_stays_as_it_was(observer):
    end(observer, size=4.0, edge_queue_s=0.1, confidence=1.0)
    before = seen(observer)
    end(observer, latency_s=np.inf)
    after = seen(observer)
    assert after.pop("last_latency") == 2.0
    before.pop("last_latency")
    assert after == before
    observer.reset(ONE)
    assert not observer.world(np.ones(2)).any()


@pytest.mark.parametrize("value", [0.0, 1e-9, 1e9])
def test_absurd_ratios_stay_on_the_scale(observer, value):
    for _ in range(50):
        end(observer, latency_s=1e9, size=value, edge_queue_s=value, confidence=1.0)
    assert np.isfinite(observer.world(np.ones(2))).all()
    assert seen(observer, value)["device_pace"] >= np.log2(LEAST_RATIO) - 1e-9


def test_a_tidy_world_shows_nothing():
    observer = Observer(2, Scales(DEADLINE_S))
    end(observer, size=4.0, edge_queue_s=0.1, confidence=1.0)
    assert not observer.world(np.ones(2)).any()


def test_a_controller_sees_what_its_frames_have_shown(random_policy):
    plain = load_setting(tidy("3g-mobilenet"))
    world = WorldSection(sub_second=True)
    setting = load_setting(msgspec.structs.replace(plain.scenario, world=world))
    policy, contexts = random_policy(plain), []
    for one in (plain, setting):
        controller = LearnedController(policy, one)
        controller.reset()
        controller.observe(Measurement(0.0, 3000, 0.01))
        noticed = Noticed(size=None, edge_queue_s=0.01, confidence=0.9)
        controller.record(FrameResult(0, 0, 0.05, 0.05, 0, True, noticed))
        now = Situation(0.1, 1, one.scenario.frames.deadline_s, 0.0, 0, 0.03, 2.0)
        contexts.append(controller.observation(now).context[0])
    without, shown = contexts
    at = [CONTEXT.index(name) for name in WORLD]
    assert not without[at].any()
    assert shown[CONTEXT.index("device_pace")] == pytest.approx(1.0)
    assert shown[CONTEXT.index("own_size")] == 0.0
    others = [k for k in range(len(CONTEXT)) if k not in at]
    assert without[others] == pytest.approx(shown[others])


def as_before(folder):
    """Rewrite a policy as one that was trained on the earlier context."""
    card, arrays = read_card(folder), read_arrays(folder / "policy.npz")
    earlier = EARLIER_CONTEXTS[0]
    kept = [CONTEXT.index(name) for name in earlier]
    for name in ("weights_context", "lowest", "highest"):
        arrays[name] = arrays[name][kept]
    raw = packed(arrays)
    (folder / "policy.npz").write_bytes(raw)
    plain = json.loads((folder / "policy.json").read_text())
    assert tuple(plain["context"]) == card.context
    plain |= {"context": list(earlier), "weights_digest": digest_bytes(raw)}
    (folder / "policy.json").write_text(json.dumps(plain))


def test_a_policy_of_the_earlier_context_decides_as_it_did(stream, random_policy, tmp_path):
    policy, rng = random_policy(stream), np.random.default_rng(0)
    save_policy(tmp_path, policy)
    as_before(tmp_path)
    read = load_policy(tmp_path, stream)
    rows = rng.normal(size=(2000, len(CONTEXT) + 12 * (len(DESCRIBED) + 1))).astype(np.float32)
    rows[:, -12:] = 1.0
    rows[:, [CONTEXT.index(name) for name in WORLD]] = 0.0
    assert (read.decide(rows) == policy.decide(rows)).all()
    rows[:, CONTEXT.index("device_pace")] = 3.0
    assert not read.outside(np.clip(rows[:, : len(CONTEXT)], -3.0, 3.0)).any()
    # written again it is one of today's
    save_policy(tmp_path / "again", read)
    again = load_policy(tmp_path / "again", stream)
    assert again.card.context == CONTEXT
    assert (again.decide(rows) == read.decide(rows)).all()


def test_on_a_device_that_is_slow_for_a_while_the_robust_planner_decides(stream, random_policy):
    policy = random_policy(stream)
    weights = policy.planned().weights
    # it prefers what planning advises against
    policy = replace(policy, weights=replace(weights, sharpness=-weights.sharpness))
    learned, robust = LearnedController(policy, stream), RobustPlanner(stream, policy.belief)
    heard = Measurement(0.5, 20_000, 0.05)
    plans = []
    for pace in (1.0, CLEARLY_SLOW, CLEARLY_SLOW + 0.01, 1.5):
        for controller in (learned, robust):
            controller.reset()
            controller.observe(heard)
        situation = Situation(1.0, 0, stream.scenario.frames.deadline_s, 0.0, 0, 0.03, pace)
        plans.append((learned.decide(situation), robust.decide(situation), learned.fallbacks))
    assert [count for *_, count in plans] == [0, 0, 1, 2]
    assert all(mine != theirs for mine, theirs, _ in plans[:2])
    assert all(mine == theirs for mine, theirs, _ in plans[2:])
