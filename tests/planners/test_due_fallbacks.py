"""The fallback of the frame before, as planning takes states apart by it."""

import numpy as np
import pytest
from tidy import tidy

from controller.planners.due_fallbacks import (
    ALONE,
    NONE,
    SPARE,
    due_next,
    fallback_due_s,
    fallbacks_due,
    resources_before,
)
from controller.scenarios import load_setting


@pytest.fixture(scope="module")
def setting():
    return load_setting(tidy("lte-mobilenet"))


def test_it_is_followed_where_that_of_one_frame_may_be_due():
    due = {}
    for name in ("lte-mobilenet", "3g-mobilenet", "3g-alexnet", "edgent"):
        found = load_setting(tidy(name))
        due[name] = fallbacks_due(found)
        if due[name]:
            assert found.interval_s <= fallback_due_s(found) < 2 * found.interval_s
    # of two frames at 150 ms, of none at 88 ms and 25 a second, and in a closed loop
    assert due == {"lte-mobilenet": 1, "3g-mobilenet": 0, "3g-alexnet": 0, "edgent": 0}


def test_all_states_but_the_first_keep_time_for_it(setting):
    kept = resources_before(setting, (2, 3, 5)).kept
    there = np.isfinite(kept.begin_s[-1])
    assert not there[:, NONE].any()
    assert there[:, SPARE:].all()
    assert not np.isfinite(kept.begin_s[-2]).any()
    begin_s, latest_s = kept.begin_s[-1, 0, SPARE, 0], kept.latest_s[-1, 0, SPARE, 0]
    assert begin_s == pytest.approx(fallback_due_s(setting) - setting.interval_s)
    assert begin_s < latest_s
    # the edge answers one of them before the next frame comes, the other never
    left_s = setting.scenario.frames.deadline_s - setting.interval_s
    assert kept.over_s[-1, 0, SPARE, 0] < setting.interval_s
    assert kept.over_s[-1, 0, ALONE, 0] == pytest.approx(left_s)
    assert (kept.exit[-1, :, ALONE] == 0).all()
    assert (kept.exit[-1, :, :ALONE] == -1).all()


@pytest.mark.parametrize(
    ("begin", "over", "due"),
    [(1.1, 1.5, True), (1.1, 0.9, False), (0.9, 1.5, False), (np.inf, 1.5, False)],
)
def test_the_next_frame_finds_it_due_unless_it_began_or_its_frame_is_over(
    setting, begin, over, due
):
    """In intervals between two frames."""
    after = resources_before(setting, (1, 3, 1))
    after.kept.begin_s[-1] = begin * setting.interval_s
    after.kept.over_s[-1] = over * setting.interval_s
    expected = [SPARE, SPARE, ALONE] if due else [NONE] * 3
    assert due_next(setting, after).ravel().tolist() == expected
