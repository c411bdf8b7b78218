"""What becomes of a controller's choice: breakers, time for a local fallback, reliance."""

import random
from dataclasses import replace

import numpy as np
import pytest

from controller.admission import Admission, Admitted
from controller.interface import Situation
from controller.scenarios import load_setting, read_scenario
from controller.sensing.pace import CLEARLY_SLOW


@pytest.fixture(scope="module")
def camera():
    """A network of many cuts, on a device that a deep one keeps busy."""
    return load_setting(read_scenario("lte-mobilenet"))


@pytest.fixture
def rules(camera):
    first = len(camera.spec.branches[0])
    made = Admission(
        camera.table, camera.scenario.frames.deadline_s, camera.device.interval_p95_s(0, 0, first)
    )
    made.guard(random.Random(0))
    return made


def situation(rules, backlog_s=0.0, deadline_s=None):
    own = rules.deadline_s if deadline_s is None else deadline_s
    return Situation(0.0, 0, own, backlog_s, 0, 0.03)


def plan_of(table, wanted):
    return next(k for k, plan in enumerate(table.plans) if wanted(k, plan))


def deep_plan(table):
    return plan_of(
        table,
        lambda k, p: p.hops and not p.gates and p.hops[0].start > 4 and table.wait_exit[k, 0] >= 0,
    )


def picture_plan(table):
    return plan_of(table, lambda k, p: p.hops and p.hops[0].start == 0)


def test_a_plan_whose_own_answer_would_be_late_gives_way_to_one_that_keeps_time(rules):
    """A cut deep in the network is no way to ask the link behind a backlog."""
    table, deadline_s, deep = rules.table, rules.deadline_s, deep_plan(rules.table)
    own_s = float(table.prefix_s[deep] + table.wait_s[deep, 0])

    def kept(backlog_s):
        return rules.keeping_time(deep, situation(rules, backlog_s))

    assert kept(0.0) == deep
    assert kept(deadline_s - own_s - 0.006) == deep
    light = table.plans[kept(deadline_s - own_s - 0.004)]
    assert light.hops[0].start == 0
    assert table.plans[kept(0.9 * deadline_s)].is_local
    rules.always_rescue = False
    assert kept(0.9 * deadline_s) == deep, "without the rule a controller has its way"


def test_without_breakers_every_choice_runs_and_the_preferred_edge_serves(camera):
    free = Admission(camera.table, 1.0, 0.1)
    for lane in (0, 1):
        assert free.serving((lane, 2), {lane: 7}, 0.0) == lane
        for _ in range(50):
            free.failed(lane, 0.0)
            free.in_vain(lane, 0.0, 1.0, early=True)
    for plan in range(len(camera.table)):
        assert free.admit(plan, situation(free), (1, 0), 0.0) == Admitted(plan, 1)
    assert (free.open, free.opened) == (False, 0)


def test_an_edge_that_gives_nothing_gets_no_frames_and_a_well_one_serves(rules):
    sends = picture_plan(rules.table)
    for now in (0.0, 0.1):
        assert rules.admit(sends, situation(rules), (0, 1), now) == Admitted(sends, 0)
        rules.failed(0, now)
    assert rules.serving((0, 1), {}, 0.1) == 1
    assert rules.admit(sends, situation(rules), (0, 1), 0.1) == Admitted(sends, 1)
    assert not rules.open, "there is an edge to ask"
    rules.failed(1, 0.1)
    rules.failed(1, 0.1)
    found = rules.admit(sends, situation(rules), (0, 1), 0.1)
    assert rules.table.local[found.plan]
    assert rules.open
    assert rules.opened == 2


def test_held_back_frames_get_the_best_local_plan_that_is_in_time(rules):
    table, sends = rules.table, picture_plan(rules.table)
    rules.admit(sends, situation(rules), (0,), 0.0)
    rules.failed(0, 0.0)
    rules.failed(0, 0.0)
    local = np.flatnonzero(table.local)
    for backlog_s in (0.0, 0.3 * rules.deadline_s, 2.0 * rules.deadline_s):
        found = rules.admit(sends, situation(rules, backlog_s), (0,), 0.0).plan
        fits = [k for k in local if table.prefix_s[k] + backlog_s <= rules.deadline_s]
        best = max(table.accuracy[k] for k in fits) if fits else None
        if best is None:
            assert table.prefix_s[found] == table.prefix_s[local].min()
        else:
            assert found in fits
            assert table.accuracy[found] == best


def test_an_edge_that_greets_anew_may_be_tried_at_once(rules):
    sends = picture_plan(rules.table)
    assert rules.serving((0,), {0: 1}, 0.0) == 0
    rules.admit(sends, situation(rules), (0,), 0.0)
    rules.failed(0, 0.0)
    rules.failed(0, 0.0)
    assert rules.table.local[rules.admit(sends, situation(rules), (0,), 0.01).plan]
    rules.serving((0,), {0: 1}, 0.01)
    assert rules.table.local[rules.admit(sends, situation(rules), (0,), 0.01).plan]
    rules.serving((0,), {0: 2}, 0.01)
    assert rules.admit(sends, situation(rules), (0,), 0.01).plan == sends


