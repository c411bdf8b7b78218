"""Statistics over traces: known answers, and what must hold of any differences."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from artefacts import UsageError
from experiments.evaluation import statistics
from experiments.evaluation.statistics import (
    bootstrap_crossed,
    bootstrap_mean,
    bootstrap_ratio,
    by_group,
    jointly,
    leave_one_out,
    paired,
    seeds_averaged,
    sign_flip,
)

# multiples of a power of two: sums are exact, so that ties are ties
DIFFERENCES = st.lists(st.integers(-64, 64).map(lambda k: k / 64), min_size=1, max_size=9)


def by_definition(off):
    """Share of all sign patterns whose sum is as far from 0 as the observed one."""
    patterns = np.array(list(itertools.product((-1, 1), repeat=len(off))))
    return float(np.mean(np.abs(patterns @ off) >= abs(sum(off)) - 1e-12))


@pytest.mark.parametrize(
    ("off", "p"),
    [
        ([1.0], 1.0),
        ([1.0, 2.0], 0.5),
        ([1.0, 2.0, 3.0], 0.25),  # only +++ and ---
        ([1.0, 1.0, -1.0], 1.0),
        ([3.0, 2.0, -1.0], 0.5),  # +++, ++-, and their mirrors
        ([0.01] * 8, 2 / 256),
        ([0.0, 0.0, 0.0], 1.0),
    ],
)
def test_known_p_values(off, p):
    assert sign_flip(off, 0).p_value == p
    assert sign_flip(off, 0).exact


@given(DIFFERENCES)
def test_the_p_value_is_the_definition_s(off):
    assert sign_flip(off, 0).p_value == pytest.approx(by_definition(off), abs=1e-12)


@given(DIFFERENCES)
def test_the_p_value_is_symmetric_and_knows_no_order_and_no_scale(off):
    p = sign_flip(off, 0).p_value
    assert sign_flip([-x for x in off], 0).p_value == p
    assert sign_flip(off[::-1], 0).p_value == p
    assert sign_flip([8 * x for x in off], 0).p_value == p


@given(DIFFERENCES)
def test_the_sign_flip_interval_is_what_the_test_does_not_refuse(off):
    found = sign_flip(off, 0)
    if found.interval95 is None:
        assert len(off) < 6  # 2 / 2^5 is above 5 %: nothing can be refused
        return
    low, high = found.interval95
    assert low <= np.mean(off) <= high
    assert (found.p_value <= 0.05) == (low > 0 or high < 0)
    for centre, inside in ((low, True), (high, True), (low - 1, False), (high + 1, False)):
        # about another centre the test says the same
        assert (sign_flip([x - centre for x in off], 0).p_value > 0.05) == inside


@pytest.mark.parametrize("traces", [8, 14, 20])
def test_the_p_value_is_uniform_where_there_is_nothing(traces):
    """Skewless noise, 400 comparisons: as many below every level as the level says."""
    for seed in (0, 1, 2):
        rng = np.random.default_rng(seed)
        p = np.array([sign_flip(rng.normal(size=traces), k).p_value for k in range(400)])
        for level in (0.05, 0.2, 0.5, 0.8):
            spread = np.sqrt(level * (1 - level) / 400)
            assert abs(float((p <= level).mean()) - level) < 3.5 * spread + 2 / 2**traces


def test_the_sign_flip_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(3)
    inside = 0
    for _ in range(600):
        low, high = sign_flip(rng.uniform(-1, 1, 8) + 5.0, 0).interval95
        inside += low <= 5.0 <= high
    # 1 - 12/256 by Hartigan's theorem
    assert abs(inside / 600 - (1 - 12 / 256)) < 3.5 * np.sqrt(0.953 * 0.047 / 600)


def test_many_traces_are_drawn_by_seed_and_agree_with_all_patterns(monkeypatch):
    off = np.random.default_rng(0).normal(0.35, 1.0, 16)
    every = sign_flip(off, 0)
    assert every.exact
    monkeypatch.setattr(statistics, "EXACT_UP_TO", 15)
    drawn = sign_flip(off, 0)
    assert not drawn.exact
    assert drawn == sign_flip(off, 0)
    assert drawn.p_value == pytest.approx(every.p_value, abs=0.012)
    assert drawn.interval95 == pytest.approx(every.interval95, abs=0.05)
    assert sign_flip(off + 100, 0).p_value > 0  # never "impossible" from draws alone


@given(DIFFERENCES, st.integers(0, 3))
def test_the_bootstrap_interval_holds_the_mean_and_lies_among_the_values(off, seed):
    low, high = bootstrap_mean(off, seed)
    assert min(off) - 1e-12 <= low <= np.mean(off) + 1e-12
    assert np.mean(off) - 1e-12 <= high <= max(off) + 1e-12
    assert bootstrap_mean(off, seed) == (low, high)


def test_the_bootstrap_s_known_answers():
    assert bootstrap_mean([2.5] * 5, 0) == (2.5, 2.5)
    # two traces: means 0, 1/2, 1 with 1/4, 1/2, 1/4
    assert bootstrap_mean([0.0, 1.0], 0) == (0.0, 1.0)
    # many traces: the normal's 1.96 standard errors
    values = np.random.default_rng(1).normal(size=400)
    low, high = bootstrap_mean(values, 0)
    error = values.std() / 20
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)


def test_another_seed_s_interval():
    assert bootstrap_crossed([[0.1, 0.2, 0.3]], 0) is None
    same = np.tile([0.1, 0.4, 0.3, 0.2], (5, 1))
    # seeds that agree: nothing but the traces is uncertain
    assert bootstrap_crossed(same, 0) == pytest.approx(bootstrap_mean(same[0], 0), abs=0.011)
    # traces that agree: nothing but the seeds is
    assert bootstrap_crossed(same.T, 0) == pytest.approx(bootstrap_mean(same[0], 0), abs=0.011)
    # both: the variances add up
    rng = np.random.default_rng(0)
    both = rng.normal(size=(60, 1)) + rng.normal(size=(1, 60))
    low, high = bootstrap_crossed(both, 0)
    error = np.hypot(both.mean(axis=1).std(), both.mean(axis=0).std()) / np.sqrt(60)
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.05)
    assert low < both.mean() < high


def test_a_ratio_s_interval():
    assert bootstrap_ratio([1.0, 2.0, 3.0], [2.0, 4.0, 6.0], 0) == (0.5, 0.5)
    low, high = bootstrap_ratio([1.0, 0.0, 1.0], [1.0, 1.0, 1.0], 0)
    assert (low, high) == (0.0, 1.0)
    assert bootstrap_ratio([1.0, 1.0], [1.0, -1.0], 0) is None


def test_leave_one_out():
    assert leave_one_out([1.0, 2.0, 6.0]) == (1.5, 4.0)
    assert leave_one_out([4.0]) is None
    assert leave_one_out([0.5, 0.5]) == (0.5, 0.5)


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=12))
def test_leaving_one_out_surrounds_the_mean(off):
    low, high = leave_one_out(off)
    assert low - 1e-9 <= np.mean(off) <= high + 1e-9


def test_seeds_are_averaged_before_anything_else():
    """Twice the seeds is not twice the traces: the same differences, the same interval and p."""
    mine = np.array([[0.875, 0.625, 1.0, 0.75], [0.625, 0.75, 0.75, 0.875]])
    assert seeds_averaged(mine).tolist() == [0.75, 0.6875, 0.875, 0.8125]
    once = paired(seeds_averaged(mine), [0.5] * 4, 0)
    twice = paired(seeds_averaged(np.concatenate([mine, mine])), [0.5] * 4, 0)
    assert once == twice
    assert once.traces == 4
    assert once.p_value == 2 / 16


def test_paired_differences_known_answers():
    found = paired([3.0, 2.0, 0.0], [0.0, 0.0, 1.0], 0)
    assert found.mean == pytest.approx(4 / 3)
    assert found.p_value == 0.5
    assert found.leave_one_out == (0.5, 2.5)
    assert found.worst == 2
    assert found.sign_flip95 is None
    low, high = found.interval95
    assert -1 <= low <= 4 / 3 <= high <= 3


@given(DIFFERENCES)
def test_turning_a_pair_round_turns_the_figures_round(off):
    zero = [0.0] * len(off)
    one, other = paired(off, zero, 0), paired(zero, off, 0)
    assert one.mean == -other.mean
    assert one.p_value == other.p_value
    if one.leave_one_out is not None:
        low, high = one.leave_one_out
        assert other.leave_one_out == (-high, -low)


def test_no_claim_about_a_mode_of_one_file():
    modes = ["bus", "bus", "car", None]
    found = by_group([1.0, 2.0, 5.0, 9.0], [0.0] * 4, modes, 0)
    assert set(found) == {"bus", "car"}
    assert found["car"] is None
    assert found["bus"].mean == 1.5
    assert found["bus"].traces == 2


@given(DIFFERENCES)
def test_one_test_alone_is_not_adjusted(off):
    alone = jointly({"a": off}, 0)["a"]
    assert alone == pytest.approx(sign_flip(off, 0).p_value)
    # the same question twice, or with the other sign, is one question
    assert jointly({"a": off, "b": off, "c": [-x for x in off]}, 0) == pytest.approx(
        dict.fromkeys("abc", alone)
    )


def test_joint_p_values_known_answers():
    assert jointly({}, 0) == {}
    # every rival beaten on all eight traces: two patterns of 256, however many rivals
    rivals = {f"r{k}": [0.1 * (k + 1)] * 8 for k in range(11)}
    assert jointly(rivals, 0) == pytest.approx(dict.fromkeys(rivals, 2 / 256))
    # two traces: statistics sqrt(2) and 0 under ++ and --, 0 and sqrt(2) under +- and -+
    assert jointly({"a": [1.0, 1.0], "b": [1.0, -1.0]}, 0) == {"a": 1.0, "b": 1.0}
    assert jointly({"a": [1.0, 1.0, 1.0], "z": [0.0, 0.0, 0.0]}, 0) == {"a": 0.25, "z": 1.0}


@given(st.integers(2, 5).flatmap(lambda n: st.lists(
    st.lists(st.integers(-16, 16), min_size=n, max_size=n), min_size=1, max_size=4)))  # fmt: skip
def test_joint_p_values_are_the_definition_s(rows):
    table = np.array(rows, dtype=float).T
    norm = np.sqrt((table**2).sum(axis=0))
    table = table / np.where(norm > 0, norm, 1.0)
    patterns = np.array(list(itertools.product((-1, 1), repeat=len(table))))
    observed, every = np.abs(table.sum(axis=0)), np.abs(patterns @ table)
    found = jointly({str(k): row for k, row in enumerate(rows)}, 0)
    assert list(found) == [str(k) for k in range(len(rows))]
    for k in range(len(rows)):
        # step-down: among those that are not more striking; then never less than theirs
        steps = [
            float((every[:, observed <= observed[j] + 1e-12].max(axis=1)
                   >= observed[j] - 1e-12).mean())
            for j in range(len(rows)) if observed[j] >= observed[k] - 1e-12
        ]  # fmt: skip
        assert found[str(k)] == pytest.approx(max(steps))
        assert found[str(k)] >= sign_flip(rows[k], 0).p_value - 1e-12


def test_adjusted_p_values_err_together_as_rarely_as_they_say():
    """Five comparisons of which none is true, 300 times: any of them below 5 % in 5 % of cases."""
    for seed in (0, 1, 2):
        rng = np.random.default_rng(seed)
        wrong = 0
        for _ in range(300):
            common = rng.normal(size=8)
            off = {str(k): common + rng.normal(size=8) for k in range(5)}
            wrong += min(jointly(off, 0).values()) <= 0.05
        assert wrong / 300 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)


def test_many_traces_are_adjusted_by_drawn_patterns(monkeypatch):
    rng = np.random.default_rng(0)
    off = {str(k): rng.normal(0.4, 1, 14) for k in range(4)}
    every = jointly(off, 0)
    monkeypatch.setattr(statistics, "EXACT_UP_TO", 13)
    drawn = jointly(off, 0)
    assert drawn == jointly(off, 0)
    assert drawn == pytest.approx(every, abs=0.015)
    assert drawn != every


@pytest.mark.parametrize("bad", [[], [np.nan], [[1.0]]])
def test_what_is_no_row_of_figures_is_refused(bad):
    with pytest.raises(UsageError, match="expected finite"):
        bootstrap_mean(bad, 0)
    with pytest.raises(UsageError, match="expected finite"):
        sign_flip(bad, 0)


def test_what_cannot_be_paired_is_refused():
    with pytest.raises(UsageError, match="found 2 and 3 traces"):
        paired([1.0, 2.0], [1.0, 2.0, 3.0], 0)
    with pytest.raises(UsageError, match="seeds, traces"):
        seeds_averaged([1.0, 2.0])
