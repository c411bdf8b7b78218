"""The device's CPU: one job at a time in the frames' order, and how long it is busy."""

import contextlib
import queue
import threading

import pytest

from controller.device.cpu import CpuJob, DeviceCpu, Reservation
from controller.sensing.pace import STALE_S


@pytest.fixture
def cpu():
    now = [100.0]
    made = DeviceCpu(lambda: now[0])
    with contextlib.closing(made):
        yield made, now


def job(done, expected_s, latest_s=1e9, work=lambda: "result", wanted=lambda: True, due_s=1e9):
    return CpuJob(work, done, expected_s, due_s, latest_s, wanted)


def test_what_will_be_skipped_is_no_backlog(cpu):
    made, now = cpu
    begun, finish, done = threading.Event(), threading.Event(), queue.Queue()

    def held():
        begun.set()
        assert finish.wait(10)

    made.submit(job(done.put, 0.040, work=held))
    assert begun.wait(10)
    made.submit(job(done.put, 0.030, latest_s=100.039))
    made.submit(job(done.put, 0.020, wanted=lambda: False))
    assert made.backlog_s() == pytest.approx(0.040)
    made.submit(job(done.put, 0.010, latest_s=100.041))
    assert made.backlog_s() == pytest.approx(0.050)
    now[0] = 100.040
    finish.set()
    found = [done.get(timeout=10) for _ in range(4)]
    assert [d.skipped for d in found] == [False, True, True, False]
    assert made.backlog_s() == pytest.approx(0.0)


