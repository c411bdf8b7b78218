"""The optimum in a world as it is: what it knows is what is drawn, and nobody earns more."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from controller.physics import Resources, TraceBank, run_frames
from controller.planners.fixed import FixedController
from controller.scenarios import load_setting, read_scenario
from controller.scenarios.world import LoadSection, NodeWorldSection, StateSection, WorldSection
from envs.simulator import Simulator
from experiments.evaluation.bound import bound_per_frame
from experiments.evaluation.comparison import compare
from experiments.evaluation.controllers import ControllerFactory
from experiments.evaluation.evaluator import evaluate
from experiments.evaluation.known_world import KnownWorld, foreseen, paces
from experiments.evaluation.optimum import Optimum, refined
from experiments.evaluation.optimum_grid import Grid
from experiments.evaluation.optimum_play import OptimumController, earned, optimum_row
from experiments.evaluation.optimum_queue import CoupledQueue
from experiments.evaluation.optimum_spread import Spread
from traces.library import TraceSet
from traces.trace import BandwidthTrace

SLOW = StateSection(factor=1.6, mean_s=1.0, every_s=2.0)
HARSH = WorldSection(
    picture_sizes=True,
    scene_s=2.0,
    device=NodeWorldSection(
        overhead_s=0.003,
        jitter_s=0.001,
        throttled=SLOW,
        shared=StateSection(factor=1.25, mean_s=0.5, every_s=3.0),
    ),
    edge=NodeWorldSection(
        overhead_s=0.0005,
        spread=(0.8, 1.0, 1.1, 1.6),
        load=LoadSection(bursts_per_s=10.0, burst_s=0.01),
    ),
)


def camera(world, every=6):
    """The 3G camera in a world of one's own, with some of its plans, so that it is quick."""
    setting = load_setting(msgspec.structs.replace(read_scenario("3g-mobilenet"), world=world))
    plans = np.arange(len(setting.table))[::every]
    local = np.flatnonzero(setting.table.local & ~setting.table.gated)
    return replace(setting, table=setting.table.take(np.union1d(plans, local[:2])))


@pytest.fixture(scope="module")
def harsh():
    return camera(HARSH)


@pytest.fixture(scope="module")
def rough():
    """A link that is now fast, now slow, now down."""
    rng = np.random.default_rng(3)
    rates = rng.choice([0.0, 1e5, 4e5, 1e6, 4e6], 60) * rng.uniform(0.7, 1.3, 60)
    return BandwidthTrace("rough", np.arange(60) * 0.5, rates, 30.0)


class Hindsight(FixedController):
    """Uses one plan, and keeps what it foresees."""

    def foresee(self, known, resources):
        self.known = known


@pytest.mark.parametrize("scene_s", [0.0, 2.0])
def test_what_is_foreseen_is_what_is_drawn(scene_s):
    """Bytes and device seconds of every frame, of lanes that end at different times."""
    setting = camera(msgspec.structs.replace(HARSH, scene_s=scene_s))
    table = replace(setting.table, sigmas=(0.0, 0.0))
    setting = replace(setting, table=table)
    rates = [np.array([8e6]), np.array([6e6]), np.array([9e6])]
    traces = [
        BandwidthTrace(f"t{k}", np.array([0.0]), rate, seconds)
        for k, (rate, seconds) in enumerate(zip(rates, (1.0, 4.0, 2.0), strict=True))
    ]
    rows = setting.rows("report")
    differ = rows.weights.std(axis=1)[rows.weight_row][: len(table)]
    several = ~table.local & ~table.gated & (differ > 0)
    sends = int(np.where(several, table.prefix_s, np.inf).argmin())
    made = {}
    for plan in (sends, int(np.flatnonzero(table.local & ~table.gated)[0])):
        made[plan] = [Hindsight("x", plan) for _ in traces]
        runs = evaluate(setting, traces, made[plan].__getitem__)
        for run, own in zip(runs, made[plan], strict=True):
            known = own.known
            assert len(run.reward) == len(known.pace)
            if table.local[plan]:
                computed = run.device_s > 0
                slow = table.prefix_s[plan] * known.pace
                assert run.device_s[computed] == pytest.approx(slow[computed])
                continue
            message = table.up_bytes[plan] * rows.weight(
                np.full(len(run.reward), plan), known.sample
            )
            wire = setting.link_model.on_wire(message)
            assert run.in_time.mean() > 0.9
            assert run.bytes_sent[run.in_time] == pytest.approx(wire[run.in_time])
    first, second = made.values()
    for one, other in zip(first, second, strict=True):
        assert np.array_equal(one.known.columns, other.known.columns)
    longest = first[1].known
    assert len(np.unique(longest.pace)) > 1
    assert longest.queued_s.max() > 0


