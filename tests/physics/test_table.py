import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artefacts import UsageError
from controller.physics import ConstantLink, LinkModel, Resources, Timing, run_frames
from controller.physics.building import build_table
from controller.physics.candidates import candidate_plans
from controller.plans import check_plan, device_only, edge_only, one_hop


@pytest.fixture(scope="module")
def full(stream):
    spec = stream.spec
    plans = candidate_plans(spec, ("float32", "int8", "uint8"), no_rescue=True)
    return build_table(spec, stream.profiles, stream.outcomes, plans)


def test_every_form_of_plan_is_a_candidate(stream):
    spec = stream.spec
    plans = candidate_plans(spec)
    assert {device_only(spec, i) for i in range(5)} <= set(plans)
    assert {edge_only(spec, i) for i in range(5)} <= set(plans)
    assert one_hop(4, 10, 22) in plans
    assert one_hop(4, 0, 10) in plans
    assert len(set(plans)) == len(plans)


@settings(max_examples=25, deadline=None)
@given(
    rate=st.floats(2e4, 5e7),
    backlog=st.floats(0, 0.15),
    deadline=st.floats(0.02, 0.4),
)
def test_pruning_never_loses_the_best_answer(full, rate, backlog, deadline):
    kept = full.undominated(0.04)
    assert 0 < len(kept) < len(full)

    def best(table):
        shape = (len(table),)
        resources = Resources.idle(shape)
        resources.device_s = np.full(shape, backlog)
        outcome, _ = run_frames(
            table, np.arange(len(table)), np.zeros(shape), resources,
            ConstantLink(np.full(shape, rate)), LinkModel(0.04, 160, 66), Timing(deadline),
        )  # fmt: skip
        exits = np.maximum(outcome.answer_exit, 0)
        own = np.where(outcome.by_plan, table.accuracy, table.exit_accuracy[exits])
        return np.where(outcome.answer_exit >= 0, own, 0.0).max()

    assert best(kept) == pytest.approx(best(full), abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.floats(1e4, 1e8))
def test_idle_pruning_keeps_every_fastest_plan(full, rate):
    kept = full.undominated(0.0, queues=False)
    everything, rest = full.latency_s(rate), kept.latency_s(rate)
    for accuracy in full.accuracy:
        before = everything[full.accuracy >= accuracy].min()
        assert rest[kept.accuracy >= accuracy].min() == pytest.approx(before, abs=1e-12)


def test_plans_that_do_not_fit_are_named(stream):
    spec = stream.spec
    with pytest.raises(UsageError, match="found exit 6, expected 1 to 5"):
        check_plan(one_hop(5, 0, 1), spec)
    with pytest.raises(UsageError, match=r"found layers \[3, 40\)"):
        check_plan(one_hop(0, 3, 40), spec)
    with pytest.raises(UsageError, match="carries the raw sample"):
        check_plan(one_hop(0, 3, 12, "uint8"), spec)
    with pytest.raises(UsageError, match="found 'zip'"):
        check_plan(one_hop(0, 0, 12, "zip"), spec)


def test_local_answers_on_the_way(stream):
    spec = stream.spec
    plans = [
        one_hop(4, 4, 22),
        one_hop(4, 2, 22),
        one_hop(4, 2, 22, rescue=False),
        one_hop(4, 2, 22, hedge=True),
    ]
    table = build_table(spec, stream.profiles, stream.outcomes, plans)
    assert table.wait_exit[:, 0].tolist() == [0, -1, -1, 0]
    assert np.isfinite(table.rescue_s).tolist() == [False, True, False, False]
    assert table.wait_exit[3].tolist() == [0, 1, 2, 3, 4]
    head = stream.device.interval_s(0, 4, 12)
    assert table.wait_s[0, 0] == pytest.approx(head)
    whole = table.prefix_s[3] + table.wait_s[3].sum()
    heads = sum(
        stream.device.interval_s(i, spec.exits[i].after, len(spec.branches[i])) for i in range(4)
    )
    assert whole == pytest.approx(stream.device.interval_s(4, 0, 22) + heads)
