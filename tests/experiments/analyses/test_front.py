"""What equal accuracy costs: mixes of the learned policy's points, rivals one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from artefacts import UsageError
from experiments.analyses.front import Row, least_at, line, rows_of


class Made:
    """What `rows_of` reads of an evaluation."""

    frames, scenario = 10, "s"

    def __init__(self, name, digest="d", **controllers):
        self.name, self.traces_digest, self.controllers = name, digest, controllers


class At:
    deployable = True

    def __init__(self, accuracy, energy, size):
        self.goodput_accuracy, self.energy_j_per_frame, self.bytes_per_frame = (
            accuracy, energy, size,
        )  # fmt: skip


def test_between_two_points_lies_what_taking_turns_gives():
    accuracies, costs = [0.8, 0.9], [1.0, 3.0]
    assert least_at(0.85, accuracies, costs) == pytest.approx(2.0)
    assert least_at(0.9, accuracies, costs) == pytest.approx(3.0)
    assert least_at(0.7, accuracies, costs) == pytest.approx(1.0), "more accurate than asked"
    assert least_at(0.91, accuracies, costs) is None
    assert least_at(0.85, [*accuracies, 0.86], [*costs, 1.2]) == pytest.approx(
        (0.05 * 1.2 + 0.01 * 1.0) / 0.06
    )


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 10)), min_size=1, max_size=6),
    st.floats(0, 1),
)
def test_no_mix_of_two_is_cheaper(found, accuracy):
    accuracies, costs = zip(*found, strict=True)
    least = least_at(accuracy, accuracies, costs)
    rng = np.random.default_rng(0)
    for _ in range(50):
        (a, c), (b, d) = (found[k] for k in rng.integers(0, len(found), 2))
        share = rng.random()
        if share * a + (1 - share) * b >= accuracy:
            assert least is not None
            assert least <= share * c + (1 - share) * d + 1e-6


def test_every_rival_is_named_once_where_it_stands():
    one = Made("s-at-0", learned=At(0.9, 0.04, 4000.0), robust=At(0.88, 0.05, 2000.0),
               fixed=At(0.8, 0.01, 10.0))  # fmt: skip
    two = Made("s-at-1", learned=At(0.86, 0.02, 1000.0), robust=At(0.95, 0.09, 2000.0),
               fixed=At(0.8, 0.01, 10.0))  # fmt: skip
    rows = rows_of([one, two])
    assert [(row.rival, row.evaluation) for row in rows] == [
        ("robust", "s-at-1"), ("robust", "s-at-0"), ("fixed", "s-at-0"),
    ]  # fmt: skip
    assert rows[0].learned == {"energy_j_per_frame": None, "bytes_per_frame": None}
    assert rows[1].learned == pytest.approx({"energy_j_per_frame": 0.03, "bytes_per_frame": 2500.0})
    assert line(rows[1]) == (
        "| robust | s-at-0 | 88.00 % | 50.0 mJ | 30.0 mJ (-40 %) | 2.0 kB | 2.5 kB (+25 %) |"
    )
    assert "not reached" in line(rows[0])
    assert line(Row("x", "e", 0.5, {"bytes_per_frame": 0.0}, {"bytes_per_frame": 10.0})).endswith(
        "|  |  | 0.0 kB | 0.0 kB |"
    )


def test_points_of_other_frames_are_not_compared():
    with pytest.raises(UsageError, match="'a' and 'b' on different traces"):
        rows_of([Made("a"), Made("b", digest="other")])
