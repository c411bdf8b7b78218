"""Evaluations: units run once and kept by digest, seeds averaged within traces, honest rivals."""

import json
import re
import shutil
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from artefacts import ArtefactError, CoinferError, UsageError, data_directory
from controller.policies import SHIPPED_POLICIES
from controller.policies.network import read_card, save_policy
from controller.scenarios import read_scenario
from experiments.evaluation.comparison import compare
from experiments.evaluation.controllers import ControllerFactory
from experiments.evaluation.digests import ROOT
from experiments.evaluation.evaluator import TraceRun, evaluate
from experiments.reporting.tables import headline_lines
from experiments.studies import inputs, kept_runs, run
from experiments.studies.extras import place_of
from experiments.studies.kept_runs import pack_runs, unpack_runs
from experiments.studies.merge import Runs, best_baseline, controller_results
from experiments.studies.merge import headline as made_headline
from experiments.studies.results import Evaluation, read_evaluation, read_matrix
from experiments.studies.run import run_evaluation, run_study, seed_of_group
from experiments.studies.study import (
    CellSpec,
    EvaluationSpec,
    FoldSpec,
    MatrixSpec,
    SeriesSpec,
    Study,
    read_study,
)
from experiments.sweeps.definition import read_sweep
from traces.formats import read_traces, write_csv
from traces.library import TraceSet, load_split
from traces.trace import BandwidthTrace, trace_digest, traces_digest

FRAMES = 40
NAMES = ("device-only", "edge-only", "algorithm1-online", "robust")


def made_traces(count, seed=0, prefix="t"):
    rng = np.random.default_rng(seed)
    return tuple(
        BandwidthTrace(f"{prefix}{k}", np.arange(8.0), rng.uniform(2e5, 4e6, 8), 8.0)
        for k in range(count)
    )


@pytest.fixture(autouse=True)
def short_training(monkeypatch):
    """What is learnt from training traces is learnt from three short ones."""
    monkeypatch.setattr(
        "controller.scenarios.setting.load_split",
        lambda family, part: TraceSet(made_traces(3, 7, part), True, f"made ({part})"),
    )
    monkeypatch.setattr("controller.registry.tuned.CHOICE_FRAMES", 30)


@pytest.fixture
def logs(tmp_path):
    folder = tmp_path / "logs"
    for trace in made_traces(3):
        write_csv(folder / f"{trace.name}.csv", trace)
    return folder


@pytest.fixture
def counted(monkeypatch):
    """Names of the controllers that were really run."""
    ran = []

    def counting(setting, traces, make, **options):
        ran.append(make(0).name)
        return evaluate(setting, traces, make, **options)

    monkeypatch.setattr(kept_runs, "evaluate", counting)
    return ran


@pytest.fixture
def other_policy(random_policy):
    """Saves a policy with weights of its own: (setting, folder, seed) -> folder."""

    def save(setting, folder, seed):
        save_policy(folder, random_policy(setting, seed, {"seed": seed}))
        return folder

    return save


def spec_of(logs, **changes):
    plain = {"name": "e", "scenario": "3g-alexnet", "traces": (str(logs),), "controllers": NAMES,
             "frames": FRAMES, "series": SeriesSpec(seconds=1.0)}  # fmt: skip
    return EvaluationSpec(**(plain | changes))


def test_an_evaluation_of_one_seed_is_what_compare_says(stream, logs, tmp_path):
    found = run_evaluation(spec_of(logs), tmp_path / "units")
    traces = TraceSet(tuple(read_traces(logs)), False, "")
    told = compare(
        stream, traces, [*NAMES, "learned"], ControllerFactory(stream), max_frames=FRAMES
    )
    assert found.bound == pytest.approx(told.bound)
    for name, figures in told.controllers.items():
        own = found.controllers[name]
        for key in ("goodput_accuracy", "late_share", "mean_latency_s", "p95_latency_s",
                    "bytes_per_frame", "reward", "share_of_bound"):  # fmt: skip
            assert getattr(own, key) == pytest.approx(getattr(figures, key)), (name, key)
        assert own.interval95 == pytest.approx(figures.interval95)
        assert own.per_trace == pytest.approx({t: f.reward for t, f in figures.per_trace.items()})
    by_rival = {d.over: d for d in told.differences}
    over = by_rival[found.headline.best_baseline]
    assert found.headline.reward.mean == pytest.approx(over.mean)
    assert found.headline.reward.interval95 == pytest.approx(over.interval95)
    assert found.headline.reward.p_value == over.p_value
    assert found.headline.reward.leave_one_out == pytest.approx(over.leave_one_out)


