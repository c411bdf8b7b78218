"""Comparisons: every controller on the same traces, none above the bound, prices reported."""

import numpy as np
import pytest

from artefacts import UsageError
from controller.scenarios import load_setting, priced_copy, read_scenario
from experiments.evaluation.comparison import compare
from experiments.evaluation.controllers import ControllerFactory, chosen_names
from traces.library import TraceSet


def test_every_controller_is_compared_and_none_beats_the_bound(stream, short_traces, random_policy):
    names = [
        "device-only",
        "edge-only",
        "best-single",
        "algorithm1",
        "map",
        "robust",
        "learned",
        "oracle",
    ]
    result = compare(
        stream,
        TraceSet(short_traces, True, "made"),
        names,
        ControllerFactory(stream, policy=random_policy(stream)),
    )
    assert list(result.controllers) == names
    assert len(result.differences) == len(names) - 1
    for reported in result.differences:
        off = [
            result.controllers["learned"].per_trace[t].reward
            - result.controllers[reported.over].per_trace[t].reward
            for t in result.traces
        ]
        assert reported.mean == pytest.approx(np.mean(off))
        assert reported.p_value in (0.25, 0.5, 0.75, 1.0)  # of three traces: quarters
        low, high = reported.leave_one_out
        assert low <= reported.mean <= high
    for figures in result.controllers.values():
        assert 0 < figures.share_of_bound < 1.02
        low, high = figures.interval95
        assert low <= figures.share_of_bound <= high
        assert sum(t.frames for t in figures.per_trace.values()) > 500
    alone = result.controllers["device-only"].per_trace
    for name, worst in result.against_device_only.items():
        own = result.controllers[name].per_trace
        off = [own[t].goodput_accuracy - alone[t].goodput_accuracy for t in own]
        late = [own[t].late_share - alone[t].late_share for t in own]
        assert worst.goodput_accuracy == min(off)
        assert worst.late_share == max(late)
        assert own[worst.goodput_trace].goodput_accuracy == pytest.approx(
            alone[worst.goodput_trace].goodput_accuracy + min(off)
        )


def test_hedging_is_a_baseline_of_its_own_and_energy_is_reported(short_traces, monkeypatch):
    monkeypatch.setattr("controller.registry.tuned.CHOICE_FRAMES", 100)
    setting = load_setting(priced_copy(read_scenario("lte-mobilenet")))
    names = ["device-only", "fixed", "fixed-hedged"]
    traces = TraceSet(short_traces, True, "made")
    found = compare(setting, traces, names, ControllerFactory(setting), max_frames=200)
    (plan,) = found.controllers["fixed-hedged"].plans
    assert "hedge" in plan
    assert "hedge" not in next(iter(found.controllers["fixed"].plans))
    power = setting.device.power
    local = found.controllers["device-only"]
    assert local.energy_j_per_frame == pytest.approx(
        power.compute_w * local.device_compute_s_per_frame
    )
    assert local.reward < local.goodput_accuracy
    other = load_setting(read_scenario("lte-mobilenet"))
    with pytest.raises(UsageError, match="has no plan that hedges"):
        ControllerFactory(other).maker("fixed-hedged", ())
    assert "fixed-hedged" in chosen_names("", setting)
    assert "fixed-hedged" not in chosen_names("", other)
