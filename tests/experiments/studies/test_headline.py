"""Evaluations: seeds averaged within traces, honest rivals, what a study leaves."""

import json
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from made_studies import FRAMES, NAMES, spec_of

from artefacts import CoinferError, UsageError
from controller.policies import SHIPPED_POLICIES
from controller.policies.network import save_policy
from controller.scenarios import read_scenario
from experiments.evaluation.comparison import compare
from experiments.evaluation.controllers import ControllerFactory
from experiments.evaluation.evaluator import TraceRun, evaluate
from experiments.reporting.tables import headline_lines
from experiments.studies import inputs, run
from experiments.studies.extras import place_of
from experiments.studies.merge import Runs, best_baseline, controller_results
from experiments.studies.merge import headline as made_headline
from experiments.studies.results import Evaluation, read_evaluation, read_matrix
from experiments.studies.run import run_evaluation, run_study, seed_of_group
from experiments.studies.study import (
    CellSpec,
    FoldSpec,
    MatrixSpec,
    SeriesSpec,
    Study,
)
from traces.formats import read_traces
from traces.library import TraceSet


def test_an_evaluation_of_one_seed_is_what_compare_says(stream, logs, tmp_path):
    found = run_evaluation(spec_of(logs), tmp_path / "units")
    traces = TraceSet(tuple(read_traces(logs)), False, "")
    reported = compare(
        stream, traces, [*NAMES, "learned"], ControllerFactory(stream), max_frames=FRAMES
    )
    assert found.bound == pytest.approx(reported.bound)
    for name, figures in reported.controllers.items():
        own = found.controllers[name]
        for key in ("goodput_accuracy", "late_share", "mean_latency_s", "p95_latency_s",
                    "bytes_per_frame", "reward", "share_of_bound"):  # fmt: skip
            assert getattr(own, key) == pytest.approx(getattr(figures, key)), (name, key)
        assert own.interval95 == pytest.approx(figures.interval95)
        assert own.per_trace == pytest.approx({t: f.reward for t, f in figures.per_trace.items()})
    by_rival = {d.over: d for d in reported.differences}
    over = by_rival[found.headline.best_baseline]
    assert found.headline.reward.mean == pytest.approx(over.mean)
    assert found.headline.reward.interval95 == pytest.approx(over.interval95)
    assert found.headline.reward.p_value == over.p_value
    assert found.headline.reward.leave_one_out == pytest.approx(over.leave_one_out)


def test_progress_never_falls_and_names_what_is_done(logs, tmp_path):
    reported = []
    spec = spec_of(logs, deadlines_ms=(60.0,), deadline_frames=20)
    run_evaluation(spec, tmp_path / "units", lambda what, share: reported.append((what, share)))
    shares = [share for _, share in reported]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert {*NAMES, "learned", "clairvoyant bound", "60 ms: fixed"} <= {
        what for what, _ in reported
    }


def test_seeds_are_averaged_within_traces(stream, logs, tmp_path, other_policy):
    policies = [str(other_policy(stream, tmp_path / f"p{k}", k)) for k in (1, 2)]
    folder = tmp_path / "units"
    alone = [run_evaluation(spec_of(logs, policies=(p,)), folder) for p in policies]
    both = run_evaluation(spec_of(logs, policies=tuple(policies)), folder)
    assert both.controllers["learned"].seeds == 2
    assert [p.seed for p in both.policies] == [1, 2]
    for trace in both.traces:
        expected = np.mean([a.controllers["learned"].per_trace[trace] for a in alone])
        assert both.controllers["learned"].per_trace[trace] == pytest.approx(expected)
    assert both.headline.per_seed == pytest.approx([a.headline.reward.mean for a in alone])
    assert both.headline.reward.traces == 3  # not 6: seeds are no traces
    assert both.controllers["robust"] == alone[0].controllers["robust"]


def test_evaluation_seeds_are_paired_and_averaged_too(logs, tmp_path):
    folder = tmp_path / "units"
    one, two = (run_evaluation(spec_of(logs, seeds=(s,)), folder) for s in (1, 2))
    both = run_evaluation(spec_of(logs, seeds=(1, 2)), folder)
    for name in (*NAMES, "learned"):
        for trace in both.traces:
            expected = [e.controllers[name].per_trace[trace] for e in (one, two)]
            assert both.controllers[name].per_trace[trace] == pytest.approx(np.mean(expected))


def flat_run(trace, reward, frames=10):
    ones = np.ones(frames)
    yes = np.ones(frames, dtype=bool)
    return TraceRun(trace, np.zeros(frames, dtype=np.int64), np.arange(frames) * 1.0, 0.05 * ones,
                    ones, yes, reward * ones, 100 * ones, 0.01 * ones, np.nan * ones, 0.0, 0.0,
                    float(frames))  # fmt: skip


