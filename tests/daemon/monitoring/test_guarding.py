"""A policy that leaves most frames to the robust planner: shown, and said once an hour."""

import asyncio
import contextlib
import dataclasses
import logging

import numpy as np
import pytest

from controller.daemon.monitoring.guarding import AGAIN_S, WINDOW_S, HandedOver
from controller.daemon.monitoring.watching import LOOK_S, report_policy
from controller.device.engine import FrameEngine
from controller.device.frame import EngineArgs
from controller.interface import Measurement, Situation
from controller.link.interface import NoLink
from controller.policies.learned import LearnedController
from models.executors import OnnxExecutor

pytestmark = pytest.mark.quick
PER_S = 4.0


def play(controller, setting, guard, until_s, stream_clock):
    """Frames of a policy, looked at every `LOOK_S`, up to `until_s`: the lines that are due."""
    said = []
    while stream_clock["at_s"] < until_s:
        stream_clock["at_s"] += 1 / PER_S
        now_s, deadline_s = stream_clock["at_s"], setting.scenario.frames.deadline_s
        rtt_s = setting.scenario.link.rtt_s
        controller.decide(Situation(now_s, stream_clock["frames"], deadline_s, 0.0, 0, rtt_s))
        stream_clock["frames"] += 1
        if now_s % LOOK_S == 0.0:
            line = guard.look(controller.name, now_s, stream_clock["frames"], controller.fallbacks)
            said += [(now_s, line)] if line else []
    return said


def test_a_link_unlike_those_of_training_is_said_once_and_shown_while_it_lasts(
    stream, random_policy
):
    policy = random_policy(stream)
    narrow = dataclasses.replace(policy, highest=np.full_like(policy.highest, -2.0))
    controllers = [LearnedController(one, stream) for one in (narrow, policy)]
    for one in controllers:
        one.observe(Measurement(0.0, 3000, 0.01))
    guard, stream_clock = HandedOver(), {"at_s": 0.0, "frames": 0}
    said = play(controllers[0], stream, guard, 2.0 * WINDOW_S, stream_clock)
    assert [at_s for at_s, _ in said] == [WINDOW_S + LOOK_S], "after a whole minute, and once"
    assert said[0][1].startswith(
        "controller learned: the robust planner decided 100 % of the last minute's frames; found a "
    )
    assert guard.share == 1.0
    # a reload brings a policy that knows this link, and counts from 0
    assert not play(controllers[1], stream, guard, 2.5 * WINDOW_S, stream_clock)
    assert guard.share == pytest.approx(0.5, abs=LOOK_S / WINDOW_S)
    assert not play(controllers[1], stream, guard, 3.5 * WINDOW_S, stream_clock)
    assert guard.share == 0.0


def test_it_is_said_once_an_hour_and_of_most_frames_only():
    guard, said = HandedOver(), []
    for now_s in np.arange(0.0, 2.5 * AGAIN_S, LOOK_S):
        said += [now_s] if guard.look("x", now_s, int(10 * now_s), 9 * now_s) else []
    assert said == [WINDOW_S, WINDOW_S + AGAIN_S, WINDOW_S + 2 * AGAIN_S]
    half = HandedOver()
    assert not any(half.look("x", t, int(10 * t), 5 * t) for t in np.arange(0.0, AGAIN_S, LOOK_S))
    assert half.share == 0.5


def test_nothing_is_said_of_no_frames():
    guard = HandedOver()
    assert guard.look("x", 0.0, 100, 90.0) is None
    assert guard.share is None
    for now_s in np.arange(LOOK_S, 3 * WINDOW_S, LOOK_S):
        assert guard.look("x", now_s, 100, 90.0) is None
    assert guard.share is None


def test_the_daemon_s_log_has_the_line(stream, random_policy, caplog):
    controller = LearnedController(random_policy(stream), stream)
    times = iter(np.arange(1000.0, 1e6, WINDOW_S))
    engine = FrameEngine(
        stream.model, OnnxExecutor(stream.model), stream.device, stream.table, controller, NoLink(),
        EngineArgs(0.1), clock=lambda: float(next(times)),
    )  # fmt: skip
    guard, came = HandedOver(), iter(range(100, 10**9, 100))

    def frames():
        controller.fallbacks += 80
        return next(came)

    async def twice():
        for _ in range(2):  # each begins with a look
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(report_policy(engine, guard, frames), 0.01)

    with caplog.at_level(logging.WARNING, "coinfer.device"):
        asyncio.run(twice())
    engine.close()
    assert "the robust planner decided 80 % of the last minute's frames" in caplog.text
    assert guard.share == 0.8
