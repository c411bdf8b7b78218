"""Runs are made once, kept by digest, and made anew where anything they depend on has changed."""

import io
import shutil
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from made_studies import FRAMES, NAMES, made_traces, spec_of

from experiments.evaluation.controllers import ControllerFactory
from experiments.evaluation.evaluator import evaluate
from experiments.studies import kept_runs
from experiments.studies.kept_runs import pack_runs, unpack_runs
from experiments.studies.run import run_evaluation
from traces.formats import read_traces
from traces.library import TraceSet


def test_runs_are_made_once_and_a_changed_policy_anew(stream, logs, tmp_path, runs, other_policy):
    policy = other_policy(stream, tmp_path / "p", 1)
    spec = spec_of(logs, policies=(str(policy),))
    folder = tmp_path / "units"
    first = run_evaluation(spec, folder)
    assert sorted(runs) == sorted([*NAMES, "learned"])
    runs.clear()
    assert run_evaluation(spec, folder) == first
    assert runs == []
    shutil.rmtree(policy)
    other_policy(stream, policy, 2)
    changed = run_evaluation(spec, folder)
    assert runs == ["learned"]
    assert changed.policies[0].digest != first.policies[0].digest
    assert changed.policies[0].seed == 2
    assert changed.controllers["learned"].plans != first.controllers["learned"].plans
    assert changed.controllers["robust"].per_trace == first.controllers["robust"].per_trace
    runs.clear()
    run_evaluation(msgspec.structs.replace(spec, frames=FRAMES - 1), folder)
    assert sorted(runs) == sorted([*NAMES, "learned"])


def test_what_is_learnt_from_other_training_traces_is_run_anew(logs, tmp_path, runs, monkeypatch):
    spec, folder = spec_of(logs), tmp_path / "units"
    run_evaluation(spec, folder)
    runs.clear()
    monkeypatch.setattr(
        "controller.scenarios.setting.load_split",
        lambda family, part: TraceSet(made_traces(2, 8, part), True, "others"),
    )
    run_evaluation(spec, folder)
    assert sorted(runs) == sorted(NAMES)  # the learned policy is its own file


def test_changed_sources_are_other_results(logs, tmp_path, runs, monkeypatch):
    spec = spec_of(logs, controllers=("device-only",))
    run_evaluation(spec, tmp_path / "units")
    runs.clear()
    monkeypatch.setattr(kept_runs, "code_digest", lambda: "other sources")
    run_evaluation(spec, tmp_path / "units")
    assert sorted(runs) == ["device-only", "learned"]


@pytest.mark.parametrize("ending", ["json", "npz"])
@pytest.mark.parametrize("harm", ["gone", "cut", "garbled"])
def test_a_unit_that_is_not_whole_is_run_again(logs, tmp_path, runs, ending, harm):
    spec, folder = spec_of(logs, controllers=("device-only",)), tmp_path / "units"
    first = run_evaluation(spec, folder)
    runs.clear()
    for path in folder.glob(f"*.{ending}"):
        raw = path.read_bytes()
        if harm == "gone":
            path.unlink()
        else:
            path.write_bytes(raw[: len(raw) // 2] if harm == "cut" else b"\x80" + raw[1:])
    assert run_evaluation(spec, folder) == first
    assert sorted(runs) == ["device-only", "learned"]


def test_what_others_could_have_put_there_is_evaluated_anew(logs, tmp_path, runs):
    spec, folder = spec_of(logs), tmp_path / "units"
    first = run_evaluation(spec, folder)
    for mode, again in ((0o775, []), (0o777, sorted([*NAMES, "learned"]))):
        runs.clear()
        folder.chmod(mode)  # of a group's folder the group is believed
        assert run_evaluation(spec, folder) == first
        assert sorted(runs) == again


def test_an_interrupted_evaluation_goes_on_where_it_was(logs, tmp_path, runs, monkeypatch):
    spec, folder = spec_of(logs), tmp_path / "units"

    def interrupted(*arguments, **options):
        if len(runs) == 2:
            raise KeyboardInterrupt
        runs.append("run")
        return evaluate(*arguments, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(kept_runs, "evaluate", interrupted)
        run_evaluation(spec, folder)
    assert not list(folder.glob(".*"))  # nothing half written
    runs.clear()
    run_evaluation(spec, folder)
    assert len(runs) == len(NAMES) + 1 - 2


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


def test_right_and_wrong_are_kept_as_bits_under_the_name_that_they_had(stream):
    trace = made_traces(1)
    (run,) = evaluate(stream, trace, ControllerFactory(stream).maker("device-only", trace),
                      max_frames=FRAMES)  # fmt: skip
    assert set(run.quality) <= {0.0, 1.0}
    with np.load(io.BytesIO(pack_runs([run]))) as kept:
        assert "quality" not in kept
        assert kept["correct"].dtype == np.bool_
        assert np.array_equal(kept["correct"], run.quality > 0)
    better = replace(run, quality=np.full(len(run.quality), np.float32(0.3)).astype(np.float64))
    packed = pack_runs([run, better])
    with np.load(io.BytesIO(packed)) as kept:
        assert "correct" not in kept
        assert kept["quality"].dtype == np.float32
    for before, after in zip([run, better], unpack_runs(packed), strict=True):
        assert np.array_equal(before.quality, after.quality)


def test_other_prices_are_other_results_for_everybody(logs, tmp_path, runs):
    plain = spec_of(logs, controllers=("device-only",), prices=(0.5, 3.0), policies=())
    dear = spec_of(logs, controllers=("device-only",), prices=(1.0, 0.0), policies=())
    priced = [msgspec.structs.replace(s, scenario="lte-mobilenet") for s in (plain, dear)]
    found = [run_evaluation(spec, tmp_path / "units") for spec in priced]
    alone = [f.controllers["device-only"] for f in found]
    assert alone[0].goodput_accuracy == alone[1].goodput_accuracy
    assert alone[1].reward < alone[0].reward
    assert runs == ["device-only", "device-only"]  # coinfer brings no policy for prices
    assert {f.scenario for f in found} == {"lte-mobilenet-priced"}
    assert found[0].bound > found[1].bound