def test_a_job_that_fails_says_so_and_the_next_one_runs(cpu):
    made, _ = cpu
    done = queue.Queue()
    made.submit(job(done.put, 0.01, work=lambda: 1 // 0))
    made.submit(job(done.put, 0.01))
    assert "ZeroDivisionError" in done.get(timeout=10).error
    assert done.get(timeout=10).result == "result"


def test_a_frames_second_job_stands_before_a_later_frames_first(cpu):
    made, _ = cpu
    begun, finish, done = threading.Event(), threading.Event(), queue.Queue()

    def head():
        begun.set()
        assert finish.wait(10)
        return "head of the first"

    made.submit(job(done.put, 0.01, work=head, due_s=1.0))
    assert begun.wait(10)
    made.submit(job(done.put, 0.01, work=lambda: "head of the second", due_s=2.0))
    made.submit(job(done.put, 0.01, work=lambda: "head of the third", due_s=3.0))
    made.submit(job(done.put, 0.01, work=lambda: "answer of the first", due_s=1.0))
    finish.set()
    assert [done.get(timeout=10).result for _ in range(4)] == [
        "head of the first", "answer of the first", "head of the second", "head of the third",
    ]  # fmt: skip


def test_a_job_that_would_run_into_a_rescue_waits_and_the_rescue_is_made_at_once(cpu):
    """A frame's local answer takes 40 ms; the frame before it may need its rescue in 10."""
    made, _ = cpu
    done, asked = queue.Queue(), queue.Queue()
    rescue = Reservation(100.010, 100.015, 0.030, 100.045, early=lambda: asked.put("at once"))
    made.reserve(rescue)
    # short work of the later frame fits before it
    made.submit(job(done.put, 0.004, latest_s=100.080, due_s=100.090, work=lambda: "short"))
    assert done.get(timeout=10).result == "short"
    assert asked.empty()
    made.submit(job(done.put, 0.040, latest_s=100.050, due_s=100.090, work=lambda: "later"))
    assert asked.get(timeout=10) == "at once"
    made.submit(job(done.put, 0.030, latest_s=100.015, due_s=100.045, work=lambda: "rescue"))
    made.release(rescue)
    assert [done.get(timeout=10).result for _ in range(2)] == ["rescue", "later"]
    assert asked.empty(), "it is asked once"


def test_what_is_answered_in_time_holds_nobody_up(cpu):
    made, _ = cpu
    done = queue.Queue()
    rescue = Reservation(100.010, 100.015, 0.030, 100.045)
    made.reserve(rescue)
    made.submit(job(done.put, 0.040, latest_s=100.050, due_s=100.090))
    made.release(rescue)
    made.release(rescue)
    assert done.get(timeout=10).result == "result"


def test_who_cannot_wait_does_not(cpu):
    """Behind the rescue it would be too late: the rescue may yet prove needless."""
    made, _ = cpu
    done = queue.Queue()
    made.reserve(Reservation(100.010, 100.015, 0.030, 100.045))
    made.submit(job(done.put, 0.040, latest_s=100.029, due_s=100.070))
    assert done.get(timeout=10).result == "result"
    # and a frame that is due before the rescue's waits for nothing
    made.submit(job(done.put, 0.040, latest_s=101.0, due_s=100.040))
    assert done.get(timeout=10).result == "result"


def test_a_reservation_that_nobody_releases_ends_by_itself(cpu):
    made, now = cpu
    done = queue.Queue()
    made.reserve(Reservation(100.010, 100.015, 0.030, 100.045))
    made.submit(job(done.put, 0.040, latest_s=100.050, due_s=100.090))
    now[0] = 100.016
    assert done.get(timeout=10).result == "result"


def taking(made, now, share, *, expected_s=0.040, steady=True, count=3):
    """Have jobs done that take `share` of what is expected of them."""

    def work():
        now[0] += share * expected_s
        return "result"

    done = queue.Queue()
    for _ in range(count):
        made.submit(CpuJob(work, done.put, expected_s, 1e9, 1e9, lambda: True, steady))
    for _ in range(count):
        done.get(timeout=10)


def begun_with(made, now, left_s):
    """Whether a job of 40 ms is begun `left_s` before it is due."""
    done = queue.Queue()
    due_s = now[0] + left_s
    made.submit(job(done.put, 0.040, latest_s=due_s - 0.040, due_s=due_s))
    return not done.get(timeout=10).skipped


def test_where_jobs_take_less_than_the_profile_says_a_late_one_is_begun_all_the_same(cpu):
    made, now = cpu
    assert not begun_with(made, now, 0.030)
    taking(made, now, 0.5, count=2)
    assert made.pace == 1.0, "two jobs say too little"
    taking(made, now, 0.5, count=1)
    assert made.pace == pytest.approx(0.5)
    assert begun_with(made, now, 0.021)
    assert not begun_with(made, now, 0.019)


def test_jobs_held_up_by_the_system_change_no_pace_and_a_slow_device_is_known_within_three(cpu):
    made, now = cpu
    taking(made, now, 0.25, count=5)
    taking(made, now, 10.0, count=2)
    assert made.pace == pytest.approx(0.25)
    taking(made, now, 0.25, count=5)
    taking(made, now, 1.5, count=3)
    assert made.pace == made.newest_pace == pytest.approx(1.5)
    assert begun_with(made, now, 0.061)
    taking(made, now, 1.5, count=3)
    assert not begun_with(made, now, 0.059), "it would be late, as the last ones show"
    now[0] += STALE_S + 0.1
    assert made.pace == 1.0, "who computes nothing hears nothing: the next one is tried"


def test_what_waits_takes_as_long_as_the_newest_jobs_did(cpu):
    made, now = cpu
    taking(made, now, 2.0, count=5)
    begun, finish, done = threading.Event(), threading.Event(), queue.Queue()

    def held():
        begun.set()
        assert finish.wait(10)

    made.submit(job(done.put, 0.040, work=held))
    assert begun.wait(10)
    made.submit(job(done.put, 0.030))
    assert made.backlog_s() == pytest.approx(0.140)
    finish.set()
    for _ in range(2):
        done.get(timeout=10)


def test_what_ends_early_by_design_says_nothing_of_the_pace(cpu):
    made, now = cpu
    taking(made, now, 0.1, steady=False)
    taking(made, now, 0.1, expected_s=0.0005)
    assert made.pace == 1.0
    done = queue.Queue()
    for _ in range(3):
        made.submit(job(done.put, 0.040, work=lambda: None))
        assert done.get(timeout=10).result is None
    assert made.pace == 1.0


def test_what_will_be_begun_counts_as_backlog(cpu):
    made, now = cpu
    taking(made, now, 0.5)
    begun, finish, done = threading.Event(), threading.Event(), queue.Queue()

    def held():
        begun.set()
        assert finish.wait(10)

    made.submit(job(done.put, 0.040, work=held))
    assert begun.wait(10)
    due_s = now[0] + 0.065
    made.submit(job(done.put, 0.040, latest_s=due_s - 0.040, due_s=due_s))
    assert made.backlog_s() == pytest.approx(0.080)
    finish.set()
    assert not any(done.get(timeout=10).skipped for _ in range(2))
