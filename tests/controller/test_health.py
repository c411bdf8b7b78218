"""When a link is worth trying (the circuit breaker), and when a frame may rely on its edge."""

import random

from hypothesis import given
from hypothesis import strategies as st

from controller.health import IN_VAIN, Breaker, Breakers, EdgeReliability


def test_it_opens_after_failures_in_a_row_and_a_trial_closes_it():
    breaker = Breaker(failures=2, first_s=1.0, longest_s=8.0, rng=random.Random(1))
    breaker.failed(0.0)
    breaker.worked()
    breaker.failed(0.0)
    assert breaker.allows(0.0)
    breaker.failed(0.1)
    assert breaker.open
    assert not breaker.allows(0.5)
    assert breaker.allows(1.7)
    assert not breaker.allows(1.7), "one trial at a time"
    breaker.worked()
    assert breaker.allows(1.8)
    assert breaker.opened == 1


def test_failed_trials_wait_longer_each_time_up_to_a_bound():
    breaker = Breaker(failures=1, first_s=1.0, longest_s=8.0, rng=random.Random(2))
    breaker.failed(0.0)
    now, waits = 0.0, []
    for _ in range(8):
        begun = now
        while not breaker.allows(now):
            now += 0.01
        waits.append(now - begun)
        breaker.failed(now)
    assert 0.5 <= waits[0] <= 1.51
    assert all(w <= 12.02 for w in waits)
    assert max(waits) > 4.0


@given(st.lists(st.tuples(st.sampled_from(["allows", "failed", "worked"]), st.floats(0, 5))))
def test_a_link_that_works_is_always_used_again(events):
    breaker, now = Breaker(rng=random.Random(0)), 0.0
    for what, later in events:
        now += later
        if what == "allows":
            breaker.allows(now)
        elif what == "failed":
            breaker.failed(now)
        else:
            breaker.worked()
            assert breaker.allows(now)
    # whatever happened, and if nothing is ever heard of a trial: another one is allowed in time
    assert any(breaker.allows(now + 12.1 * k) for k in (1, 2))


def test_a_trial_that_ends_in_nothing_at_all_has_failed():
    breaker = Breaker(failures=1, first_s=0.5, longest_s=1.0, trial_s=2.0)
    breaker.failed(0.0)
    assert breaker.allows(1.0)
    assert not breaker.allows(2.9)
    assert not breaker.allows(3.1), "it has failed, and a wait begins"
    assert breaker.allows(5.0)


def test_an_edge_is_relied_on_while_its_newest_answer_was_in_time():
    reliable = EdgeReliability(holds_s=1.0)
    assert not reliable.holds(0.0), "nothing was answered"
    reliable.answered(0.2)
    assert reliable.holds(1.2)
    assert not reliable.holds(1.3), "an old answer says nothing"
    reliable.answered(1.3)
    assert reliable.holds(1.3)
    reliable.missed()
    assert not reliable.holds(1.4)
    reliable.answered(1.5)
    assert reliable.holds(1.5)


def breakers():
    return Breakers(random.Random(0), lambda: Breaker(failures=2, first_s=1.0))


def test_each_edge_has_a_breaker_of_its_own_and_another_serves_meanwhile():
    edges = breakers()
    for now in (0.0, 0.1):
        assert edges.allows((0, 1), now) == 0
        edges.failed(0, now)
    assert edges.allows((0, 1), 0.2) == 1
    assert edges.first((0, 1)) == 1
    assert not edges.open
    edges.failed(1, 0.2)
    edges.failed(1, 0.3)
    assert edges.allows((0, 1), 0.3) is None
    assert edges.open
    assert edges.opened == 2
    assert edges.allows((0, 1), 2.0) == 0, "a trial of the nearer one"
    edges.answered(0)
    assert edges.allows((0, 1), 2.1) == 0
    assert not edges.open


def test_an_edge_that_speaks_and_never_answers_gives_way_to_another():
    edges = breakers()
    for now in (0.0, 0.1, 0.2):
        assert edges.allows((0, 1), now) == 0
        edges.carried(0, now)
    assert edges.allows((0, 1), 0.25) == 1
    assert edges.first((0, 1)) == 1
    assert edges.allows((0,), 0.25) == 0, "where there is no other it is asked still"
    assert edges.allows((0, 1), 0.9) == 0, "now and then it is tried"
    edges.carried(0, 0.9)
    assert edges.allows((0, 1), 1.0) == 1
    edges.answered(0)
    assert edges.allows((0, 1), 1.0) == 0


def test_words_without_answers_count_for_nothing_in_the_end():
    edges = breakers()
    for number in range(IN_VAIN + 1):
        assert edges.allows((0,), 0.1 * number) == 0
        edges.carried(0, 0.1 * number)
    assert edges.allows((0,), 0.1 * IN_VAIN) is None
    edges.heard(0)
    assert edges.open, "nor does what comes back of anything else"
    assert edges.allows((0,), 0.1 * IN_VAIN + 2.0) == 0
    edges.answered(0)
    assert not edges.open


def test_an_edge_that_greets_anew_gets_one_trial_at_once():
    edges = breakers()
    for _ in range(2):
        edges.allows((0,), 0.0)
        edges.failed(0, 0.0)
    assert edges.allows((0,), 0.1) is None
    edges.renewed(0, 0.1)
    assert edges.allows((0,), 0.1) == 0
    assert edges.allows((0,), 0.1) is None
    edges.failed(0, 0.2)
    assert edges.allows((0,), 0.3) is None
