"""Fits of variation within seconds: made again, found back, checked on halves held out."""

import numpy as np
import pytest

from artefacts import ArtefactError, UsageError, data_directory
from traces.subsecond import (
    autoregression,
    read_subsecond,
    shipped_subsecond,
    with_subsecond,
)
from traces.subsecond_fit import (
    acf,
    fit_subsecond,
    hold_out,
    nearest_weights,
    packet_traces,
    refit_subsecond,
    seconds_of,
)
from traces.trace import BandwidthTrace


def made(rows, name="log"):
    lengths, rates = zip(*rows, strict=True)
    return BandwidthTrace.from_intervals(name, lengths, rates)


def test_the_shipped_fit_says_how_it_did_on_held_out_halves():
    fit = shipped_subsecond()
    assert fit.made_by == "coinfer traces fit-subsecond --seed 7"
    assert {"std 20 ms", "empty 100 ms", "acf 40 ms"} <= {r.statistic for r in fit.held_out}
    off = [r for r in fit.held_out if not r.within]
    # the second halves' slow seconds were calmer than the first's: see their own figures
    assert len(off) <= 2, off
    assert all(r.first_halves > r.second_halves for r in off)


def test_the_shipped_fit_is_made_again_by_its_command(tmp_path):
    root = data_directory()
    if root is None:
        pytest.skip("the data folder is not here: ../shared/data or COINFER_DATA")
    source = root / "traces" / "mahimahi"
    shipped = shipped_subsecond()
    fit = refit_subsecond(source, tmp_path / "f.json", 7, shipped.made_by)
    assert read_subsecond(tmp_path / "f.json") == fit
    # to what another machine's last digits may change
    assert (fit.fitted_to, fit.seconds) == (shipped.fitted_to, shipped.seconds)
    assert fit.level_edges == pytest.approx(shipped.level_edges, abs=2e-4)
    for one, two in zip(fit.levels, shipped.levels, strict=True):
        assert one.measured_std == pytest.approx(two.measured_std, abs=1e-3)
        assert one.empty == pytest.approx(two.empty, abs=5e-3)
        assert one.weights == pytest.approx(two.weights, abs=0.11)
    for row, known in zip(fit.held_out, shipped.held_out, strict=True):
        assert row.overlaid == pytest.approx(known.overlaid, abs=0.03)


def test_a_fit_finds_back_what_it_was_laid_over_with():
    """Fitted to traces that the shipped fit made: spread and emptiness come back."""
    rng = np.random.default_rng(4)
    log = made([(1.0, r) for r in 1e6 * rng.lognormal(0.0, 0.7, 1500)])
    true = with_subsecond(log, shipped_subsecond(), 9)
    again = fit_subsecond([true], 3)
    laid = with_subsecond(log, again, 10)
    one, two = seconds_of([true]), seconds_of([laid])
    assert two.deviation.std() == pytest.approx(one.deviation.std(), rel=0.08)
    assert (two.deviation == 0).mean() == pytest.approx((one.deviation == 0).mean(), abs=0.01)
    assert acf(two.deviation) == pytest.approx(acf(one.deviation), abs=0.05)


@pytest.mark.slow
def test_halves_of_one_process_pass_the_check_and_other_spreads_do_not():
    rng = np.random.default_rng(4)
    log = made([(1.0, r) for r in 1e6 * rng.lognormal(0.0, 0.7, 800)])
    true = with_subsecond(log, shipped_subsecond(), 9)
    assert all(row.within for row in hold_out([true], 3))
    calm = log.slice(400.0, 800.0)
    mixed = BandwidthTrace(
        "mixed",
        np.append(true.slice(0.0, 400.0).times_s, 400.0 + calm.times_s),
        np.append(true.slice(0.0, 400.0).rates_bps, calm.rates_bps),
        800.0,
    )
    off = {row.statistic for row in hold_out([mixed], 3) if not row.within}
    assert {"std 20 ms", "std 50 ms", "std 100 ms", "empty 20 ms"} <= off


@pytest.mark.parametrize(("scale_s", "mostly"), [(0.0, 0), (0.05, 1), (0.2, 2)])
def test_weights_find_the_time_of_a_process(scale_s, mostly):
    shocks = np.random.default_rng(8).standard_normal(50 * 4000)
    path = autoregression(shocks, np.exp(-0.02 / scale_s) if scale_s else 0.0).reshape(4000, 50)
    weights = nearest_weights(acf(1.0 + path - path.mean(axis=1, keepdims=True)))
    assert sum(weights) == pytest.approx(1.0)
    assert weights[mostly] >= 0.8


def test_traces_that_cannot_be_fitted_to_are_named(tmp_path):
    path = tmp_path / "a.up"
    path.write_text("\n".join(str(k) for k in range(0, 5000, 10)))
    with pytest.raises(ArtefactError, match="found 'a.up' of 4.99 s, expected packet-delivery"):
        packet_traces(path)
    path.write_text("0 1\n2 3\n")
    with pytest.raises(ArtefactError, match="line 1: found '0 1', expected a packet-delivery"):
        packet_traces(path)
    # a packet every 10 ms and no variation at all
    path.write_text("\n".join(str(k) for k in range(0, 60001, 10)))
    with pytest.raises(UsageError, match="found 0 seconds with variation in level 1 of 4"):
        fit_subsecond(packet_traces(path), 1)
