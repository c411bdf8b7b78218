"""What an upload says of the link: TCP's waits, one read, gaps that make no sense."""

import pytest

from controller.link.measuring import Upload, measure

pytestmark = pytest.mark.quick


def test_what_tcp_held_back_is_not_the_link_s_slowness():
    job = Upload(1, {}, bytes(100_000), 0.0, begun_s=0.0, sent_bytes=100_000)
    meta = {"received_bytes": 100_000, "first_read_bytes": 1448, "receive_s": 0.22}
    slow = measure(job, meta, 0.3, 0.1, False).rate_bps
    job.window_bytes = 14_480.0
    # three windows, and what is left of the time is the link's
    reported = meta | {"gaps_s": [0.07, 0.06, 0.05, 0.001, 0.001, 0.001]}
    found = measure(job, reported, 0.3, 0.1, False)
    assert found.rate_bps == pytest.approx(8 * 98_552 / (0.22 - 0.18))
    # gaps of an upload that fitted into the window are the link's own
    job.window_bytes = 200_000.0
    assert measure(job, reported, 0.3, 0.1, False).rate_bps == pytest.approx(slow)


@pytest.mark.parametrize("gaps", ["x", [None], [float("nan")], [-5.0], [1e300]])
def test_gaps_that_make_no_sense_do_no_harm(gaps):
    job = Upload(1, {}, bytes(100_000), 0.0, begun_s=0.0, window_bytes=14480.0, sent_bytes=100_000)
    meta = {"received_bytes": 100_000, "first_read_bytes": 1448, "receive_s": 0.22, "gaps_s": gaps}
    assert 0 < measure(job, meta, 0.3, 0.1, False).rate_bps < 2e9


def test_what_was_never_sent_says_nothing_of_the_link():
    job = Upload(1, {}, bytes(5000), 1.0, begun_s=1.0, cancelled=True)
    assert measure(job, {"received_bytes": 0}, 2.0, 0.03, True) is None
    job.sent_bytes = 2048
    seen = measure(job, {"received_bytes": 2048}, 2.03, 0.03, True)
    assert (seen.payload_bytes, seen.duration_s, seen.complete) == (2048, pytest.approx(1.0), False)


def test_what_came_in_one_read_is_timed_by_the_reply():
    job = Upload(1, {}, bytes(1000), 1.0, begun_s=1.0, sent_bytes=1000)
    meta = {"received_bytes": 1000, "first_read_bytes": 1000, "receive_s": 0.0,
            "queue_s": 0.01, "compute_s": 0.02}  # fmt: skip
    seen = measure(job, meta, 1.1, 0.04, False)
    assert (seen.payload_bytes, seen.duration_s) == (1000, pytest.approx(0.03))