def flat(*seeds, bound=1.0):
    runs = tuple(tuple(flat_run(f"t{k}", r) for k, r in enumerate(s)) for s in seeds)
    return Runs(runs, np.full((len(seeds), len(seeds[0])), 10 * bound), False)


def test_the_headline_s_known_answers(stream):
    every = {
        "device-only": flat([0.5, 0.5, 0.5, 0.5]),
        "robust": flat([0.6, 0.6, 0.6, 0.6]),
        "oracle": flat([0.9, 0.9, 0.9, 0.9]),
        "best-single": flat([0.95, 0.95, 0.95, 0.95]),
        "learned": flat([0.9, 0.7, 0.8, 0.5], [0.7, 0.7, 0.8, 0.5]),
    }
    assert best_baseline(every) == "robust"  # who knows the future is no baseline
    traces, modes = ["t0", "t1", "t2", "t3"], ["bus", "bus", "tram", None]
    found = made_headline(every, traces, modes, 0, 2)
    off = [0.2, 0.1, 0.2, -0.1]
    assert found.reward.mean == pytest.approx(0.1)
    assert found.reward.worst == pytest.approx(-0.1)
    assert found.reward.worst_trace == "t3"
    assert found.reward.p_value == 6 / 16  # by hand: three patterns reach 0.4, and their mirrors
    assert found.reward.leave_one_out == pytest.approx((0.2 / 3, 0.5 / 3))
    assert found.gap_closed == pytest.approx(sum(off) / (4 * 0.4))
    low, high = found.gap_closed95
    assert low <= found.gap_closed <= high
    assert found.per_seed == pytest.approx([0.125, 0.075])
    low, high = found.seeds_and_traces95
    assert low < found.reward.interval95[0] < found.reward.interval95[1] <= high
    assert found.modes["bus"].files == 2
    assert found.modes["bus"].against.mean == pytest.approx(0.15)
    assert found.modes["bus"].against.worst_trace == "t1"
    assert found.modes["tram"].against is None
    assert None not in found.modes
    # one training judged by two evaluation seeds is one training
    once = made_headline(every, traces, modes, 0, 1)
    assert once.per_seed == pytest.approx([0.1])
    assert once.seeds_and_traces95 is None
    assert once.reward == found.reward
    results = controller_results(every, traces, stream.table, 0)
    assert results["robust"].against_best is None
    assert results["device-only"].against_best.mean == pytest.approx(-0.1)
    assert results["device-only"].against_best.p_adjusted == 2 / 16
    assert not results["oracle"].deployable
    assert results["learned"].share_of_bound == pytest.approx(0.7)
    assert results["learned"].energy_j_per_frame is None


def test_no_gap_no_share_of_it():
    every = {"robust": flat([0.6, 0.6]), "learned": flat([0.7, 0.7], bound=0.6)}
    every["robust"] = replace(every["robust"], bound_sums=np.full((1, 2), 6.0))
    found = made_headline(every, ["t0", "t1"], [None, None], 0, 1)
    assert (found.gap_closed, found.gap_closed95) == (None, None)
    assert made_headline({"robust": every["robust"]}, ["t0", "t1"], [None, None], 0, 0) is None


def test_one_file_left_out_is_judged_without_it(stream, logs, tmp_path, other_policy):
    files = sorted(str(p) for p in logs.iterdir())
    policies = [str(other_policy(stream, tmp_path / f"p{k}", k)) for k in range(3)]
    folds = tuple(
        FoldSpec(test, tuple(f for f in files if f != test), (policy,))
        for test, policy in zip(files, policies, strict=True)
    )
    spec = spec_of(logs, traces=(), folds=folds, controllers=("robust", "fixed"))
    found = run_evaluation(spec, tmp_path / "units")
    assert found.cross_validated
    assert found.seen_in_training == ()
    assert found.traces == ("t0", "t1", "t2")
    assert [p.folder for p in found.policies] == policies
    traces = read_traces(logs)
    phases = set()
    for k, trace in enumerate(traces):
        seed = seed_of_group(stream.scenario.seeds.evaluate, k, 3)
        learned = ControllerFactory(stream, policy_folder=tmp_path / f"p{k}")
        others = inputs.TrainedOn(
            stream, given=TraceSet(tuple(t for t in traces if t is not trace), False, "")
        )
        for factory, name in ((learned, "learned"), (others, "robust"), (others, "fixed")):
            make = factory.maker(name, [trace])
            (alone,) = evaluate(stream, [trace], make, seed=seed, max_frames=FRAMES)
            reported = found.controllers[name].per_trace[trace.name]
            assert reported == pytest.approx(float(alone.reward.mean())), name
            phases.add(float(alone.arrival_s[0]))
    # three logs are three draws of frames and pictures, not the same one three times
    assert len(phases) == 3
    assert seed_of_group(7, 0, 1) == 7


