"""Plans that stop on confidence: rows, shares, and that planners expect what happens."""

import dataclasses
import functools

import msgspec
import numpy as np
import pytest
from tidy import tidy

from artefacts import ArtefactError, UsageError
from controller.physics import ConstantLink, Resources, run_frames
from controller.physics.accuracy import answering_gate, plan_accuracy
from controller.physics.building import build_table
from controller.physics.candidates import gated_plans
from controller.physics.gates import with_gates
from controller.planners.configuration_map import map_of, read_map, write_map
from controller.planners.deadline_rule import choose_plan
from controller.plans import check_plan, device_only, one_hop
from controller.scenarios import SHIPPED, load_setting, read_scenario
from controller.scenarios.rewards import expectation
from traces.states import BandwidthState


@functools.cache
def camera():
    scenario = tidy("3g-mobilenet")
    plans = msgspec.structs.replace(scenario.plans, confidence=(0.4, 0.6, 0.8))
    return load_setting(msgspec.structs.replace(scenario, plans=plans))


def gated(setting):
    return np.flatnonzero(setting.table.gated).tolist()


def test_a_scenario_with_thresholds_chooses_among_gated_plans():
    setting = camera()
    kinds = {setting.table.plans[k].is_local for k in gated(setting)}
    assert kinds == {True, False}
    assert all(check_plan(p, setting.spec) for p in setting.table.plans)
    assert "unless" in str(setting.table.plans[gated(setting)[0]])


def test_a_gate_costs_its_head_and_a_stop_nothing_behind_it():
    setting = camera()
    spec, device, outcomes = setting.spec, setting.device, setting.outcomes
    whole = device_only(spec, 4)
    asked = dataclasses.replace(whole, gates=(0, 2), threshold=0.7)
    table = build_table(
        spec, setting.profiles, outcomes, [whole, asked],
        temperatures=setting.model.temperatures,
    )  # fmt: skip
    heads = [device.interval_s(j, spec.exits[j].after, len(spec.branches[j])) for j in (0, 2)]
    assert table.prefix_s[1] == pytest.approx(table.prefix_s[0] + sum(heads))
    trunk = device.interval_s(4, 0, spec.exits[2].after)
    assert table.early_s[1] == pytest.approx(
        [device.interval_s(4, 0, spec.exits[0].after) + heads[0], trunk + sum(heads)]
    )
    gated = with_gates(table)
    assert gated.row.tolist() == [[-1, -1], [2, 3]]
    assert gated.owner.tolist() == [0, 1, 1, 1]
    assert gated.table.exit.tolist() == [4, 4, 0, 2]
    assert gated.table.prefix_s[2:] == pytest.approx(table.early_s[1])
    assert gated.table.early_exit[3].tolist() == [0, -1]
    assert gated.table.local[2:].all()
    # what a frame that no gate stopped waits for: the deepest exit passed was asked already
    cut = spec.exits[2].after + 1
    split = one_hop(4, cut, len(spec.branches[4]), "int8c")
    gate = dataclasses.replace(split, gates=(2,), threshold=0.7)
    pair = build_table(
        spec, setting.profiles, outcomes, [split, gate],
        temperatures=setting.model.temperatures,
    )  # fmt: skip
    assert pair.wait_exit[:, 0].tolist() == [2, -1]
    assert pair.prefix_s[1] == pytest.approx(pair.prefix_s[0] + heads[1])


def test_samples_end_where_their_confidence_says():
    setting = camera()
    rows = setting.rows("report")
    index = setting.outcomes.half("report")
    for p in gated(setting):
        plan = setting.table.plans[p]
        sure = np.stack(
            [setting.outcomes.calibrated(g, setting.model.temperatures[g]) for g in plan.gates]
        )[:, index]
        confident = sure >= plan.threshold
        expected = np.where(confident.any(axis=0), confident.argmax(axis=0), len(plan.gates))
        ends = [*setting.gate_rows.row[p, : len(plan.gates)].tolist(), p]
        assert np.array_equal(rows.at[p], np.array(ends)[expected])
        mine = setting.gate_rows.owner == p
        assert rows.share[mine].sum() == pytest.approx(1.0)


