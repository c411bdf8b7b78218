from __future__ import annotations

import numpy as np
import pytest
import torch

from artefacts import UsageError
from models.facts.cards import load_model
from models.facts.profiles import check_profile, read_profile, write_profile
from models.networks.measuring.predictors import fit_predictors, generated_layer
from models.networks.measuring.profiling import emulation_note, profile_model
from models.networks.measuring.timing import ProfilingArgs, chain_times


class ScriptedClock:
    """Time that passes only where a computation says so."""

    def __init__(self):
        self.wall, self.cpu = 0.0, 0.0

    def wall_s(self):
        return self.wall

    def cpu_s(self):
        return self.cpu

    def spend(self, wall, cpu):
        self.wall += wall
        self.cpu += cpu


class CountingClock:
    """Every reading is a second after the last: each computation takes exactly one."""

    def __init__(self):
        self.wall, self.cpu = 0.0, 0.0

    def wall_s(self):
        self.wall += 1.0
        return self.wall

    def cpu_s(self):
        self.cpu += 0.5
        return self.cpu


def test_a_chain_passes_each_result_on_and_times_each_run():
    clock, seen = ScriptedClock(), []

    def run(factor, wall):
        def inner(x):
            seen.append(x)
            clock.spend(wall, wall / 2)
            return x * factor

        return inner

    args = ProfilingArgs(repeats=3, warmup=2)
    times = chain_times([run(2, 0.25), run(3, 1.5)], 7, args, clock)
    assert np.array_equal(times, [[0.25, 1.5]] * 3)
    assert seen == [7, 14] * 5