def test_units_are_run_once_and_a_changed_policy_anew(
    stream, logs, tmp_path, counted, other_policy
):
    policy = other_policy(stream, tmp_path / "p", 1)
    spec = spec_of(logs, policies=(str(policy),))
    folder = tmp_path / "units"
    first = run_evaluation(spec, folder)
    assert sorted(counted) == sorted([*NAMES, "learned"])
    counted.clear()
    assert run_evaluation(spec, folder) == first
    assert counted == []
    shutil.rmtree(policy)
    other_policy(stream, policy, 2)
    changed = run_evaluation(spec, folder)
    assert counted == ["learned"]
    assert changed.policies[0].digest != first.policies[0].digest
    assert changed.policies[0].seed == 2
    assert changed.controllers["learned"].plans != first.controllers["learned"].plans
    assert changed.controllers["robust"].per_trace == first.controllers["robust"].per_trace
    counted.clear()
    run_evaluation(msgspec.structs.replace(spec, frames=FRAMES - 1), folder)
    assert sorted(counted) == sorted([*NAMES, "learned"])


def test_what_is_learnt_from_other_training_traces_is_run_anew(
    logs, tmp_path, counted, monkeypatch
):
    spec, folder = spec_of(logs), tmp_path / "units"
    run_evaluation(spec, folder)
    counted.clear()
    monkeypatch.setattr(
        "controller.scenarios.setting.load_split",
        lambda family, part: TraceSet(made_traces(2, 8, part), True, "others"),
    )
    run_evaluation(spec, folder)
    assert sorted(counted) == sorted(NAMES)  # the learned policy is its own file


def test_progress_never_falls_and_names_what_is_done(logs, tmp_path):
    told = []
    spec = spec_of(logs, deadlines_ms=(60.0,), deadline_frames=20)
    run_evaluation(spec, tmp_path / "units", lambda what, share: told.append((what, share)))
    shares = [share for _, share in told]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert {*NAMES, "learned", "clairvoyant bound", "60 ms: fixed"} <= {what for what, _ in told}


def test_changed_sources_are_other_results(logs, tmp_path, counted, monkeypatch):
    spec = spec_of(logs, controllers=("device-only",))
    run_evaluation(spec, tmp_path / "units")
    counted.clear()
    monkeypatch.setattr(kept_runs, "code_digest", lambda: "other sources")
    run_evaluation(spec, tmp_path / "units")
    assert sorted(counted) == ["device-only", "learned"]


