import itertools
import json
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from artefacts import DependencyError, UsageError
from coinfer.cli.bench.detector import as_entries, detector
from controller.sensing.interface import DetectorStep
from experiments.analyses.detectors.recorded import (
    closed_loop_transfers,
    score_traces,
    trace_benchmark,
)
from experiments.analyses.detectors.scores import WITHIN_S, match, score_steps, step_benchmark, tune
from experiments.analyses.detectors.steps import LinkStatistics, link_statistics, step_stream
from experiments.evaluation.detectors import NAMES, make_detector
from traces.library import TraceSet, load_split
from traces.states import BandwidthState
from traces.trace import BandwidthTrace

STATISTICS = LinkStatistics(noise=(0.15, 0.2, 0.25), steps=(0.2, 0.5, 0.8, 1.1))
STATES = tuple(BandwidthState(m, 0.2 * m) for m in (1e5, 1e6, 1e7))


class Clairvoyant:
    """Declares at the first measurement after each change it knows of, and at `extra` times."""

    name = "clairvoyant"

    def __init__(self, changes, extra=(), late=0.0):
        self._due = sorted([c + late for c in changes] + list(extra))
        self.reset()

    def reset(self):
        self._at = 0

    def update(self, value_bps, at_s):
        change = self._at < len(self._due) and at_s >= self._due[self._at]
        self._at += change
        return DetectorStep(change, 1.0, 1, value_bps, 0.1 * value_bps, float(change))


def stream(irregular=False, hours=0.5, seed=0):
    return step_stream(STATISTICS, hours, np.random.default_rng(seed), irregular=irregular)


def test_match_by_hand():
    delays, missed, false = match(
        np.array([5.0, 12.0, 13.0, 70.0, 150.0]), np.array([10.0, 60.0, 100.0])
    )
    np.testing.assert_array_equal(delays, [2.0, 10.0])
    assert (missed, false) == (1, 3)


@given(
    st.lists(st.integers(0, 500), max_size=20, unique=True),
    st.lists(st.integers(0, 500), min_size=1, max_size=10, unique=True),
)
def test_match_equals_brute_force(alarms, changes):
    alarms, changes = sorted(alarms), sorted(changes)
    used = set()
    for change, following in itertools.pairwise([*changes, math.inf]):
        for alarm in alarms:
            if change <= alarm < min(following, change + WITHIN_S):
                used.add((change, alarm))
                break
    delays, missed, false = match(np.array(alarms, dtype=float), np.array(changes, dtype=float))
    assert sorted(delays) == sorted(a - c for c, a in used)
    assert missed == len(changes) - len(used)
    assert false == len(alarms) - len(used)


def test_a_clairvoyant_detector_scores_perfectly_and_one_with_alarms_does_not():
    known = stream()
    perfect = score_steps(lambda: Clairvoyant(known.changes_s), [known], "regular")
    assert perfect.missed_share == 0
    assert perfect.false_alarms_per_hour == 0
    assert perfect.p90_delay_s <= 1.0
    assert perfect.cost_s == perfect.mean_delay_s
    late = score_steps(lambda: Clairvoyant(known.changes_s, late=7.0), [known], "regular")
    assert late.mean_delay_s == pytest.approx(7.5, abs=0.5)
    # nothing changes in a segment's first 20 s, so these three are false
    noisy = known.changes_s[:3] + 15.0
    alarmed = score_steps(lambda: Clairvoyant(known.changes_s, extra=noisy), [known], "regular")
    assert alarmed.false_alarms_per_hour == pytest.approx(6.0)
    blind = score_steps(lambda: Clairvoyant(()), [known], "regular")
    assert blind.missed_share == 1
    assert blind.cost_s == WITHIN_S


@pytest.mark.parametrize("irregular", [False, True])
def test_a_stream_is_what_it_says(irregular):
    made = stream(irregular, hours=2.0)
    assert made.duration_s == 7200
    assert len(made.times_s) == pytest.approx(7200, rel=0.05)
    gaps = np.diff(made.times_s)
    assert np.all(gaps > 0)
    assert np.allclose(gaps, 1.0) != irregular
    assert np.all(np.diff(np.append(0.0, made.changes_s)) >= 20.0)
    assert len(made.changes_s) == pytest.approx(120, rel=0.3)
    edges = np.concatenate([[0.0], made.changes_s, [7200.0]])
    logs = np.log(made.values_bps)
    medians, spreads = [], []
    for a, b in itertools.pairwise(edges):
        part = logs[(made.times_s >= a) & (made.times_s < b)]
        if len(part) > 30:
            medians.append(np.median(part))
            spreads.append(part.std())
    assert min(spreads) > 0.1
    assert max(spreads) < 0.35
    assert max(medians) - min(medians) > 1.0


def test_streams_follow_their_seed():
    np.testing.assert_array_equal(stream(seed=4).values_bps, stream(seed=4).values_bps)
    assert not np.array_equal(stream(seed=4).values_bps[:50], stream(seed=5).values_bps[:50])


def test_statistics_recover_those_of_a_known_link():
    rng = np.random.default_rng(0)
    levels = np.repeat(np.cumsum(rng.choice([-0.5, 0.5], 300)) * 0.2, 20)
    rates = 3e6 * np.exp(levels + 0.02 * rng.standard_normal(6000))
    found = link_statistics([BandwidthTrace("t", np.arange(6000.0), rates, 6000.0)])
    assert found.steps == pytest.approx((0.1,) * 4, abs=0.03)
    assert found.noise == pytest.approx((0.02,) * 3, rel=0.25)
    with pytest.raises(UsageError, match="found no trace of two windows"):
        link_statistics([BandwidthTrace("t", np.arange(30.0), np.ones(30), 30.0)])


