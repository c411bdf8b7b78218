"""The optimum against brute force, its order among bounds and controllers, and its error."""

from dataclasses import replace

import numpy as np
import pytest
from tidy import tidy

from artefacts import UsageError
from controller.physics import Resources, TraceBank, run_frames
from controller.planners.fixed import FixedController
from controller.scenarios import load_setting, priced_copy
from experiments.evaluation import optimum as optimum_module
from experiments.evaluation.bound import bound_per_frame
from experiments.evaluation.comparison import compare, comparison_rows
from experiments.evaluation.controllers import ControllerFactory, chosen_names
from experiments.evaluation.evaluator import evaluate
from experiments.evaluation.optimum import Optimum, frames_of, refined
from experiments.evaluation.optimum_grid import Grid
from experiments.evaluation.optimum_play import OptimumController, earned, optimum_row
from experiments.evaluation.optimum_queue import CoupledQueue
from traces.library import TraceSet
from traces.trace import BandwidthTrace

FINE = Grid(2e-4, 2e-4, 64)


@pytest.fixture(scope="module")
def profiled():
    """Neither spread nor gates; plans cost what their profiles say."""
    return load_setting(tidy("3g-alexnet"))


@pytest.fixture(scope="module")
def camera():
    """Compute times that vary, gates, rescues."""
    return load_setting(tidy("3g-mobilenet"))


@pytest.fixture(scope="module")
def rough():
    """A link that is now fast, now slow, now down."""
    rng = np.random.default_rng(3)
    rates = rng.choice([0.0, 1e5, 4e5, 1e6, 4e6], 60) * rng.uniform(0.7, 1.3, 60)
    return BandwidthTrace("rough", np.arange(60) * 0.5, rates, 30.0)


@pytest.fixture(scope="module")
def solved(camera, rough):
    return Optimum(CoupledQueue(camera), rough, 0.01, 250)


def calm(setting, plans):
    """A few plans of a setting, at their median compute times."""
    table = replace(setting.table.take(plans), sigmas=(0.0, 0.0))
    return replace(setting, table=table)


def searched(queue, trace, arrival_s, resources, frames):
    """The best expected reward by trying every plan at every frame, every way it may end."""
    if frames == 0:
        return 0.0
    table, rows, setting = queue.table, queue.rows, queue.setting
    ways = len(table)
    # as the optimum has it: edge and downlink idle, the window open
    lanes = Resources.idle(ways)
    lanes.device_s, lanes.uplink_s = np.full(ways, resources[0]), np.full(ways, resources[1])
    link = TraceBank([trace]).lanes(np.zeros(ways, dtype=np.int64))
    outcome, fresh = run_frames(
        table, np.arange(ways), np.full(ways, arrival_s), lanes, link, setting.link_model,
        setting.timing,
    )  # fmt: skip
    value = queue.reward(np.arange(ways), outcome)
    following = arrival_s + queue.interval_s
    for k in range(ways):
        after = (max(fresh.device_s[k], following), max(fresh.uplink_s[k], following))
        value[k] += searched(queue, trace, following, after, frames - 1)
    found = np.zeros(len(setting.table))
    np.add.at(found, rows.gate_rows.owner, rows.share * value)
    return float(found.max())


def made_trace(seed, low=2e5, high=3e6):
    rng = np.random.default_rng(seed)
    return BandwidthTrace("t", np.arange(20) * 0.07, rng.uniform(low, high, 20), 1.4)


@pytest.mark.parametrize("seed", range(6))
def test_it_is_what_brute_force_over_all_sequences_finds(profiled, seed):
    """3g-alexnet: no spread, no gates; 5 plans, 5 frames, 3,125 sequences."""
    rng = np.random.default_rng(seed)
    local = np.flatnonzero(profiled.table.local)
    remote = np.flatnonzero(~profiled.table.local)
    plans = [*rng.choice(local, 2, replace=False), *rng.choice(remote, 3, replace=False)]
    setting, trace = calm(profiled, plans), made_trace(seed)
    queue = CoupledQueue(setting, grid=FINE)
    best = searched(queue, trace, 0.02, (0.02, 0.02), 5)
    assert best > 1.0
    assert Optimum(queue, trace, 0.02, 5).expected == pytest.approx(best, rel=2e-3)