def test_foreseeing_moves_no_generator(harsh, rough):
    def stepped(looks):
        simulator = Simulator(harsh, TraceBank([rough]), 3, "report", np.random.default_rng(5))
        simulator.place(np.ones(3, dtype=bool), np.zeros(3, dtype=int), np.zeros(3))
        if looks:
            foreseen(simulator, 40)
        return [simulator.step(np.zeros(3, dtype=int)).outcome.device_s for _ in range(20)]

    assert np.array_equal(stepped(True), stepped(False))


def searched(queue, trace, arrival_s, free_s, known, frame, frames):
    """The best expected reward by trying every plan at every frame, every way it may end."""
    if frame == frames:
        return 0.0
    table, rows, setting = queue.table, queue.rows, queue.setting
    ways, world = len(table), setting.scenario.world
    lanes = Resources.idle(ways)
    lanes.device_s, lanes.uplink_s = np.full(ways, free_s[0]), np.full(ways, free_s[1])
    link = TraceBank([trace]).lanes(np.zeros(ways, dtype=np.int64))
    pace, edge = float(known.pace[frame]), float(known.edge[frame])
    every = np.arange(ways)
    outcome, fresh = run_frames(
        table, every, np.full(ways, arrival_s), lanes, link, setting.link_model, setting.timing,
        pace, edge * np.mean([0.9, 1.05, 1.35]),
        overheads_s=(0.004 * pace, 0.0005 * edge),
        others_s=float(known.queued_s[frame]),
        weight=rows.weight(every, np.full(ways, known.sample[frame])),
        pace=pace,
    )  # fmt: skip
    assert world.device.overhead_s + world.device.jitter_s == pytest.approx(0.004)
    value = queue.reward(every, outcome)
    following = arrival_s + queue.interval_s
    for k in range(ways):
        after = (max(fresh.device_s[k], following), max(fresh.uplink_s[k], following))
        value[k] += searched(queue, trace, following, after, known, frame + 1, frames)
    found = np.zeros(len(setting.table))
    np.add.at(found, rows.gate_rows.owner, rows.share * value)
    return float(found.max())


@pytest.mark.parametrize("seed", range(4))
def test_it_is_what_brute_force_finds_at_known_paces_queues_and_sizes(harsh, seed):
    """A frame at a time in plain calls of the physics; 4 plans, 4 frames."""
    rng = np.random.default_rng(seed)
    local = np.flatnonzero(harsh.table.local & ~harsh.table.gated)
    remote = np.flatnonzero(~harsh.table.local & ~harsh.table.gated)
    plans = [int(local[0]), *rng.choice(remote, 3, replace=False).tolist()]
    table = replace(harsh.table.take(plans), sigmas=(0.0, 0.0))
    setting = replace(harsh, table=table)
    known = KnownWorld(
        rng.choice([1.0, 1.6], 4), np.ones(4), rng.choice([0.0, 0.02], 4), rng.integers(0, 900, 4)
    )
    trace = BandwidthTrace("t", np.arange(20) * 0.07, rng.uniform(2e5, 3e6, 20), 1.4)
    queue = CoupledQueue(setting, grid=Grid(2e-4, 2e-4, 64))
    best = searched(queue, trace, 0.02, (0.02, 0.02), known, 0, 4)
    assert best > 1.0
    assert Optimum(queue, trace, 0.02, 4, known=known).expected == pytest.approx(best, rel=2e-3)


def test_a_state_of_factor_one_and_a_world_of_mean_bytes_change_nothing(rough):
    """Equal to the tidy world's to the last digits: the same states, the same transitions."""
    idle = StateSection(factor=1.0, mean_s=1.0, every_s=1.0)
    values = []
    for world in (WorldSection(), WorldSection(device=NodeWorldSection(throttled=idle))):
        queue = CoupledQueue(camera(world))
        values.append(Optimum(queue, rough, 0.01, 80, known=KnownWorld.calm(80)).expected)
    assert values[0] == pytest.approx(values[1], rel=1e-12)


def test_every_part_of_the_world_costs_something(rough):
    """Slower states, an overhead and a busy edge each leave less than the tidy world does."""
    tidy = Optimum(CoupledQueue(camera(WorldSection())), rough, 0.01, 80).per_frame
    slow = np.where(np.arange(80) < 60, 1.6, 1.0)
    throttled = WorldSection(device=NodeWorldSection(throttled=SLOW))
    late = WorldSection(device=NodeWorldSection(overhead_s=0.03))
    loaded = WorldSection(edge=NodeWorldSection(load=LoadSection(1.0, 0.1)))
    calm = KnownWorld.calm(80)
    found = {
        "slow": (throttled, replace(calm, pace=slow)),
        "overhead": (late, calm),
        "load": (loaded, replace(calm, queued_s=np.full(80, 0.1))),
    }
    for name, (world, known) in found.items():
        own = Optimum(CoupledQueue(camera(world)), rough, 0.01, 80, known=known).per_frame
        assert own < tidy - 0.001, name