def test_tuning_prefers_the_cheap_among_the_quiet():
    settings, make = tune("ewma", [stream(seed=1), stream(seed=2)], "regular")
    tuned = score_steps(make, [stream(seed=1), stream(seed=2)], "regular", settings)
    assert tuned.false_alarms_per_hour <= 12.0
    assert "threshold" in settings
    assert tuned.missed_share < 0.5


def test_the_step_benchmark_scores_every_detector_both_ways_and_repeats():
    scores = step_benchmark(STATISTICS, 0.15, 3)
    assert [(s.detector, s.sampling) for s in scores] == [
        (n, s) for s in ("regular", "irregular") for n in NAMES
    ]
    assert all(s.changes > 5 for s in scores)
    assert min(s.missed_share for s in scores) < 0.3
    assert step_benchmark(STATISTICS, 0.15, 3) == scores


def test_transfers_of_a_closed_loop_by_hand():
    # 1000 bytes at 8 kbit/s take 1 s, at 16 kbit/s half; then a second of computing
    trace = BandwidthTrace("t", np.array([0.0, 3.0]), np.array([8e3, 16e3]), 5.2)
    found = closed_loop_transfers(trace, 1000, 1.0)
    assert [m.known_s for m in found] == pytest.approx([1.0, 3.0, 4.5])
    assert [m.rate_bps for m in found] == pytest.approx([8e3, 8e3, 16e3])


def test_scores_on_a_trace_with_known_switches():
    rates = np.repeat([1e6, 1e7, 1e6, 1e5], 60)
    trace = BandwidthTrace("t", np.arange(240.0), rates, 240.0)
    ticks = itertools.count()
    (score, *_) = trace_benchmark([trace], STATES, lambda: 2e-6 * next(ticks))
    assert score.detector == "bayes"
    # three switches in four minutes; doublings and transfers across an edge may add a few
    assert 3 * 15 <= score.switches_per_hour <= 9 * 15
    assert score.log_error < 0.1
    assert score.update_us == pytest.approx(2.0)
    assert score.hours == pytest.approx(240 / 3600)


def test_a_trace_too_short_to_score_is_refused():
    trace = BandwidthTrace("t", np.array([0.0]), np.array([1.0]), 1.0)
    measured = [closed_loop_transfers(trace)]
    with pytest.raises(UsageError, match="found no two transfers"):
        score_traces("ewma", measured, STATES, 1.0, lambda: make_detector("ewma"), lambda: 0.0)


@pytest.fixture
def _short_logs(monkeypatch):
    def load(family, part):
        whole = load_split(family, part)
        cut = tuple(t.slice(0, min(60.0, t.duration_s)) for t in whole.traces)
        return TraceSet(cut, whole.generated, whole.source)

    monkeypatch.setattr("traces.library.load_split", load)


@pytest.mark.usefixtures("_short_logs")
def test_the_command_prints_tables_and_json():
    app = typer.Typer()
    app.command()(detector)
    runner = CliRunner()
    plain = runner.invoke(app, ["--hours", "0.1"], env={"COLUMNS": "200"})
    assert plain.exit_code == 0, plain.output
    assert "page-hinkley" in plain.stdout
    assert "belgium" in plain.stdout
    found = json.loads(runner.invoke(app, ["--hours", "0.1", "--json"]).stdout)
    assert len(found) == 2 * 3 * 5 + 3 * 4
    entry = found["belgium.bayes.switches"]
    assert entry["unit"] == "1/h"
    assert entry["ratio"] == pytest.approx(entry["value"] / entry["baseline"])
    assert found["belgium.ewma.switches"]["ratio"] is None


@pytest.mark.parametrize(
    ("arguments", "named"), [(["--hours", "0"], "--hours: found 0"), (["--seed", "-3"], "--seed")]
)
def test_the_command_refuses_what_cannot_be_meant(arguments, named):
    app = typer.Typer()
    app.command()(detector)
    outcome = CliRunner().invoke(app, arguments)
    assert isinstance(outcome.exception, UsageError)
    assert named in str(outcome.exception)


def test_entries_of_a_figure_that_is_zero_have_no_ratio():
    known = stream()
    zero = score_steps(lambda: Clairvoyant(()), [known], "regular")
    entries = as_entries([zero, replace(zero, detector="ewma")], [])
    assert entries["steps.regular.clairvoyant.false_alarms"]["ratio"] is None
    assert entries["steps.regular.clairvoyant.missed"]["ratio"] == 1.0


def test_sensing_imports_nothing_a_device_lacks():
    code = (
        "import sys, controller.sensing, controller.sensing.state_tracker, "
        "controller.sensing.estimators\n"
        "heavy = {'torch', 'river', 'pandas', 'matplotlib', 'gymnasium', 'scipy', 'experiments'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_river_its_extra_is_named_and_the_other_detectors_work(monkeypatch):
    for name in ("river", "river.drift"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DependencyError, match=r"found no package 'river'.*'\.\[detectors\]'"):
        make_detector("page-hinkley")
    assert [make_detector(name).name for name in NAMES[:2]] == list(NAMES[:2])
