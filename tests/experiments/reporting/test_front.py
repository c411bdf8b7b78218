"""Which cost buys which accuracy: the front of what nothing else beats."""

from experiments.reporting import plots


def test_the_front_is_what_nothing_else_beats():
    points = {"a": (1.0, 80.0), "b": (2.0, 85.0), "c": (2.5, 84.0), "d": (2.0, 84.0)}
    assert plots.front_of(points) == ["a", "b"]
    assert plots.front_of(points | {"e": (2.0, 85.0)}) == ["a", "b", "e"]
    assert plots.front_of({}) == []
