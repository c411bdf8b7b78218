"""Frames that end at a gate, and those that go on, through the real loop and a real edge."""

import contextlib
import dataclasses
import functools
import threading

import numpy as np
import pytest

from controller.device.frame_loops import DeviceConfig, connect_loop
from controller.edge.server import EdgeServer
from controller.physics.building import build_table
from controller.planners.fixed import FixedController
from controller.plans import check_plan, device_only, one_hop
from controller.scenarios import load_setting, read_scenario
from models.data.pictures import generated_pictures
from models.executors import OnnxExecutor

PICTURES = 24


@functools.cache
def camera():
    return load_setting(read_scenario("3g-mobilenet"))


@pytest.fixture(scope="module")
def executor():
    return OnnxExecutor(camera().model)


@pytest.fixture(scope="module")
def pictures(executor):
    """Pictures, and every exit's (class, calibrated confidence) of each."""
    spec, model = camera().spec, camera().model
    made = generated_pictures(PICTURES, np.random.default_rng(0), 144)
    answers = []
    for picture in made:
        x = model.normalise(picture[None])
        row = []
        for i, branch in enumerate(spec.branches):
            logits = executor.run(i, 0, len(branch), x)
            found = model.answer(i, logits)
            row.append((found.label, found.confidence))
        answers.append(row)
    return made, answers


@pytest.fixture(scope="module")
def edge(executor):
    server = EdgeServer(camera().model, executor)
    server.start()
    yield server
    server.close()


def run(executor, plan, port, pictures, rest_s=None, **options):
    setting = camera()
    table = build_table(
        setting.spec, setting.profiles, setting.outcomes,
        [check_plan(plan, setting.spec)], temperatures=setting.model.temperatures,
    )  # fmt: skip
    if rest_s is not None:
        costs = table.costs.copy()
        costs[:, 0] = table.early_s[:, -1] + rest_s
        table = dataclasses.replace(table, costs=costs)
    config = DeviceConfig(
        **({"mode": "stream", "deadline_s": 5.0, "interval_s": 0.01, "frames": PICTURES} | options)
    )
    loop = connect_loop(
        setting.model, executor, setting.device, table, FixedController("x", 0),
        ("127.0.0.1", port), config, connect_timeout_s=2.0 if port != 1 else 0.1,
    )  # fmt: skip
    with contextlib.closing(loop.link):
        return loop.run(pictures)


def middle(answers, gate):
    """A threshold that about half of the pictures pass at a gate, and is near none of them."""
    sure = sorted(row[gate][1] for row in answers)
    gaps = np.diff(sure)
    k = PICTURES // 4 + int(np.argmax(gaps[PICTURES // 4 : 3 * PICTURES // 4]))
    return float((sure[k] + sure[k + 1]) / 2)


class Slow:
    """An executor whose edge part outlasts any deadline here."""

    def __init__(self, inner):
        self._inner, self._never = inner, threading.Event()

    def run(self, branch, start, stop, x):
        self._never.wait(1.0)
        return self._inner.run(branch, start, stop, x)

    def decode(self, *args):
        return self._inner.decode(*args)


def test_a_confident_exit_answers_and_sends_nothing(executor, edge, pictures):
    made, answers = pictures
    setting = camera()
    length, cut = len(setting.spec.branches[4]), setting.spec.exits[1].after + 1
    threshold = middle(answers, 1)
    plan = one_hop(4, cut, length, "int8c", gates=(1,), threshold=threshold)
    records = run(executor, plan, edge.port, made)
    stopped = 0
    for record, row in zip(records, answers, strict=True):
        assert record.error is None
        assert record.by_plan
        if row[1][1] >= threshold:
            stopped += 1
            assert (record.exit, record.bytes_sent) == (1, 0)
            assert record.label == row[1][0]
            assert record.confidence == pytest.approx(row[1][1], abs=1e-4)
        else:
            assert record.exit == 4
            assert record.bytes_sent > 0
    assert 0 < stopped < PICTURES


def test_a_local_plan_ends_at_its_first_sure_gate(executor, pictures):
    made, answers = pictures
    threshold = middle(answers, 0)
    plan = dataclasses.replace(device_only(camera().spec, 4), gates=(0, 2), threshold=threshold)
    records = run(executor, plan, 1, made)
    found = []
    for record, row in zip(records, answers, strict=True):
        expected = next((g for g in (0, 2) if row[g][1] >= threshold), 4)
        assert record.exit == expected
        assert record.by_plan
        assert record.label == row[expected][0]
        assert record.bytes_sent == 0
        found.append(expected)
    assert 0 in found
    assert {2, 4} & set(found)


def test_without_an_edge_the_gate_has_answered_already(executor, pictures):
    """No frame is lost, and no head is computed twice."""
    made, answers = pictures
    setting = camera()
    cut = setting.spec.exits[1].after
    plan = one_hop(4, cut, len(setting.spec.branches[4]), "int8c", gates=(1,), threshold=0.999999)
    records = run(executor, plan, 1, made)
    assert all(r.exit == 1 and not r.by_plan and r.latency_s is not None for r in records)
    assert [r.label for r in records] == [row[1][0] for row in answers]


def test_hedges_go_on_behind_the_gates(executor, pictures):
    made, _ = pictures
    setting = camera()
    cut = setting.spec.exits[1].after
    plan = one_hop(
        4, cut, len(setting.spec.branches[4]), "int8c", hedge=True, gates=(0, 1),
        threshold=0.9999999,
    )  # fmt: skip

    server = EdgeServer(setting.model, Slow(executor))
    server.start()
    try:
        records = run(executor, plan, server.port, made[:6], frames=6, deadline_s=0.4,
                      interval_s=0.4)  # fmt: skip
    finally:
        server.close()
    assert all(r.latency_s is not None for r in records)
    assert {r.exit for r in records} == {4}
    assert not any(r.by_plan for r in records)


def test_what_lies_behind_a_gate_is_left_where_the_deadline_comes_first(executor, pictures):
    """By the profile there is time for exit 1 and not for the rest: the rest is not begun."""
    made, answers = pictures
    setting = camera()
    plan = dataclasses.replace(device_only(setting.spec, 4), gates=(0,), threshold=0.9999999)
    ran = []

    class Watched:
        def run(self, branch, start, stop, x):
            ran.append((branch, start, stop))
            return executor.run(branch, start, stop, x)

    records = run(Watched(), plan, 1, made[:4], rest_s=10.0, frames=4, deadline_s=1.0,
                  interval_s=0.05)  # fmt: skip
    assert [(r.exit, r.by_plan, r.label) for r in records] == [
        (0, False, row[0][0]) for row in answers[:4]
    ]
    after = setting.spec.exits[0].after
    head = (0, after, len(setting.spec.branches[0]))
    assert ran == [(4, 0, after), head] * 4