@pytest.mark.parametrize("seed", range(4))
def test_gated_plans_lead_wherever_their_gates_send_them(camera, seed):
    """Every row of a gated plan has its own share, accuracy and next state."""
    table = camera.table
    rng = np.random.default_rng(seed)
    several = np.flatnonzero(table.gated & table.local)
    plans = [
        int(rng.choice(several)),
        int(np.flatnonzero(table.gated & ~table.local)[0]),
        int(rng.choice(np.flatnonzero(~table.gated & ~table.local))),
        int(np.flatnonzero(table.local & ~table.gated)[0]),
    ]
    setting, trace = calm(camera, plans), made_trace(seed, 1e5, 1e6)
    queue = CoupledQueue(setting, grid=FINE)
    assert len(queue.table) > len(plans)
    best = searched(queue, trace, 0.02, (0.02, 0.02), 4)
    assert Optimum(queue, trace, 0.02, 4).expected == pytest.approx(best, rel=2e-3)


def test_prices_count_and_dropping_is_allowed():
    """With a device second at 30 answers no plan is worth its price: nothing is done."""
    setting = load_setting(priced_copy(tidy("3g-mobilenet")))
    local = calm(setting, np.flatnonzero(setting.table.local)[:2])
    dear = replace(
        local,
        scenario=replace_reward(local.scenario, device_second=30.0),
    )
    trace = made_trace(0)
    assert Optimum(CoupledQueue(local), trace, 0.0, 10).per_frame > 0.7
    assert Optimum(CoupledQueue(dear), trace, 0.0, 10).expected == 0.0
    queue = CoupledQueue(calm(setting, np.arange(len(setting.table))[::7]), grid=FINE)
    best = searched(queue, trace, 0.02, (0.02, 0.02), 3)
    assert Optimum(queue, trace, 0.02, 3).expected == pytest.approx(best, rel=2e-3)


def replace_reward(scenario, **changes):
    import msgspec

    reward = msgspec.structs.replace(scenario.reward, **changes)
    return msgspec.structs.replace(scenario, reward=reward)


def test_refining_the_grid_changes_less_than_a_thousandth(camera, rough):
    coarse = Optimum(CoupledQueue(camera), rough, 0.01, 150)
    fine = refined(coarse)
    assert fine.queue.shape[0] > 1.5 * coarse.queue.shape[0]
    assert coarse.per_frame == pytest.approx(fine.per_frame, rel=1e-3)


def test_its_policy_earns_what_it_expects(solved):
    """In the whole physics: what is left out of the state gives next to nothing away."""
    played = earned(solved, 16, np.random.default_rng(0))
    error = played.std(ddof=1) / np.sqrt(len(played))
    assert error < 2e-3
    assert played.mean() == pytest.approx(solved.per_frame, abs=3 * error + 1e-3 * played.mean())


def test_bound_then_optimum_then_every_controller(camera, rough, solved):
    bound = bound_per_frame(camera, rough, solved.arrival_s).mean()
    assert bound > solved.per_frame > 0.8 * bound
    lanes = 10
    belief = ControllerFactory(camera)
    makers = {
        "optimum": lambda k: OptimumController(solved.queue, rough, solved.frames),
        "device": lambda k: FixedController("x", int(np.flatnonzero(camera.table.local)[0])),
        "edge": lambda k: FixedController("x", int(np.flatnonzero(~camera.table.local)[-1])),
        "rule": belief.maker("algorithm1-online", [rough] * lanes),
        "oracle": belief.maker("oracle", [rough] * lanes),
    }
    found = {}
    for name, make in makers.items():
        runs = evaluate(camera, [rough] * lanes, make, max_frames=solved.frames)
        found[name] = np.array([run.reward.mean() for run in runs])
    own = found.pop("optimum")
    # answers are drawn: 2,500 of them; and how gated frames end it guesses, which costs a point
    error = own.std(ddof=1) / np.sqrt(lanes)
    assert error < 0.005
    assert solved.per_frame - 0.015 < own.mean() < solved.per_frame + 3 * error
    for name, others in found.items():
        off = own - others
        assert off.mean() > -3 * off.std(ddof=1) / np.sqrt(lanes), name
        assert solved.per_frame > others.mean() - 3 * others.std(ddof=1) / np.sqrt(lanes), name
    assert own.mean() - found["oracle"].mean() > 0.005


