import numpy as np
import pytest

from artefacts import UsageError
from traces.fit import check_family, read_targets
from traces.generator import generate, read_fit
from traces.statistics import outage_runs, trace_statistics
from traces.trace import BandwidthTrace


def test_the_same_seed_gives_the_same_trace():
    fit = read_fit("belgium")
    one = generate(fit, "tram", 120.5, np.random.default_rng(3))
    two = generate(fit, "tram", 120.5, np.random.default_rng(3))
    assert one.rates_bps.tolist() == two.rates_bps.tolist()
    assert one.duration_s == 120.5


def test_belgium_fits_the_published_table():
    # a fifth of the hours of the command, for time; the bounds are the command's own
    rows = check_family("belgium", 20.0, 5)
    assert {r.mode for r in rows} == {*read_targets("belgium").modes, "all"}
    off = [(r.mode, r.statistic, r.target, r.generated) for r in rows if not r.within]
    assert len(off) <= 2, off


def test_norway_outages_are_as_in_its_logs():
    rows = [r for r in check_family("norway", 20.0, 5) if r.mode == "all"]
    assert len(rows) == 2
    assert all(r.within for r in rows), rows


def test_unknown_modes_and_families_are_named():
    with pytest.raises(UsageError, match="found mode 'hovercraft', expected one of bicycle"):
        generate(read_fit("belgium"), "hovercraft", 10, np.random.default_rng(0))
    with pytest.raises(UsageError, match="found family 'mars'"):
        read_fit("mars")


def test_outage_runs_are_counted():
    rates = np.array([1e6, 0, 0, 1e6, 0.4e6, 1e6, 0.0])
    assert outage_runs(rates).tolist() == [2, 1, 1]


def test_statistics_of_a_known_trace():
    s = trace_statistics([BandwidthTrace("t", np.arange(4.0), np.array([1e6, 3e6] * 2), 4.0)])
    assert (s.mean, s.std) == (2.0, 1.0)
    assert s.acf[0] == pytest.approx(-1.0)
