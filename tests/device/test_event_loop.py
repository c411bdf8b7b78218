"""The engine's loop: what came is handled in order and before what is due, and nothing is lost."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.device.event_loop import EventLoop

pytestmark = pytest.mark.quick


class Clock:
    """Time that passes by one step whenever somebody looks."""

    def __init__(self, step_s):
        self.now, self.step_s = 0.0, step_s

    def __call__(self):
        self.now += self.step_s
        return self.now


@given(st.lists(st.integers(), max_size=50))
def test_events_are_handled_in_their_order_each_once(events):
    handled = []
    loop = EventLoop(Clock(0.5), handled.append, lambda: None, lambda latest: latest)
    for event in events:
        loop.post(event)
    loop.wait(0.0)  # what is there comes before the end
    assert handled == events


def test_an_answer_that_is_there_is_an_answer_though_its_deadline_is_over_too():
    order = []
    loop = EventLoop(Clock(1.0), order.append, lambda: order.append("due"), lambda latest: latest)
    loop.post("answer")
    loop.wait(0.0)
    assert order == ["answer", "due"]


def test_what_is_due_is_looked_at_when_it_said_and_the_wait_ends_when_it_is_over():
    moments, clock = [], Clock(0.0)

    def due():
        moments.append(clock.now)
        clock.now += 0.25

    loop = EventLoop(clock, print, due, lambda latest: clock.now)
    loop.wait(100.0, lambda: len(moments) == 3)
    assert moments == [0.0, 0.25, 0.5]


def test_events_of_other_threads_wake_it_and_what_they_post_in_turn_is_handled():
    handled, ended = [], threading.Event()

    def handle(event):
        handled.append(event)
        if event == "first":
            loop.post("second")
        else:
            ended.set()

    loop = EventLoop(lambda: 0.0, handle, lambda: None, lambda latest: latest)
    threading.Timer(0.01, lambda: loop.post("first")).start()
    loop.wait(30.0, ended.is_set)
    assert handled == ["first", "second"]
    assert loop.handle_one(0.0) is None
