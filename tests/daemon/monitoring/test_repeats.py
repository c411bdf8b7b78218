"""Troubles of connections in the edge's log: said once, then counted at growing intervals."""

import re

import pytest

from controller.daemon.monitoring.log import MOST_KEPT, RepeatedTroubles, without_port


@pytest.fixture
def troubles():
    now = [1000.0]
    return RepeatedTroubles(lambda: now[0]), now


def test_a_device_that_is_refused_for_a_day_is_some_lines(troubles):
    made, now = troubles
    said = []
    for second in range(0, 86_400, 8):
        now[0] = 1000.0 + second
        said += made.lines(
            f"10.0.0.7:{30_000 + second % 20_000}: model digest: found a, expected b"
        )
        said += made.due()
    assert said[0] == "10.0.0.7:30000: model digest: found a, expected b"
    assert said[1] == "10.0.0.7: model digest: found a, expected b (8 times more in 64 s)"
    assert said[2] == "10.0.0.7: model digest: found a, expected b (15 times more in 120 s)"
    assert 20 < len(said) < 40
    now[0] += 60.0
    said += made.rest()
    repeated = [int(m[1]) for line in said if (m := re.search(r"\((\d+) times", line))]
    assert 1 + sum(repeated) == 86_400 / 8, "none is lost"


def test_each_host_and_each_trouble_is_one_of_its_own(troubles):
    made, _ = troubles
    lines = ["10.0.0.7:1: one", "10.0.0.7:2: another", "10.0.0.8:1: one", "[::1]:5: one"]
    assert [x for line in lines for x in made.lines(line)] == lines
    assert [x for line in lines for x in made.lines(line)] == []


def test_what_ended_is_said_anew_when_it_comes_again(troubles):
    made, now = troubles
    assert list(made.lines("10.0.0.7:1: one")) == ["10.0.0.7:1: one"]
    now[0] += 61.0
    assert list(made.due()) == []
    assert list(made.lines("10.0.0.7:2: one")) == ["10.0.0.7:2: one"]
    assert list(made.lines("10.0.0.7:3: one")) == []
    assert list(made.rest()) == ["10.0.0.7: one (once more in 1 s)"]
    assert list(made.rest()) == []


def test_many_hosts_cannot_fill_the_memory(troubles):
    made, _ = troubles
    for number in range(10 * MOST_KEPT):
        line = f"10.0.{number // 256}.{number % 256}:1: one"
        *counts, said = made.lines(line)
        assert said == line
        # who is forgotten leaves a count
        assert len(counts) == (number >= MOST_KEPT)
        assert list(made.lines(line)) == []
    assert len(list(made.rest())) == MOST_KEPT


def test_only_a_port_is_left_out():
    assert without_port("[fe80::1%eth0]:7700: gone") == "[fe80::1%eth0]: gone"
    for line in ("layers [0, 5) of exit 1: failed", "?: gone", "no colon", "a:b: c"):
        assert without_port(line) == line
