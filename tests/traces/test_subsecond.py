import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artefacts import ArtefactError, UsageError
from traces.library import TraceSet
from traces.subsecond import (
    SUBSECOND,
    autoregression,
    read_subsecond,
    shipped_subsecond,
    subsecond_set,
    with_subsecond,
)
from traces.subsecond_fit import (
    acf,
    seconds_of,
)
from traces.trace import BandwidthTrace

pieces = st.lists(
    st.tuples(
        st.one_of(st.floats(0.99, 1.01), st.floats(0.005, 9.0)),
        st.one_of(st.just(0.0), st.floats(1e3, 1e8)),
    ),
    min_size=1,
    max_size=25,
)
steps = st.sampled_from([None, 0.02, 0.025, 0.03, 0.05, 0.2])


def made(rows, name="log"):
    lengths, rates = zip(*rows, strict=True)
    return BandwidthTrace.from_intervals(name, lengths, rates)


@settings(max_examples=150, deadline=None)
@given(pieces, st.integers(0, 2**32 - 1), steps)
def test_every_piece_keeps_its_bytes_and_the_trace_its_duration(rows, seed, step_s):
    log = made(rows)
    found = with_subsecond(log, shipped_subsecond(), seed, step_s)
    assert (found.name, found.duration_s) == (log.name, log.duration_s)
    edges = np.append(log.times_s, log.duration_s)
    assert set(log.times_s.tolist()) <= set(found.times_s.tolist())
    owner = np.searchsorted(log.times_s, found.times_s, side="right") - 1
    lengths = np.diff(np.append(found.times_s, found.duration_s))
    bits = np.bincount(owner, lengths * found.rates_bps, len(log.rates_bps))
    assert bits == pytest.approx(np.diff(edges) * log.rates_bps, rel=1e-9)
    assert np.all(found.rates_bps >= 0)
    silent = log.rates_bps[owner] == 0
    assert np.all(found.rates_bps[silent] == 0)
    assert silent.sum() == np.sum(log.rates_bps == 0)
    longest = 1.5 * (step_s or shipped_subsecond().step_s)
    assert np.all(lengths[~silent] <= longest + 1e-9)


@settings(max_examples=40, deadline=None)
@given(pieces, st.integers(0, 1000), steps)
def test_a_seed_and_a_name_give_one_trace(rows, seed, step_s):
    fit = shipped_subsecond()
    one, two = (with_subsecond(made(rows), fit, seed, step_s) for _ in range(2))
    assert one.rates_bps.tolist() == two.rates_bps.tolist()
    assert one.times_s.tolist() == two.times_s.tolist()


def test_other_names_and_other_seeds_give_other_traces():
    fit, log = shipped_subsecond(), made([(1.0, 5e6)] * 20)
    found = [
        with_subsecond(log, fit, 0),
        with_subsecond(log, fit, 1),
        with_subsecond(made([(1.0, 5e6)] * 20, "another"), fit, 0),
    ]
    rates = [trace.rates_bps for trace in found]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert rates[a].shape == rates[b].shape
        assert abs(np.corrcoef(rates[a], rates[b])[0, 1]) < 0.15


def test_scaling_before_or_after_gives_the_same():
    rng = np.random.default_rng(0)
    log = made([(1.0, r) for r in rng.uniform(1e5, 1e7, 50)])
    fit = shipped_subsecond()
    one, two = with_subsecond(log.scale(0.25), fit, 3), with_subsecond(log, fit, 3).scale(0.25)
    assert one.rates_bps == pytest.approx(two.rates_bps, rel=1e-12)


def test_over_a_reference_it_is_the_rate_itself_that_counts():
    fit = shipped_subsecond()
    log = made([(1.0, 1e6)] * 200)
    spread = [
        with_subsecond(log, fit, 1, reference_bps=reference).rates_bps.std() / 1e6
        for reference in (1e5, None, fit.mean_bps)
    ]
    measured = [level.measured_std for level in fit.levels]
    assert spread == pytest.approx([measured[3], measured[2], measured[0]], rel=0.12)
    assert 3e6 < fit.mean_bps < 8e6
    for reference in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(UsageError, match="expected one above 0"):
            with_subsecond(log, fit, 1, reference_bps=reference)


def test_wider_steps_are_means_of_the_finer_ones():
    fit, log = shipped_subsecond(), made([(1.0, 4e6), (1.0, 0.0), (1.0, 1e6)])
    fine, coarse = with_subsecond(log, fit, 3), with_subsecond(log, fit, 3, 0.1)
    grid = np.arange(31) / 10.0
    assert np.diff(fine.bits_before(grid, "stop")) == pytest.approx(
        np.diff(coarse.bits_before(grid, "stop")), rel=1e-9, abs=1e-3
    )