def test_planners_expect_the_mean_of_what_happens_to_every_sample():
    """Sample by sample through the physics on an idle device, against the planner's expectation."""
    setting = camera()
    rows, table = setting.rows("policy"), setting.gate_rows.table
    assert np.allclose(setting.table.accuracy[setting.table.local], [
        plan_accuracy(setting.outcomes, p, "policy", setting.model.temperatures)
        for p in setting.table.plans if p.is_local
    ])  # fmt: skip
    for rate, backlog in ((3e4, 0.0), (4e5, 0.02), (3e6, 0.05)):
        expected = expectation(setting, np.array([rate]), backlog)
        for p in [*gated(setting), 0]:
            samples = np.arange(rows.samples)
            ending = rows.ending(np.full(rows.samples, p), samples)
            resources = Resources.idle(rows.samples)
            resources.device_s = np.full(rows.samples, backlog)
            outcome, _ = run_frames(
                table, ending, np.zeros(rows.samples), resources,
                ConstantLink(np.full(rows.samples, rate)), setting.link_model, setting.timing,
            )  # fmt: skip
            row = rows.row(ending, np.maximum(outcome.answer_exit, 0), outcome.by_plan)
            quality = np.where(outcome.answer_exit >= 0, rows.quality[row, samples], 0.0)
            assert quality.mean() == pytest.approx(expected.reward[0, p])
            assert outcome.device_s.mean() == pytest.approx(expected.device_s[0, p])


def test_a_gate_that_is_never_sure_changes_nothing_but_its_cost():
    setting = camera()
    spec, edge = setting.spec, len(setting.spec.branches[4])
    split = one_hop(4, spec.exits[1].after, edge, "int8c")
    never = dataclasses.replace(split, gates=(1,), threshold=0.999999999)
    at = answering_gate(setting.outcomes, never, setting.model.temperatures)
    assert (at == 1).mean() > 0.99
    plain = plan_accuracy(setting.outcomes, split, "policy")
    temperatures = setting.model.temperatures
    assert plan_accuracy(setting.outcomes, never, "policy", temperatures) == pytest.approx(
        plain, abs=0.01
    )


def test_algorithm1_knows_no_confidence():
    setting = camera()
    for rate in np.geomspace(1e4, 1e8, 40):
        for backlog in (0.0, 0.05):
            plan, _ = choose_plan(setting.table, float(rate), 0.1, 0.03, 0.04, backlog)
            assert not setting.table.gated[plan]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"gates": (4,), "threshold": 0.5}, "expected some of 1, 2, 3, 4"),
        ({"gates": (1, 0), "threshold": 0.5}, "found exits 2, 1"),
        ({"gates": (0,), "threshold": 1.0}, "found 1, expected a probability"),
        ({"gates": (0,), "threshold": 0.0}, "found 0, expected a probability"),
    ],
)
def test_gates_that_cannot_be_are_refused(change, expected):
    setting = camera()
    plan = dataclasses.replace(device_only(setting.spec, 4), **change)
    with pytest.raises(UsageError, match=expected):
        check_plan(plan, setting.spec)


def test_no_gate_where_the_device_passes_no_exit():
    setting = camera()
    picture = one_hop(4, 0, len(setting.spec.branches[4]), "jpeg75")
    assert gated_plans(setting.spec, [picture], [0.5]) == ()
    wrong = dataclasses.replace(picture, gates=(0,), threshold=0.5)
    with pytest.raises(UsageError, match="none: the device passes no earlier one"):
        check_plan(wrong, setting.spec)


def test_a_map_keeps_gates(tmp_path):
    setting = camera()
    p = gated(setting)[0]
    states = [BandwidthState(1e6, 1e5)]
    made = map_of(setting, states, [p], "made up", [np.zeros(len(setting.table))])
    write_map(tmp_path / "map.json", made)
    read = read_map(tmp_path / "map.json", setting)
    assert read.entries[0].plan == setting.table.plans[p]
    assert read.entries[0].gates[0] >= 1


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("confidence = [0.5, 1.5]", "field 'plans.confidence': found 1.5"),
        ('confidence = ["sure"]', "plans.confidence"),
    ],
)
def test_thresholds_that_cannot_be_are_refused(tmp_path, change, expected):
    path = tmp_path / "s.toml"
    text = (SHIPPED / "3g-mobilenet.toml").read_text()
    assert "edge_first = false" in text
    lines = [line for line in text.splitlines() if not line.startswith("confidence")]
    lines.insert(lines.index("edge_first = false"), change)
    path.write_text("\n".join(lines))
    with pytest.raises(ArtefactError, match=expected):
        read_scenario(path)


def test_a_closed_loop_takes_no_thresholds(tmp_path):
    path = tmp_path / "s.toml"
    text = (SHIPPED / "edgent.toml").read_text()
    assert "[plans]" in text
    path.write_text(text.replace("[plans]", "[plans]\nconfidence = [0.5]"))
    with pytest.raises(ArtefactError, match="thresholds in a closed loop"):
        read_scenario(path)


def test_without_thresholds_a_scenario_is_the_one_it_was():
    """Neither thresholds nor a world that are left out are part of a digest."""
    scenario = tidy("3g-alexnet")
    assert scenario.plans.confidence == ()
    more = msgspec.structs.replace(
        scenario, plans=msgspec.structs.replace(scenario.plans, confidence=(0.5,))
    )
    assert more.digest != scenario.digest
    assert scenario.digest == "e30dd1ba61c5aaa9f5294e50e450f657954eb724bb6a535f555d5172267e3d17"