def test_chunks_and_shared_transitions_change_nothing(camera, rough, solved, monkeypatch):
    short = Optimum(solved.queue, rough, 0.01, 60)
    whole = [short.after(k).copy() for k in range(60)]
    monkeypatch.setattr(optimum_module, "CHUNK", 17)
    monkeypatch.setattr(optimum_module, "KEPT", 2)
    monkeypatch.setattr(Optimum, "_alike", lambda self, arrival_s: np.arange(len(arrival_s)))
    reported = []
    pieces = Optimum(solved.queue, rough, 0.01, 60, lambda *progress: reported.append(progress))
    assert pieces.expected == pytest.approx(short.expected, rel=1e-9)
    for k in (59, 3, 40, 16, 17, 0):
        assert pieces.after(k) == pytest.approx(whole[k], rel=1e-7)
    assert [done for done, _, _ in reported] == [9, 26, 43, 60]
    assert all(of == 60 and per_second > 0 for _, of, per_second in reported)
    # the shared transitions are fewer, or nothing would be gained
    steady = BandwidthTrace("steady", np.array([0.0]), np.array([1e6]), 30.0)
    monkeypatch.undo()
    assert len(np.unique(Optimum(solved.queue, steady, 0.0, 200)._alike(np.arange(200) / 23))) == 1


def test_late_uploads_are_worked_out_as_well_without_the_short_cut(camera, rough, monkeypatch):
    """What is sent in vain leads where the device alone goes, whatever the trace."""
    few = calm(camera, np.arange(len(camera.table))[::4])
    quick = CoupledQueue(few)
    monkeypatch.setattr(CoupledQueue, "_alone", no_short_cut)
    slow = CoupledQueue(few)
    values = [Optimum(q, rough, 0.01, 60).expected for q in (quick, slow)]
    assert values[0] == pytest.approx(values[1], rel=1e-6)


def no_short_cut(queue):
    devices = len(queue.device_s)
    queue.alone_kind = np.full(len(queue.table), -1)
    queue.alone_reward, queue.alone_next = np.zeros(0), np.zeros((0, devices))


def test_a_dead_link_and_a_trace_that_ends(camera):
    """An outage leaves the device alone; uploads that the trace's end cuts off never come."""
    dead = BandwidthTrace("dead", np.array([0.0]), np.array([0.0]), 9.0)
    whole = Optimum(CoupledQueue(camera), dead, 0.0, 100)
    local = calm_not(camera, np.flatnonzero(camera.table.local))
    assert whole.per_frame == pytest.approx(
        Optimum(CoupledQueue(local), dead, 0.0, 100).per_frame, rel=1e-3
    )
    ends = BandwidthTrace("ends", np.array([0.0]), np.array([2e6]), 2.0)
    count = frames_of(camera, ends, 0.0, None)
    (run,) = evaluate(camera, [ends], lambda k: FixedController("x", 0))
    assert count in (len(run.reward), len(run.reward) + 1)
    assert frames_of(camera, ends, 0.0, 7) == 7
    assert 0.8 < Optimum(CoupledQueue(camera), ends, 0.0, count).per_frame < 0.88


def calm_not(setting, plans):
    return replace(setting, table=setting.table.take(plans))


def test_compare_tells_it_only_where_asked_for(profiled, rough):
    assert "optimum" not in chosen_names("", profiled)
    names = chosen_names("device-only,optimum", profiled)
    reported = []
    factory = ControllerFactory(profiled, max_frames=80, progress=reported.append)
    traces = TraceSet((rough, replace(rough, name="again")), True, "made")
    result = compare(profiled, traces, names, factory, max_frames=80)
    assert set(result.optimum_per_trace) == {"rough", "again"}
    assert result.optimum == pytest.approx(np.mean(list(result.optimum_per_trace.values())))
    assert result.bound >= result.optimum
    for figures in result.controllers.values():
        assert figures.share_of_optimum == pytest.approx(figures.reward / result.optimum)
    assert any("80 of 80 frames" in line and "frames/s" in line for line in reported)
    columns, rows = comparison_rows(result)
    assert columns[-1] == "of optimum"
    assert all(len(row) == len(columns) for row in rows)
    plain = compare(profiled, traces, ["device-only"], factory, max_frames=20)
    assert plain.optimum is None
    assert plain.controllers["device-only"].share_of_optimum is None


def test_a_row_of_the_bench(profiled, rough):
    row = optimum_row(CoupledQueue(profiled), rough, 40, True)
    assert row.frames == 40
    assert row.bound >= row.optimum
    assert row.earned == pytest.approx(row.optimum, rel=0.03)
    assert abs(row.grid_error) < 0.03
    assert optimum_row(CoupledQueue(profiled), rough, 5, False).grid_error is None


def test_a_closed_loop_has_no_such_optimum(closed, profiled):
    with pytest.raises(UsageError, match="found scenario 'edgent' of kind 'closed-loop', expected"):
        CoupledQueue(closed)
    with pytest.raises(UsageError, match="expected one that needs no trace"):
        ControllerFactory(profiled).maker("optimum", ())