def test_what_was_chosen_on_the_training_traces_is_kept(logs, tmp_path, monkeypatch):
    both = spec_of(logs, controllers=("fixed", "rate-rule"), policies=())
    first = run_evaluation(both, tmp_path / "units")

    def never(*args, **how):
        raise AssertionError("chosen again")

    monkeypatch.setattr("experiments.evaluation.tuning.Tuning._keep", never)
    for path in (tmp_path / "units").glob("*.npz"):
        path.unlink()
    again = run_evaluation(both, tmp_path / "units")
    assert again.controllers == first.controllers
    # other frames are other units, and the same choice
    assert run_evaluation(msgspec.structs.replace(both, frames=7), tmp_path / "units")


def test_what_ppo_added_and_the_device_alone_are_two_things(stream, logs, tmp_path, random_policy):
    save_policy(tmp_path / "p", random_policy(stream, training={"seed": 0}))
    spec = spec_of(
        logs, policies=(str(tmp_path / "p"),), controllers=("device-only", "robust", "planning")
    )
    found = run_evaluation(spec, tmp_path / "units")
    reported, own = found.headline, found.controllers
    assert reported.best_baseline in ("device-only", "robust"), "planning is a part, no rival"
    for against, name, part in (
        (reported.over_planning, "planning", "per_trace"),
        (reported.over_device_only, "device-only", "per_trace_goodput"),
    ):
        mine, others = getattr(own["learned"], part), getattr(own[name], part)
        off = [mine[trace] - others[trace] for trace in found.traces]
        assert against.mean == pytest.approx(np.mean(off))
        assert against.worst == pytest.approx(min(off))
        assert against.over == name
    assert reported.over_planning.mean != 0.0
    lines = " ".join(headline_lines(found))
    assert "Over its planning alone: " in lines
    assert "Goodput accuracy over the device alone: " in lines


def test_a_study_leaves_evaluations_and_matrices(logs, tmp_path):
    one = spec_of(logs, name="own", controllers=("device-only",))
    two = spec_of(logs, name="slower", controllers=("device-only",), scale=0.2)
    cells = (CellSpec("a", "a", "own"), CellSpec("a", "b", "slower"), CellSpec("c", "b", "own"))
    matrices = tuple(
        MatrixSpec(figure, cells, figure=figure)
        for figure in ("share_of_bound", "reward", "goodput_accuracy", "against_best")
    )
    out = tmp_path / "results"
    found = run_study(Study(1, (one, two), "t", matrices), out, "the command")
    assert [e.scale for e in found] == [1.0, 0.2]
    assert read_evaluation(out / "own.evaluation.json") == found[0]
    assert json.loads((out / "study.json").read_text())["command"] == "the command"
    share = read_matrix(out / "share_of_bound.matrix.json")
    assert (share.rows, share.columns) == (("a", "c"), ("a", "b"))
    assert share.cells[1][0] is None
    learned = found[1].controllers["learned"]
    assert share.cells[0][1].mean == learned.share_of_bound
    assert share.cells[0][1].traces == 3
    over = read_matrix(out / "against_best.matrix.json").cells[0][0]
    assert over.mean == found[0].headline.reward.mean
    assert over.note == "over device-only"
    reward = read_matrix(out / "reward.matrix.json").cells[0][0]
    assert reward.mean == pytest.approx(found[0].controllers["learned"].trace_reward)
    low, high = reward.interval95
    assert low <= reward.mean <= high


def test_the_series_are_the_frames_of_the_run(stream, logs, tmp_path):
    spec = spec_of(logs, series=SeriesSpec("t1", 0.5, 0.75), controllers=("device-only", "robust"))
    found = run_evaluation(spec, tmp_path / "units").series
    assert set(found.controllers) == {"learned", "device-only", "robust"}
    trace = read_traces(logs)
    runs = evaluate(stream, trace, ControllerFactory(stream).maker("robust", trace),
                    max_frames=FRAMES)  # fmt: skip
    inside = (runs[1].arrival_s >= 0.5) & (runs[1].arrival_s < 1.25)
    own = found.controllers["robust"]
    assert own.at_s == pytest.approx(runs[1].arrival_s[inside])
    assert [own.plans[k] for k in own.plan] == [
        str(stream.table.plans[p]) for p in runs[1].plan[inside]
    ]
    assert found.rate_at_s == (0.5, 1.0)
    assert found.rate_bps == pytest.approx(trace[1].rates_bps[:2])
    assert place_of(SeriesSpec("t1.log"), trace) == 1
    name = spec.name
    for bad, match in (
        (SeriesSpec("x"), f"evaluation '{name}', field 'series.trace': found 'x'"),
        (SeriesSpec("t0", 99.0), f"evaluation '{name}', field 'series.start_s': found 99 s"),
    ):
        # reported before anything is run
        with pytest.raises(UsageError, match=match):
            run_study(Study(1, (spec_of(logs, series=bad),)), tmp_path / "none", "")
    assert not (tmp_path / "none").exists()


