"""The replay's picture and the demo's page: what they show is what was measured."""

import re
from dataclasses import replace

import numpy as np
import pytest

from controller.planners.fixed import FixedController
from experiments.evaluation.comparison import compare
from experiments.evaluation.controllers import ControllerFactory
from experiments.evaluation.evaluator import evaluate
from experiments.reporting.demo_page import SPOKEN, demo_page, sentence
from experiments.reporting.drawing import svg_bytes
from experiments.reporting.replay_picture import Group, replay_figure, stretches
from traces import BandwidthTrace
from traces.library import TraceSet

pytestmark = pytest.mark.slow
FRAMES = 60


@pytest.fixture(scope="module")
def trace():
    return BandwidthTrace("tunnel", np.array([0.0, 2.0]), np.array([4e6, 2e5]), 6.0)


@pytest.fixture(scope="module")
def runs(stream, trace):
    """Two controllers that never change their plan, on one trace."""
    local = int(np.flatnonzero(stream.table.local)[0])
    remote = int(np.flatnonzero(~stream.table.local)[0])
    return {
        name: evaluate(stream, [trace], lambda k, p=plan: FixedController("x", p), seed=3)[0]
        for name, plan in (("stays", local), ("sends", remote))
    }


@pytest.fixture(scope="module")
def figure(stream, trace, runs):
    plans, deadline_s = stream.table.plans, stream.scenario.frames.deadline_s
    return replay_figure(trace, runs, plans, deadline_s)


def test_stretches_are_whole_and_of_one_value():
    values = [1, 1, 2, 2, 2, 1]
    assert stretches(values) == [(0, 2), (2, 5), (5, 6)]
    assert stretches([]) == []


def test_every_frame_is_a_dot_and_every_controller_has_its_rows(runs, figure):
    rate, *rows = figure.axes
    assert rate.get_title(loc="left") == "bandwidth of the link"
    assert len(rows) == 2 * len(runs)
    for (name, run), bands, dots in zip(runs.items(), rows[::2], rows[1::2], strict=True):
        right = 100 * run.quality.sum() / len(run.plan)
        assert bands.get_title(loc="left").startswith(f"{name}: {right:.1f} % right and in time")
        drawn = [line for line in dots.lines if line.get_linestyle() == "None"]
        assert sum(len(line.get_xdata()) for line in drawn) == len(run.plan)
        late = [line for line in drawn if line.get_marker() in "x^"]
        assert sum(len(line.get_xdata()) for line in late) == int((~run.in_time).sum())


def test_answers_between_right_and_wrong_are_not_called_so(trace, stream, runs):
    run, deadline_s = runs["stays"], stream.scenario.frames.deadline_s
    quality = np.linspace(0.0, 1.0, len(run.plan))
    drawn = replay_figure(
        trace, {"a": replace(run, quality=quality)}, stream.table.plans, deadline_s
    )
    said = [axes.get_title(loc="left") for axes in drawn.axes]
    assert any(text.startswith("a: 50.0 % mean quality in time, ") for text in said)
    labels = {line.get_label() for line in drawn.axes[-1].lines}
    assert {"quality 0.5 or more, in time", "less, in time"} <= labels
    assert not {"right, in time", "wrong, in time"} & labels


def test_what_is_beyond_the_axis_is_seen_as_such(trace, stream, runs):
    run, deadline_s = runs["stays"], stream.scenario.frames.deadline_s
    latency_s = np.full(len(run.plan), 0.5 * deadline_s)
    latency_s[:3] = 1.1 * deadline_s, 9.0 * deadline_s, np.inf
    in_time = latency_s <= deadline_s
    late = replace(run, latency_s=latency_s, in_time=in_time, quality=in_time.astype(float))
    drawn = replay_figure(trace, {"late": late}, stream.table.plans, deadline_s)
    dots = {line.get_marker(): line for line in drawn.axes[-1].lines if line.get_marker() in "x^"}
    assert dots["x"].get_ydata() == pytest.approx([1100 * deadline_s])
    assert dots["^"].get_xdata().tolist() == run.arrival_s[1:3].tolist()
    low, high = drawn.axes[-1].get_ylim()
    assert all(low < y < high for y in dots["^"].get_ydata())
    assert len(set(dots["^"].get_ydata())) == 1
    assert dots["^"].get_ydata()[0] > 1100 * deadline_s


def test_the_picture_is_the_same_every_time_and_names_its_plans(stream, figure, runs):
    drawn = svg_bytes(figure, "x").decode()
    assert svg_bytes(figure, "x").decode() == drawn
    for run in runs.values():
        assert Group.of(stream.table.plans[run.plan[0]]).label in drawn


def test_the_page_says_what_the_table_shows_and_needs_nothing_beside_it(stream, trace, figure):
    names = list(SPOKEN)
    traces = TraceSet((trace,), True, "made up")
    found = compare(stream, traces, names, ControllerFactory(stream), max_frames=FRAMES)
    said = sentence(found)
    shares = [100 * found.controllers[n].goodput_accuracy for n in names]
    assert re.findall(r"\d+\.\d", said) == [f"{share:.1f}" for share in shares]
    assert said.startswith("On 1 log of a link made like recorded ones the device alone answers")
    page = demo_page(found, {"a <caption>": figure}, ["a note"], "coinfer demo")
    assert said in page
    assert page.count("<svg") == 1
    assert "a &lt;caption&gt;" in page
    for name in names:
        assert f"<td>{name}</td>" in page
    assert not re.search(r"<(?:script|link|img|iframe)\b|https?://(?!www\.w3\.org)", page)