@pytest.mark.parametrize("ending", ["json", "npz"])
@pytest.mark.parametrize("harm", ["gone", "cut", "garbled"])
def test_a_unit_that_is_not_whole_is_run_again(logs, tmp_path, counted, ending, harm):
    spec, folder = spec_of(logs, controllers=("device-only",)), tmp_path / "units"
    first = run_evaluation(spec, folder)
    counted.clear()
    for path in folder.glob(f"*.{ending}"):
        raw = path.read_bytes()
        if harm == "gone":
            path.unlink()
        else:
            path.write_bytes(raw[: len(raw) // 2] if harm == "cut" else b"\x80" + raw[1:])
    assert run_evaluation(spec, folder) == first
    assert sorted(counted) == ["device-only", "learned"]


def test_what_strangers_could_have_put_there_is_evaluated_anew(logs, tmp_path, counted):
    spec, folder = spec_of(logs), tmp_path / "units"
    first = run_evaluation(spec, folder)
    for mode, again in ((0o775, []), (0o777, sorted([*NAMES, "learned"]))):
        counted.clear()
        folder.chmod(mode)  # of a group's folder the group is believed
        assert run_evaluation(spec, folder) == first
        assert sorted(counted) == again


def test_an_interrupted_evaluation_goes_on_where_it_was(logs, tmp_path, counted, monkeypatch):
    spec, folder = spec_of(logs), tmp_path / "units"

    def interrupted(*arguments, **options):
        if len(counted) == 2:
            raise KeyboardInterrupt
        counted.append("run")
        return evaluate(*arguments, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(kept_runs, "evaluate", interrupted)
        run_evaluation(spec, folder)
    assert not list(folder.glob(".*"))  # nothing half written
    counted.clear()
    run_evaluation(spec, folder)
    assert len(counted) == len(NAMES) + 1 - 2


def test_frames_survive_the_disk(stream, logs):
    traces = read_traces(logs)
    runs = evaluate(stream, traces, ControllerFactory(stream).maker("edge-only", traces),
                    max_frames=FRAMES)  # fmt: skip
    for before, after in zip(runs, unpack_runs(pack_runs(runs)), strict=True):
        for name in kept_runs.PER_FRAME:
            one, two = getattr(before, name), getattr(after, name)
            assert one.dtype == two.dtype
            np.testing.assert_allclose(one, two, rtol=1e-7 if name in kept_runs.STORED else 0)
        assert (before.trace, before.probe_bytes, before.duration_s) == (
            after.trace, after.probe_bytes, after.duration_s,
        )  # fmt: skip


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
                    yes, yes, reward * ones, 100 * ones, 0.01 * ones, np.nan * ones, 0.0, 0.0,
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
            told = found.controllers[name].per_trace[trace.name]
            assert told == pytest.approx(float(alone.reward.mean())), name
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


def test_a_fold_that_was_trained_on_its_test_is_refused(logs, tmp_path, stream, other_policy):
    policy = str(other_policy(stream, tmp_path / "p", 0))
    copy = tmp_path / "another-name.csv"
    shutil.copy(logs / "t0.csv", copy)
    folds = (FoldSpec(str(logs / "t0.csv"), (str(copy),), (policy,)),)
    with pytest.raises(UsageError, match="tested on a trace it was trained on"):
        run_evaluation(spec_of(logs, traces=(), folds=folds), tmp_path / "units")


def test_folds_may_name_files_of_the_split(stream, tmp_path, random_policy):
    split = inputs.read_split("norway")
    test, other = split.test[0].file, split.train[0].file
    spec = spec_of("", traces=(), folds=(FoldSpec(test, (other,), (str(tmp_path),)),))
    save_policy(tmp_path, random_policy(stream))
    (group,) = inputs.groups_of(spec, stream)
    real = load_split("norway", "test")
    assert traces_digest(group.traces.traces) == traces_digest(real.traces[:1])
    assert group.traces.generated == real.generated
    unknown = spec_of("", traces=(), folds=(FoldSpec("no.log", (other,), (str(tmp_path),)),))
    with pytest.raises(UsageError, match=r"found 'no\.log', expected a trace file or one of"):
        inputs.groups_of(unknown, stream)


def test_policies_are_looked_at_before_anything_is_run(stream, closed, tmp_path, random_policy):
    folders = {}
    for name, setting, seed in (("a", stream, 0), ("b", stream, 1), ("c", stream, 1)):
        folders[name] = str(tmp_path / name)
        save_policy(tmp_path / name, random_policy(setting, seed=seed, training={"seed": seed}))
    save_policy(tmp_path / "closed", random_policy(closed))
    (group,) = inputs.groups_of(
        spec_of("", traces=(), policies=(folders["a"], folders["b"])), stream
    )
    assert len(group.policies) == 2
    with pytest.raises(UsageError, match="found training seed 1 in .*b' and in .*c', expected one"):
        inputs.groups_of(spec_of("", traces=(), policies=tuple(folders.values())), stream)
    other = spec_of("", traces=(), name="other", policies=(str(tmp_path / "closed"),))
    study = Study(1, (spec_of("", traces=(), policies=()), other))
    began = []
    with pytest.raises(ArtefactError, match="found a policy of 'edgent'"):
        run_study(study, tmp_path / "out", "command", lambda what, share: began.append(what))
    assert not began
    assert not (tmp_path / "out" / "study.json").exists()


def test_what_ppo_added_and_the_device_alone_are_told_apart(stream, logs, tmp_path, random_policy):
    save_policy(tmp_path / "p", random_policy(stream, training={"seed": 0}))
    spec = spec_of(
        logs, policies=(str(tmp_path / "p"),), controllers=("device-only", "robust", "planning")
    )
    found = run_evaluation(spec, tmp_path / "units")
    told, own = found.headline, found.controllers
    assert told.best_baseline in ("device-only", "robust"), "planning is a part, no rival"
    for against, name, part in (
        (told.over_planning, "planning", "per_trace"),
        (told.over_device_only, "device-only", "per_trace_goodput"),
    ):
        mine, others = getattr(own["learned"], part), getattr(own[name], part)
        off = [mine[trace] - others[trace] for trace in found.traces]
        assert against.mean == pytest.approx(np.mean(off))
        assert against.worst == pytest.approx(min(off))
        assert against.over == name
    assert told.over_planning.mean != 0.0
    lines = " ".join(headline_lines(found))
    assert "Over its planning alone: " in lines
    assert "Goodput accuracy over the device alone: " in lines


def test_what_a_policy_was_trained_on_is_seen_by_its_card(stream, logs, tmp_path, random_policy):
    tested = inputs._scaled(TraceSet(tuple(read_traces(logs)), False, ""), 1.0).traces
    for digests, seen in (((), ()), ((trace_digest(tested[1]),), (tested[1].name,))):
        folder = tmp_path / str(len(seen))
        save_policy(folder, random_policy(stream, training={"trace_digests": list(digests)}))
        groups = inputs.groups_of(spec_of(logs, policies=(str(folder),)), stream)
        assert inputs.seen_in_training(groups, stream) == seen


def test_train_on_one_test_on_another(stream, monkeypatch):
    """The policy's own scenario, the other's test logs at the other's scale."""
    monkeypatch.setattr(
        inputs, "load_split", lambda family, part: TraceSet(made_traces(2, 3, family), True, family)
    )
    spec = spec_of("", traces=(), traces_of="lte-mobilenet")
    (group,) = inputs.groups_of(spec, stream)
    plain = made_traces(2, 3, "belgium")
    assert [t.name for t in group.traces.traces] == ["belgium0", "belgium1"]
    factor = read_scenario("lte-mobilenet").traces.scale
    np.testing.assert_allclose(group.traces.traces[0].rates_bps, factor * plain[0].rates_bps)
    assert inputs.trace_scale(spec, stream) == factor == 0.1


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
        # told before anything is run
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


def test_other_prices_are_other_results_for_everybody(logs, tmp_path, counted):
    plain = spec_of(logs, controllers=("device-only",), policies=())
    dear = spec_of(logs, controllers=("device-only",), prices=(1.0, 0.0), policies=())
    priced = [msgspec.structs.replace(s, scenario="lte-mobilenet-priced") for s in (plain, dear)]
    found = [run_evaluation(spec, tmp_path / "units") for spec in priced]
    alone = [f.controllers["device-only"] for f in found]
    assert alone[0].goodput_accuracy == alone[1].goodput_accuracy
    assert alone[1].reward < alone[0].reward
    assert counted.count("device-only") == counted.count("learned") == 2
    assert found[0].bound > found[1].bound


def test_the_closed_loop_has_no_gap(tmp_path, logs):
    spec = spec_of(logs, scenario="edgent", controllers=("device-only", "fixed"))
    found = run_evaluation(spec, tmp_path / "units")
    assert found.closed_loop
    assert found.headline.gap_closed is None
    assert found.controllers["learned"].throughput_fps > 1


def test_a_log_that_was_trained_on_backwards_is_known_as_it_is_read():
    """Shipped policies were trained, and chosen, on the split's logs as they are read."""
    root = data_directory()
    folder = None if root is None else root / "traces" / "norway_hsdpa"
    if folder is None or not folder.is_dir():
        pytest.skip("the Norwegian logs are not here")
    parts = [load_split("norway", part).traces for part in ("train", "validation")]
    known = {trace_digest(trace) for traces in parts for trace in traces}
    for name in ("3g-alexnet", "3g-mobilenet", "3g-mobilenet-priced"):
        named = read_card(SHIPPED_POLICIES / name).training["trace_digests"]
        assert {inputs.TURNED.get(digest, digest) for digest in named} == known


def test_traces_seen_in_training_are_told(tmp_path, logs):
    write_csv(logs / "copy.csv", made_traces(3, 7, "train")[1])
    write_csv(logs / "copy2.csv", made_traces(3, 7, "validation")[2])
    found = run_evaluation(spec_of(logs, controllers=("device-only",)), tmp_path / "units")
    assert found.seen_in_training == ("copy", "copy2")
    assert found.training_generated
    assert not found.generated


def test_a_trace_s_mode_is_its_file_s():
    assert inputs.mode_of_trace("report_tram_0003") == "tram"
    assert inputs.mode_of_trace("report_tram_0003.generated") == "tram"
    name = inputs.read_split("norway").test[0]
    assert inputs.mode_of_trace(name.file.removesuffix(".log")) == name.mode
    assert inputs.mode_of_trace("my.bus.log") is None


def test_policies_that_are_not_there_are_refused_before_anything_runs(logs, tmp_path, counted):
    spec = spec_of(logs, policies=(str(tmp_path / "nowhere"),))
    with pytest.raises(UsageError, match="found no policy in"):
        run_evaluation(spec, tmp_path / "units")
    write_csv(tmp_path / "more" / "t0.csv", made_traces(1)[0])
    twice = spec_of(logs, traces=(str(logs), str(tmp_path / "more")))
    with pytest.raises(UsageError, match="two traces named 't0'"):
        run_evaluation(twice, tmp_path / "units")
    assert counted == []


STUDY = 'format_version = 1\n[[evaluations]]\nname = "a"\nscenario = "3g-alexnet"\n'
FOLD = '[[evaluations.folds]]\ntest = "a.log"\ntrain = ["b.log"]\npolicies = ["p"]\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("format_version = 1\nevaluations = []", "field 'evaluations': found none"),
        (STUDY + "seed = 1", "evaluations[0]': found Object contains unknown field `seed`"),
        (STUDY.replace('"a"', '"a/b"'), "field 'evaluations.name': found 'a/b'"),
        (STUDY + STUDY.split("\n", 1)[1], "'a' twice"),
        (STUDY + 'controllers = ["magic"]', "evaluations[0].controllers': found 'magic'"),
        (STUDY + 'traces = ["x"]\ntraces_of = "edgent"', "several of traces_of, traces, folds"),
        (STUDY + "deadlines_ms = [0]", "evaluations[0].deadlines_ms[0]': found 0"),
        (STUDY + "scale = -1.0", "evaluations[0].scale': found -1"),
        (STUDY + "frames = 0", "evaluations[0].frames': found 0"),
        (STUDY + "prices = [1, -2]", "evaluations[0].prices': found 1, -2"),
        (STUDY + "seeds = [1, 1]", "evaluations[0].seeds': found one twice"),
        (STUDY + "seeds = [-1]", "found -1, expected 0 or more"),
        (STUDY + "[evaluations.series]\nseconds = 0", "series.seconds': found 0"),
        (STUDY + 'policies = ["p"]\n' + FOLD, "policies beside folds"),
        (STUDY + "deadlines_ms = [90]\n" + FOLD, "deadlines beside folds"),
        (STUDY + FOLD + FOLD, "folds[0].test': found 'a.log' twice"),
        (STUDY + FOLD.replace("b.log", "x/a.log"), "the file it is tested on, 'a.log'"),
        (STUDY + FOLD.replace('["b.log"]', "[]"), "folds[0].train': found no files"),
        (STUDY + FOLD.replace('["p"]', "[]"), "folds[0].policies': found 0 policies"),
        (STUDY + '[[matrices]]\nname = "m"\ncells = []', "matrices[0].cells': found none"),
        (
            STUDY + '[[matrices]]\nname = "m"\ncells = [{row = "r", column = "c", '
            'evaluation = "z"}]',
            "matrices[0].cells[0].evaluation': found 'z', expected one of a",
        ),
        (
            STUDY + '[[matrices]]\nname = "m"\nfigure = "luck"\ncells = []',
            "found Invalid enum value 'luck'",
        ),
    ],
)
def test_a_mistake_in_a_study_names_file_field_found_and_expected(tmp_path, text, said):
    path = tmp_path / "study.toml"
    path.write_text(text)
    with pytest.raises(CoinferError) as caught:
        read_study(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_files_in_the_documentation_are_read(tmp_path):
    text = (ROOT / "docs" / "reference" / "studies.md").read_text()
    shown, sweep = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    path = tmp_path / "study.toml"
    # it shows every key, three ways to name traces at once among them
    drop = ("traces_of", "traces =", "scale", 'policies = ["runs/a0"', "deadlines_ms")
    path.write_text("\n".join(line for line in shown.splitlines() if not line.startswith(drop)))
    study = read_study(path)
    assert study.evaluations[0].folds[0].policies == ("runs/without_bus_3",)
    assert study.matrices[0].figure == "share_of_bound"
    path = tmp_path / "sweep.toml"
    path.write_text(sweep)
    assert read_sweep(path).algorithms == ("ppo", "dqn")


def test_the_shipped_studies_are_studies():
    paths = sorted((ROOT / "experiments" / "studies").glob("*.toml"))
    assert paths
    for path in paths:
        for spec in read_study(path).evaluations:
            assert read_scenario(spec.scenario)
            assert spec.traces_of == "" or read_scenario(spec.traces_of)


def test_paths_lie_beside_the_study(tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "logs").mkdir()
    path = tmp_path / "study.toml"
    path.write_text(STUDY + 'policies = ["p", "elsewhere"]\ntraces = ["logs"]')
    (spec,) = read_study(path).evaluations
    assert spec.policies == (str(tmp_path / "p"), "elsewhere")
    assert spec.traces == (str(tmp_path / "logs"),)


@pytest.fixture
def written(logs, tmp_path):
    out = tmp_path / "results"
    run_study(Study(1, (spec_of(logs, controllers=("robust", "device-only")),)), out, "c")
    return out / "e.evaluation.json"


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
