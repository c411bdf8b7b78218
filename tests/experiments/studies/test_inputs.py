"""What an evaluation is given: folds, policies, and traces that were seen in training."""

import shutil

import numpy as np
import pytest
from made_studies import made_traces, spec_of

from artefacts import ArtefactError, UsageError, data_directory
from controller.policies import SHIPPED_POLICIES
from controller.policies.network import read_card, save_policy
from controller.scenarios import read_scenario
from experiments.studies import inputs
from experiments.studies.run import run_evaluation, run_study
from experiments.studies.study import (
    FoldSpec,
    Study,
)
from traces.formats import read_traces, write_csv
from traces.library import TraceSet, load_split
from traces.trace import trace_digest, traces_digest


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


def test_shipped_policies_name_the_logs_that_they_were_trained_on():
    """The split's as they are read, though their seconds were made uneven."""
    root = data_directory()
    folder = None if root is None else root / "traces" / "norway_hsdpa"
    if folder is None or not folder.is_dir():
        pytest.skip("the Norwegian logs are not here")
    parts = [load_split("norway", part).traces for part in ("train", "validation")]
    known = {trace_digest(trace) for traces in parts for trace in traces}
    for name in ("3g-alexnet", "3g-mobilenet"):
        assert set(read_card(SHIPPED_POLICIES / name).training["trace_digests"]) == known


def test_traces_seen_in_training_are_reported(tmp_path, logs):
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


def test_policies_that_are_not_there_are_refused_before_anything_runs(logs, tmp_path, runs):
    spec = spec_of(logs, policies=(str(tmp_path / "nowhere"),))
    with pytest.raises(UsageError, match="found no policy in"):
        run_evaluation(spec, tmp_path / "units")
    write_csv(tmp_path / "more" / "t0.csv", made_traces(1)[0])
    twice = spec_of(logs, traces=(str(logs), str(tmp_path / "more")))
    with pytest.raises(UsageError, match="two traces named 't0'"):
        run_evaluation(twice, tmp_path / "units")
    assert runs == []
