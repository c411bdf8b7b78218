"""When a policy asks the link, and by which plan."""

import numpy as np
import pytest

from controller.policies.probing import BLIND_S, Prober, probe_plan
from controller.scenarios import load_setting, read_scenario


@pytest.fixture(scope="module", params=["3g-alexnet", "lte-mobilenet"])
def table(request):
    return load_setting(read_scenario(request.param)).table


def test_the_probe_sends_every_frame_leaves_the_device_free_and_keeps_a_rescue(table):
    plan = table.plans[probe_plan(table)]
    assert not plan.is_local
    assert plan.hops[0].start == 0
    assert not plan.gates
    rescued = [p for p in table.plans if p.hops and p.hops[0].start == 0 and p.rescue]
    assert plan.rescue or not rescued


def test_a_blind_lane_asks_once_and_then_waits_for_the_answer(table):
    prober = Prober(table, 3)
    quiet, loud = int(np.flatnonzero(table.quiet)[0]), int(table.senders[0])
    plan = np.array([quiet, loud, quiet])
    prober.measured(np.array([False, False, True]), np.zeros(3))
    first = prober.applied(plan, np.zeros(3))
    assert first.tolist() == [probe_plan(table), loud, quiet]
    assert prober.applied(plan, np.full(3, 0.9 * BLIND_S)).tolist() == plan.tolist()
    later = prober.applied(plan, np.full(3, 1.1 * BLIND_S))
    assert later.tolist() == [probe_plan(table), loud, probe_plan(table)]
    prober.reset(np.array([True, False, False]))
    assert prober.applied(plan, np.full(3, 1.2 * BLIND_S))[0] == probe_plan(table)


def test_with_scores_the_best_of_those_that_send_asks(table):
    prober, rng = Prober(table, 2), np.random.default_rng(0)
    scores = rng.normal(size=(2, len(table)))
    quiet = int(np.flatnonzero(table.quiet)[0])
    found = prober.applied(np.array([quiet, quiet]), np.zeros(2), scores)
    best = table.senders[scores[:, table.senders].argmax(axis=1)]
    assert found.tolist() == best.tolist()