def test_accuracy_against_deadline_and_the_map(stream, logs, tmp_path):
    spec = spec_of(logs, deadlines_ms=(60.0, 150.0), deadline_controllers=("device-only", "robust"),
                   deadline_frames=30, controllers=("device-only",))  # fmt: skip
    found = run_evaluation(spec, tmp_path / "units")
    at = {(p.controller, round(1000 * p.deadline_s)): p for p in found.deadlines}
    own = round(1000 * stream.scenario.frames.deadline_s)
    assert {k for k in at if k[0] == "robust"} == {("robust", d) for d in (60, own, 150)}
    assert ("learned", own) in at
    assert ("learned", 60) not in at
    assert at["robust", 150].goodput_accuracy > at["robust", 60].goodput_accuracy
    for point in found.deadlines:
        low, high = point.interval95
        assert low <= point.goodput_accuracy <= high
    made = found.map
    assert list(made.bandwidths_bps) == sorted(made.bandwidths_bps)
    values = np.array(made.values)
    assert values.shape == (len(made.rows), len(made.bandwidths_bps))
    # Algorithm 2 takes the greatest expected reward: what is chosen is the column's greatest
    assert list(made.chosen) == values.argmax(axis=0).tolist()


def test_the_generalist_is_planned_for_every_deadline_and_is_no_rival(logs, tmp_path):
    spec = spec_of(logs, deadlines_ms=(60.0,), deadline_controllers=("generalist",),
                   deadline_frames=30, controllers=("device-only", "generalist"))  # fmt: skip
    found = run_evaluation(spec, tmp_path / "units")
    assert {p.controller for p in found.deadlines} == {"generalist", "learned"}
    assert found.headline.best_baseline == "device-only"


def test_the_closed_loop_has_no_gap(tmp_path, logs):
    spec = spec_of(logs, scenario="edgent", controllers=("device-only", "fixed"))
    found = run_evaluation(spec, tmp_path / "units")
    assert found.closed_loop
    assert found.headline.gap_closed is None
    assert found.controllers["learned"].throughput_fps > 1


@pytest.fixture
def written(logs, tmp_path):
    out = tmp_path / "results"
    run_study(Study(1, (spec_of(logs, controllers=("robust", "device-only")),)), out, "c")
    return out / "e.evaluation.json"


def test_an_evaluation_of_format_1_is_read(written):
    now = read_evaluation(written)
    assert now.format_version == 2
    plain = json.loads(written.read_text())
    plain["format_version"] = 1
    assert plain["series"]["controllers"]
    for own in plain["series"]["controllers"].values():
        own["correct"] = [quality == 1.0 for quality in own.pop("quality")]
    written.write_text(json.dumps(plain))
    assert read_evaluation(written).series == now.series
    assert any(sum(own.quality) > 0 for own in now.series.controllers.values())


def test_results_that_do_not_fit_together_are_refused(written):
    plain = json.loads(written.read_text())
    assert isinstance(read_evaluation(written), Evaluation)
    for change, said in (
        (lambda d: d.update(format_version=9), "field 'format_version': found 9"),
        (lambda d: d.pop("bound"), "bound"),
        (lambda d: d["traces"].append("more"), "expected the 4 that were evaluated"),
        (lambda d: d["headline"].update(best_baseline="x"), "headline.best_baseline': found 'x'"),
        (lambda d: d["controllers"]["robust"]["latency_quantiles_s"].pop(), "100 levels"),
    ):
        broken = json.loads(json.dumps(plain))
        change(broken)
        written.write_text(json.dumps(broken))
        with pytest.raises(CoinferError) as caught:
            read_evaluation(written)
        assert said in str(caught.value)


def test_an_evaluation_knows_what_it_was_made_from(written):
    found = read_evaluation(written)
    assert found.scenario_digest == read_scenario("3g-alexnet").digest
    assert len(found.policies[0].digest) == 64
    assert found.policies[0].seed == 0
    assert found.versions["numpy"] == np.__version__
    assert found.frames == FRAMES
    assert not found.own_traces
    assert run.policy_facts(SHIPPED_POLICIES / "3g-alexnet").frames_seen > 0