def test_a_slower_device_counts_cpu_time_or_the_wall_if_that_is_longer():
    clock = ScriptedClock()
    args = ProfilingArgs(repeats=1, warmup=0, slowdown=4.0)
    runs = [lambda x: clock.spend(0.1, 0.1), lambda x: clock.spend(0.5, 0.1)]
    assert chain_times(runs, None, args, clock)[0] == pytest.approx([0.4, 0.5])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"executor": "tpu"}, "found executor = tpu, expected torch or onnxruntime"),
        ({"threads": 0}, "found threads = 0"),
        ({"repeats": 0}, "found repeats = 0"),
        ({"slowdown": 0.5}, "found slowdown = 0.5"),
        ({"slowdown": float("nan")}, "found slowdown = nan"),
        ({"grid": 2}, "found grid = 2, expected 0, or 4 and more"),
        ({"slowdown": 2.0, "threads": 2}, "slowdown = 2 with 2 threads, expected 1 thread"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(change, message):
    with pytest.raises(UsageError, match=message):
        ProfilingArgs(**change)


def test_a_profile_says_what_was_measured(tiny_model, tmp_path):
    threads = torch.get_num_threads()
    args = ProfilingArgs(repeats=5, warmup=1, grid=6, held_out=3)
    seen = []
    profile = profile_model(tiny_model, "here", args, lambda *reported: seen.append(reported))
    check_profile(profile, tiny_model.spec)
    assert torch.get_num_threads() == threads
    conv1 = profile.branches[0][0]
    assert (conv1.name, conv1.kind, conv1.samples) == ("conv1", "conv", 5)
    assert 0 < conv1.median_s <= conv1.p95_s
    assert conv1.output_shape == (6, 8, 8)
    assert conv1.output_bytes == 4 * 6 * 8 * 8
    assert conv1.parameter_bytes == 4 * (6 * 3 * 3 * 3 + 6)
    assert conv1.peak_memory_bytes >= 4 * 3 * 8 * 8 + conv1.output_bytes + conv1.parameter_bytes
    assert profile.model_loading_s > 0
    assert profile.spread >= 1.0
    assert profile.process_peak_bytes > 2**20
    assert profile.emulation is None
    assert profile.transcribed is None
    assert (profile.executor, profile.threads) == ("torch", 1)
    kinds = {(p.kind, p.reading) for p in profile.predictors}
    assert {("conv", "maps"), ("conv", "elements"), ("conv", "operations"), ("fc", "maps")} <= kinds
    assert ("relu", "elements") not in kinds
    assert all(p.layers == 6 and p.held_out == 3 for p in profile.predictors)
    assert all(p.own_mape is not None for p in profile.predictors)
    assert seen[0] == ("branches", 0, 2)
    write_profile(tmp_path / "p.json", profile)
    assert read_profile(tmp_path / "p.json") == profile


def test_a_layer_has_one_time_and_branches_add_up(tiny_model, monkeypatch):
    from models.networks.measuring import profiling

    spec = tiny_model.spec
    clock = ScriptedClock()

    class CountingRunner:
        def input(self, x):
            return x

        def layers(self, branch):
            return [self.interval(branch, k, k + 1) for k in range(len(spec.branches[branch]))]

        def interval(self, branch, start, stop):
            def run(x):
                clock.spend(stop - start + 0.5, stop - start + 0.5)
                return x

            return run

    monkeypatch.setattr(profiling, "runner", lambda model, executor, threads: CountingRunner())
    monkeypatch.setattr(profiling, "_codec_profiles", lambda *given: ())
    args = ProfilingArgs(repeats=2, warmup=0, grid=0)
    profile = profiling.profile_model(tiny_model, "counted", args, clock=clock)
    times = {}
    for i, branch in enumerate(profile.branches):
        # fused: the call is paid once, by the first stretch
        assert profile.interval_s(i, 0, len(branch)) == pytest.approx(len(branch) + 0.5)
        for layer in branch:
            assert times.setdefault(layer.name, layer.median_s) == layer.median_s
    after = spec.exits[0].after
    assert profile.interval_s(0, after, len(spec.branches[0])) == pytest.approx(3.0)
    assert profile.interval_s(1, after, len(spec.trunk)) == pytest.approx(len(spec.trunk) - after)
    assert profile.layer_scale == pytest.approx([3.5 / 4.5, 5 / 7.5, 3 / 4.5])
    assert profile.predictors == ()
    assert profile.spread == 1.0


def test_noise_between_two_timings_makes_no_layer_free(tiny_model):
    # every run takes exactly a second, so a head seems to take nothing
    args = ProfilingArgs(repeats=2, warmup=0, grid=0)
    profile = profile_model(tiny_model, "counted", args, clock=CountingClock())
    assert all(layer.median_s > 0 for branch in profile.branches for layer in branch)


def test_a_throttled_profile_says_so(tiny_model):
    args = ProfilingArgs(repeats=2, warmup=0, grid=0, slowdown=8.0)
    profile = profile_model(tiny_model, "slow", args, clock=CountingClock())
    assert profile.interval_s(0, 0, 3) == pytest.approx(4.0)  # 8 x half a second of CPU
    assert profile.emulation == emulation_note(args)
    assert "8 times slower" in profile.emulation


@pytest.mark.parametrize("kind", ["conv", "relu", "pool", "lrn", "dropout", "fc"])
def test_generated_layers_can_run_and_differ(kind):
    rng = np.random.default_rng(0)
    made = [generated_layer(kind, rng) for _ in range(20)]
    assert {layer.kind for layer, _ in made} == {kind}
    assert len({(layer, shape) for layer, shape in made}) > 10
    assert all(min(layer.output_shape(shape)) >= 1 for layer, shape in made)


def test_generated_layers_of_an_unknown_kind_are_refused():
    with pytest.raises(UsageError, match="found kind 'softmax'"):
        generated_layer("softmax", np.random.default_rng(0))


def test_the_network_itself_is_never_fitted():
    layer, shape = generated_layer("relu", np.random.default_rng(1))
    args = ProfilingArgs(repeats=1, warmup=0, grid=6, held_out=2)
    rng = np.random.default_rng(0)
    # every timed run takes one second by this clock; the network's own layer took four
    (fit,) = fit_predictors([(layer, shape, 4.0)], args, rng, clock=CountingClock())
    assert fit.mape == pytest.approx(0.0, abs=1e-9)
    assert fit.own_mape == pytest.approx(0.75)


def test_onnxruntime_is_profiled_alike(tiny_model):
    args = ProfilingArgs(executor="onnxruntime", repeats=3, warmup=1, grid=4, held_out=2)
    profile = profile_model(tiny_model, "onnx", args)
    check_profile(profile, tiny_model.spec)
    assert profile.executor == "onnxruntime"
    assert all(layer.median_s > 0 for branch in profile.branches for layer in branch)


@pytest.mark.parametrize("executor", ["torch", "onnxruntime"])
def test_the_shipped_model_is_profiled_by_both_executors(executor):
    model = load_model("alexnet")
    args = ProfilingArgs(executor=executor, repeats=1, warmup=0, grid=0)
    profile = profile_model(model, executor, args)
    check_profile(profile, model.spec)
    assert [len(branch) for branch in profile.branches] == [12, 16, 19, 20, 22]