def test_a_trial_that_was_kept_here_after_all_may_be_made_by_the_next_frame(rules):
    """The breaker lets one frame through, and the time left would have it local."""
    deep, sends = deep_plan(rules.table), picture_plan(rules.table)
    rules.admit(sends, situation(rules), (0,), 0.0)
    rules.failed(0, 0.0)
    rules.failed(0, 0.0)
    late = situation(rules, 0.99 * rules.deadline_s)
    assert rules.table.local[rules.admit(deep, late, (0,), 1.0).plan]
    assert rules.admit(sends, situation(rules), (0,), 1.0).plan == sends, "the trial was not spent"
    assert rules.table.local[rules.admit(sends, situation(rules), (0,), 1.0).plan]


def test_time_is_kept_for_a_bare_plan_until_the_edge_has_proved_itself(rules):
    bare = next(p for p in rules.table.plans if not p.rescue)
    careful = next(p for p in rules.table.plans if p.rescue)
    assert rules.reserves(bare, 1.2)
    rules.relied(1.2, 0.5 * rules.deadline_s)
    assert not rules.reserves(bare, 1.2)
    assert rules.reserves(careful, 1.2)
    rules.missed()
    assert rules.reserves(bare, 1.2)
    rules.relied(1.3, 1.01 * rules.deadline_s)
    assert rules.reserves(bare, 1.3), "late by the stream's own deadline is no proof"


def test_what_was_given_less_time_than_usual_does_not_speak_against_its_edge(rules):
    sends = picture_plan(rules.table)
    for _ in range(50):
        rules.in_vain(0, 0.0, 0.5 * rules.deadline_s, early=False)
    assert rules.admit(sends, situation(rules), (0,), 0.0).plan == sends
    for _ in range(50):
        rules.in_vain(0, 0.0, rules.deadline_s, early=False)
    assert rules.table.local[rules.admit(sends, situation(rules), (0,), 0.0).plan]


@pytest.mark.parametrize("name", ["3g-mobilenet", "lte-mobilenet"])
def test_while_frames_are_held_back_the_device_does_not_fall_behind(name):
    """Ten seconds without an edge: every frame is answered in time, none is left for the next."""
    setting = load_setting(read_scenario(name))
    table, deadline_s = setting.table, setting.scenario.frames.deadline_s
    first_s = setting.device.interval_p95_s(0, 0, len(setting.spec.branches[0]))
    made = Admission(table, deadline_s, first_s, interval_s=setting.interval_s)
    made.guard(random.Random(0))
    sends, backlog_s, ran = picture_plan(table), 0.0, []
    for number in range(int(10 / setting.interval_s)):
        made.failed(0, number * setting.interval_s)
        plan = made.admit(sends, situation(made, backlog_s), (0,), number * setting.interval_s).plan
        if table.local[plan]:
            ran.append(plan)
            backlog_s += float(table.prefix_s[plan])
            assert backlog_s <= deadline_s
        backlog_s = max(backlog_s - setting.interval_s, 0.0)
    assert len(ran) > 200


def test_a_device_in_a_slow_state_keeps_no_time_that_it_does_not_have(camera):
    """Where every frame's fallback would take longer than frames come, only the plan's own rule."""

    def made(interval_s):
        return Admission(camera.table, 0.1, 0.04, interval_s=interval_s, always_rescue=True)

    bare = next(p for p in camera.table.plans if not p.rescue)
    careful = next(p for p in camera.table.plans if p.rescue)
    rules = made(0.05)
    assert rules.reserves(bare, 0.0)
    assert rules.reserves(bare, 0.0, CLEARLY_SLOW), "times vary by as much"
    assert not rules.reserves(bare, 0.0, 1.5)
    assert rules.reserves(careful, 0.0, 1.5)
    assert made(0.2).reserves(bare, 0.0, 1.5)


def test_a_slow_device_is_kept_from_a_plan_whose_own_answer_would_be_late(rules):
    table, deep = rules.table, deep_plan(rules.table)
    own_s = float(table.prefix_s[deep] + table.wait_s[deep, 0])
    pace = 1.05 * (rules.deadline_s - rules.rescue_margin_s) / own_s
    usual = situation(rules)
    assert rules.keeping_time(deep, usual) == deep
    assert rules.keeping_time(deep, replace(usual, device_pace=pace)) != deep


def test_a_device_that_cannot_keep_up_sends_what_it_could_only_answer_late(rules):
    """The first exit in its place would be late, too, and would hold up the frames behind it."""
    table, usual = rules.table, situation(rules)
    light = next(k for k, p in enumerate(table.plans) if not p.is_local and table.prefix_s[k] > 0)
    spare = rules.deadline_s - rules.rescue_margin_s
    behind = replace(usual, device_backlog_s=spare - 0.5 * rules.first_exit_s)
    assert table.local[rules.keeping_time(light, behind)]
    rules.interval_s = 1.2 * rules.first_exit_s
    slow = replace(behind, device_pace=1.5)
    assert rules.keeping_time(light, slow) == light
    # one whose frames leave it the time keeps to what it can answer itself
    rules.interval_s = 2.0 * rules.first_exit_s
    assert table.local[rules.keeping_time(light, slow)]