def test_a_silent_trace_and_a_second_overlay_change_nothing():
    fit = shipped_subsecond()
    silent = made([(1.0, 0.0)] * 3)
    assert with_subsecond(silent, fit, 0) is silent
    once = with_subsecond(made([(1.0, 3e6), (1.0, 1e6)]), fit, 0)
    twice = with_subsecond(once, fit, 5)
    assert twice.rates_bps == pytest.approx(once.rates_bps)
    assert twice.times_s.tolist() == once.times_s.tolist()


def test_steps_out_of_range_and_endless_traces_are_refused():
    fit, log = shipped_subsecond(), made([(1.0, 3e6)])
    for step_s in (0.001, 0.6, float("nan")):
        with pytest.raises(UsageError, match=r"found .* s, expected 0\.02 to 0\.5 s"):
            with_subsecond(log, fit, 0, step_s)
    with pytest.raises(UsageError, match="'log': found 1e\\+07 s, expected at most 1e\\+06 s"):
        with_subsecond(made([(1e7, 3e6)]), fit, 0)


def test_overlays_vary_as_the_seconds_fitted_to_did():
    """Each level's spread, empty steps and correlation: 4,000 s laid over, levels as they come."""
    fit = shipped_subsecond()
    rng = np.random.default_rng(1)
    log = made([(1.0, r) for r in 1e6 * rng.lognormal(0.0, 0.7, 4000)])
    found = seconds_of([with_subsecond(log, fit, 2)])
    which = np.searchsorted(fit.level_edges, found.level, side="right")
    for k, level in enumerate(fit.levels):
        own = found.deviation[which == k]
        assert own.std() == pytest.approx(level.measured_std, rel=0.12)
        assert (own == 0).mean() == pytest.approx(level.measured_empty, abs=0.015)
        assert acf(own) == pytest.approx(np.array(level.measured_acf), abs=0.08)


def test_slower_seconds_are_rougher_in_the_shipped_fit():
    spreads = [level.measured_std for level in shipped_subsecond().levels]
    assert spreads == sorted(spreads, reverse=True)


@pytest.mark.parametrize("keep", [0.0, 0.67, 0.9753])
def test_the_process_is_the_recursion(keep):
    shocks = np.random.default_rng(2).standard_normal(3000)
    wanted = shocks.copy()
    for t in range(1, len(shocks)):
        wanted[t] = keep * wanted[t - 1] + np.sqrt(1 - keep**2) * shocks[t]
    assert autoregression(shocks, keep) == pytest.approx(wanted, abs=1e-10)
    assert autoregression(shocks[:1], keep).tolist() == shocks[:1].tolist()


def test_a_set_says_so_and_keeps_its_names():
    logs = TraceSet((made([(1.0, 3e6)] * 3, "a"), made([(1.0, 3e6)] * 3, "b")), True, "made ones")
    found = subsecond_set(logs, 4)
    assert found.source == "made ones with sub-second variation on 20 ms steps (seed 4)"
    absolute = subsecond_set(logs, 4, reference_bps=5.5e6)
    assert absolute.source.endswith("(seed 4, levels over 5.5 Mbit/s)")
    assert "50 ms steps" in subsecond_set(logs, 4, step_s=0.05).source
    assert [t.name for t in found.traces] == ["a", "b"]
    assert found.generated
    assert found.traces[0].rates_bps.tolist() != found.traces[1].rates_bps.tolist()


def _set(value, *path):
    def change(plain):
        at = plain
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (_set(2, "format_version"), "field 'format_version': found 2, expected 1"),
        (_set("fast", "step_s"), "field 'step_s': found .*, expected a number"),
        (_set(0.0, "step_s"), r"field 'step_s': found 0\.0, expected seconds"),
        (_set([0.5, 0.5, 1.2], "level_edges"), r"'level_edges': found \[0\.5, 0\.5, 1\.2\]"),
        (_set(0.0, "mean_bps"), r"'mean_bps': found 0\.0, expected bit/s above 0"),
        (_set([0.5], "level_edges"), "field 'levels': found 4 levels, expected 2 levels"),
        (_set(0.5, "quantile_levels", 0), "'quantile_levels': found 43 numbers .* 0 to 1"),
        (_set(-1.0, "correlation_s", 1), "'correlation_s': found .*, expected one or more"),
        (_set(1.0, "levels", 1, "empty"), r"'levels\[1\]\.empty': found 1\.0, expected a share"),
        (_set(-0.1, "levels", 2, "factors", 0), r"'levels\[2\]\.factors': found 43 numbers"),
        (_set([0.5, 0.5], "levels", 0, "weights"), r"weights': found \[0\.5, 0\.5\], expected 4"),
        (_set(0.9, "levels", 3, "weights", 0), r"'levels\[3\]\.weights': .* that add up to 1"),
        (_set(1, "colour"), "unknown field"),
    ],
)
def test_a_malformed_fit_is_one_line(tmp_path, change, match):
    plain = json.loads(SUBSECOND.read_text())
    change(plain)
    path = tmp_path / "fit.json"
    path.write_text(json.dumps(plain))
    with pytest.raises(ArtefactError, match=match) as caught:
        read_subsecond(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
