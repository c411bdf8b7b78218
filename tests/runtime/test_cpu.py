"""The device's CPU: first come, first served, and an honest word on how long it is busy."""

import contextlib
import queue
import threading

import pytest

from controller.runtime.cpu import CpuJob, DeviceCpu


@pytest.fixture
def cpu():
    now = [100.0]
    made = DeviceCpu(lambda: now[0])
    with contextlib.closing(made):
        yield made, now


def job(done, expected_s, latest_s=1e9, work=lambda: "result", wanted=lambda: True):
    return CpuJob(work, done, expected_s, latest_s, wanted)


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