def test_bound_then_optimum_then_what_controllers_earn_on_the_same_draw(harsh, rough):
    """Paired: a lane's optimum is of the very world that its controllers meet."""
    lanes, frames = 2, 200
    belief = ControllerFactory(harsh, max_frames=frames)
    traces = [rough] * lanes
    queue = CoupledQueue(harsh)
    names = ("device-only", "algorithm1-online", "robust", "oracle")
    off = {name: [] for name in names}
    optima, bounds, tidy = [], [], []
    calm = CoupledQueue(camera(WorldSection()))
    for seed in (1, 2, 3):
        made = []

        def kept(k, made=made):
            made.append(OptimumController(queue, rough, frames))
            return made[-1]

        runs = evaluate(harsh, traces, kept, seed=seed, max_frames=frames)
        own = np.array([one.optimum.per_frame for one in made])
        optima.extend(own)
        for run in runs:
            bounds.append(bound_per_frame(harsh, rough, run.arrival_s).mean())
        tidy.append(Optimum(calm, rough, float(runs[0].arrival_s[0]), frames).per_frame)
        for name in names:
            make = belief.maker(name, traces)
            others = evaluate(harsh, traces, make, seed=seed, max_frames=frames)
            off[name].extend(own - [run.reward.mean() for run in others])
    assert len(set(np.round(optima, 6))) == 6
    assert np.mean(bounds) > np.mean(tidy) > np.mean(optima) + 0.005
    for name, each in off.items():
        # how a scene's frames end at gates is luck to both: a point of an answer at most
        assert np.mean(each) > 0.005, name
        assert np.min(each) > -0.01, name


def test_its_policy_earns_what_it_expects_in_the_drawn_world(harsh, rough):
    row = optimum_row(CoupledQueue(harsh), rough, 200, False)
    assert row.bound > row.optimum
    # the device notices a slower state only by its own jobs
    assert row.optimum - 0.02 < row.earned < row.optimum + 3 * row.earned_error + 0.001


def test_a_finer_grid_says_the_same_of_the_same_draw(harsh, rough):
    simulator = Simulator(harsh, TraceBank([rough]), 1, "report", np.random.default_rng(5))
    simulator.place(np.ones(1, dtype=bool), np.zeros(1, dtype=int), np.full(1, 0.01))
    (known,) = foreseen(simulator, 60)
    coarse = Optimum(CoupledQueue(harsh), rough, 0.01, 60, known=known)
    fine = refined(coarse)
    assert fine.known is not None
    assert np.array_equal(fine.known.columns, coarse.known.columns)
    assert coarse.per_frame == pytest.approx(fine.per_frame, rel=2e-3)
    assert earned(coarse, 4, np.random.default_rng(0)).mean() < coarse.per_frame + 0.01


def test_compare_tells_the_optimum_of_its_own_draw(harsh, rough):
    traces = TraceSet((rough, replace(rough, name="again")), True, "made")
    factory = ControllerFactory(harsh, max_frames=60)
    found = [
        compare(harsh, traces, ["device-only", "optimum"], factory, max_frames=60, seed=seed)
        for seed in (1, 1, 2)
    ]
    one, same, other = (result.optimum_per_trace for result in found)
    assert one == same
    # lanes of one trace meet worlds of their own
    assert len({*one.values(), *other.values()}) == 4


def test_paces_are_what_states_make_together():
    assert paces(WorldSection()) == [1.0]
    assert paces(HARSH) == [1.0, 1.25, 1.6, 2.0]


def test_a_measured_spread_has_its_own_mean_and_quantiles():
    spread = Spread(0.1, (0.8, 1.0, 2.0))
    rng = np.random.default_rng(0)
    drawn = np.interp(rng.random(200_000), [0.0, 0.5, 1.0], [0.8, 1.0, 2.0])
    assert spread.mean == pytest.approx(drawn.mean(), rel=3e-3)
    assert spread.most == 2.0
    each, weights = spread.nodes(8)
    assert weights.sum() == pytest.approx(1.0)
    assert each @ weights == pytest.approx(spread.mean, rel=1e-3)
    assert spread.deviation == pytest.approx(np.sqrt(((drawn - 1) ** 2).mean()), rel=0.01)
    assert Spread(0.0).equally_likely(9).tolist() == [1.0]
