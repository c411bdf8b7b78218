"""Pings: often while the link is used, seldom while it is not; silence is noticed, floods are not
remembered.
"""

import pytest

from controller.link.keepalive import IDLE_KEEPALIVE_S, MOST_PINGS, SILENCE_S, KeepAlive

pytestmark = pytest.mark.quick


def begun(now_s=100.0):
    made = KeepAlive(now_s)
    made.begin(now_s)
    return made


def test_a_ping_is_timed_from_when_it_went_out_not_from_when_it_was_asked_for():
    keepalive = begun()
    number = keepalive.ask(100.0)
    assert number not in keepalive
    keepalive.sent(number, 103.0)
    assert number in keepalive
    assert keepalive.answered(number, 103.25) == 0.25
    assert number not in keepalive, "a second answer belongs to nothing"


def test_a_link_in_use_is_asked_every_second_an_idle_one_every_ten():
    keepalive = begun()
    keepalive.ask(100.0)
    assert not keepalive.due(100.9)
    assert keepalive.due(101.0)
    keepalive.ask(119.0)
    assert not keepalive.due(128.9), "the last request is long ago"
    assert keepalive.due(119.0 + IDLE_KEEPALIVE_S)
    keepalive.used_s = 120.0
    assert keepalive.due(120.0)


def test_silence_is_what_a_ping_got_no_answer_for():
    keepalive = begun()
    assert keepalive.silent_s(1e6) is None, "nothing was asked"
    assert keepalive.unanswered_s(1e6) == 0.0
    keepalive.ask(110.0)
    keepalive.ask(111.0)
    assert keepalive.unanswered_s(112.0) == 2.0, "since the first that waits"
    assert keepalive.silent_s(110.0 + SILENCE_S - 0.1) is None
    assert keepalive.silent_s(110.0 + SILENCE_S) == 10.0 + SILENCE_S, "since it was heard last"
    keepalive.heard(115.5)
    assert keepalive.unanswered_s(120.0) == 0.0
    assert keepalive.silent_s(1e6) is None


def test_an_edge_that_answers_no_ping_fills_no_memory_and_a_new_connection_waits_for_none():
    keepalive = begun()
    numbers = [keepalive.ask(100.0) for _ in range(2 * MOST_PINGS)]
    for number in numbers:
        keepalive.sent(number, 100.0)
    assert [n for n in numbers if n in keepalive] == numbers[-MOST_PINGS:]
    assert len(set(numbers)) == len(numbers)
    assert min(numbers) >= 1 << 63, "requests have the numbers below"
    keepalive.begin(200.0)
    assert not any(n in keepalive for n in numbers)
    assert keepalive.ask(200.0) not in numbers
