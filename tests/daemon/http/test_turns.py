"""Cheap requests of all connections together get a share of the loop, in the order they come."""

import asyncio
import contextlib
import json
import os
import select
import socket
import threading
import time
from pathlib import Path

import pytest

from controller.daemon.client import Client
from controller.daemon.http.turns import (
    BURST_S,
    CHUNKED_S,
    CREDIT,
    LATE_S,
    OVERHEAD_S,
    SHARE,
    Share,
    Turns,
)

COST_S = 1e-3


class Time:
    """A clock that goes on where somebody waits for it."""

    def __init__(self):
        self.now_s = 50.0

    def clock(self):
        return self.now_s

    async def sleep(self, seconds):
        await asyncio.sleep(0)
        self.now_s += seconds


def test_in_the_long_run_they_take_their_share_and_no_more():
    async def scenario():
        time = Time()
        turns = Turns(time.clock, time.sleep)
        for _ in range(round(BURST_S / COST_S)):
            await turns.wait(COST_S)
        assert time.now_s == 50.0  # a few at once wait for nothing
        for _ in range(2000):
            await turns.wait(COST_S)
        return time.now_s - 50.0

    assert asyncio.run(scenario()) == pytest.approx(2000 * COST_S / SHARE, rel=0.01)


def test_what_a_handler_takes_is_counted():
    async def scenario():
        time = Time()
        turns = Turns(time.clock, time.sleep)
        await turns.wait(0.0)
        with turns.taking():
            time.now_s += 1.0
        behind = time.now_s
        await turns.wait(COST_S)
        return time.now_s - behind

    assert asyncio.run(scenario()) == pytest.approx((1.0 - BURST_S) / SHARE)


def test_who_came_first_is_first_and_who_has_gone_costs_nothing():
    async def scenario():
        time, order, go = Time(), [], asyncio.Event()

        async def sleep(seconds):
            await go.wait()
            await time.sleep(seconds)

        turns = Turns(time.clock, sleep)
        await turns.wait(1.0)

        async def ask(name):
            await turns.wait(COST_S)
            order.append(name)

        first = asyncio.create_task(ask("first"))
        await asyncio.sleep(0)
        gone = [asyncio.create_task(ask("gone")) for _ in range(100)]
        last = asyncio.create_task(ask("last"))
        await asyncio.sleep(0)
        for one in gone:
            one.cancel()
        go.set()
        await asyncio.gather(first, last)
        assert order == ["first", "last"]
        return time.now_s - 50.0

    owed_s = (1.0 - BURST_S + COST_S) / SHARE
    assert asyncio.run(scenario()) == pytest.approx(owed_s)


async def _owed_s(time, turns):
    """For how long the next request waits."""
    before_s = time.now_s
    await turns.wait(0.0)
    return time.now_s - before_s


def test_a_refusal_takes_what_each_step_of_its_request_took():
    async def scenario():
        time = Time()
        turns = Turns(time.clock, time.sleep)
        share = Share(turns, time.clock)

        async def work():
            time.now_s += 0.3
            await asyncio.sleep(0)
            time.now_s += 0.2
            try:
                await time.sleep(5.0)  # others have the loop meanwhile
            finally:
                time.now_s += 0.1
            raise ValueError("refused")

        with pytest.raises(ValueError, match="refused"):
            await share.steps(work())
        time.now_s += 100.0
        await share.refuse(late=False)
        share.settle()
        return await _owed_s(time, turns)

    # of the sleep's own step the injected clock makes five seconds that are the sleep's
    assert asyncio.run(scenario()) == pytest.approx((5.6 + OVERHEAD_S - BURST_S) / SHARE)


def test_steps_give_what_the_work_gives_and_end_with_it():
    async def scenario():
        share, ended = Share(Turns()), []

        async def work():
            await asyncio.sleep(0.001)
            return 7

        async def endless():
            try:
                await asyncio.sleep(60.0)
            finally:
                ended.append(True)

        assert await share.steps(work()) == 7
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await share.steps(endless())
        return ended

    assert asyncio.run(scenario()) == [True]


def test_a_camera_that_is_late_now_and_then_waits_for_no_turn_and_others_do():
    async def scenario():
        time = Time()
        turns = Turns(time.clock, time.sleep)
        camera, other = Share(turns, time.clock), Share(turns, time.clock)
        turns.charge(1.0)
        begun_s = time.now_s
        for _ in range(100):
            camera.answered()
        for _ in range(CREDIT):
            await camera.refuse(late=True)
        assert time.now_s == begun_s
        await other.refuse(late=True)
        assert time.now_s > begun_s + 1.0
        begun_s = time.now_s
        await camera.refuse(late=True)  # its credit is used up
        assert time.now_s > begun_s
        camera.answered()
        begun_s = time.now_s
        await camera.refuse(late=False)  # what is wrong with a request is no lateness
        assert time.now_s > begun_s

    asyncio.run(scenario())


def _busy():
    """More pictures than may be under way at once."""
    given = {"name": "picture", "shape": [3, 32, 32, 3], "datatype": "UINT8",
             "parameters": {"binary_data_size": 9216}}  # fmt: skip
    text = json.dumps({"inputs": [given]}).encode()
    head = b"POST /infer HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\n"
    head += b"Inference-Header-Content-Length: %d\r\n" % len(text)
    return head + b"Content-Length: %d\r\n\r\n" % (len(text) + 9216) + text + bytes(9216)


def _chunks():
    """Chunks of a byte each, just under the bound on what may be around them."""
    head = b"POST /infer HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 120 + b"0\r\n\r\n"


@contextlib.contextmanager
def _asking_again_and_again(place, said, connections):
    """So many connections, each of which asks anew once it is answered; gives the answers."""
    ended, answers = threading.Event(), []

    def ask():
        while not ended.is_set():
            with contextlib.suppress(OSError), socket.create_connection(place, 5) as client:
                while not ended.is_set():
                    client.sendall(said)
                    found = client.recv(65_536)
                    if not found:
                        break
                    answers.append(found[9:12])

    threads = [threading.Thread(target=ask) for _ in range(connections)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        ended.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("said", [_busy, _chunks])
def test_work_that_is_not_done_has_its_share_of_the_loop_and_no_more(running, said):
    with running("[limits]\nlive_frames = 2\n") as daemon:
        host, port = daemon.address.removeprefix("http://").split(":")
        begun_s = time.monotonic()
        with _asking_again_and_again((host, int(port)), said(), 24) as answers:
            time.sleep(2.0)
        took_s = time.monotonic() - begun_s
    # bodies in chunks may wait for longer than a frame's deadline
    assert all(found in (b"400", b"503", b"504") for found in answers)
    most = (took_s * SHARE + BURST_S) / min(LATE_S, CHUNKED_S)
    assert 20 < len(answers) < most + 24  # whoever is last is on the way


def _took_s(daemon):
    fields = Path(f"/proc/{daemon.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("path", ["/metrics", "/live/state"])
def test_requests_ahead_of_their_answers_leave_the_processor_to_the_frames(running, path):
    with running() as daemon:
        host, port = daemon.address.removeprefix("http://").split(":")
        said = b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path.encode() * 500
        ended = threading.Event()

        def ask_without_end():
            with socket.create_connection((host, int(port)), 5) as client:
                client.setblocking(False)
                while not ended.is_set():
                    readable, writable, _ = select.select([client], [client], [], 0.05)
                    if readable and not client.recv(65_536):
                        return
                    if writable:
                        client.send(said)

        threads = [threading.Thread(target=ask_without_end) for _ in range(8)]
        for thread in threads:
            thread.start()
        try:
            with Client(daemon.address) as client:
                client.state()
                begun_s, before_s = time.monotonic(), _took_s(daemon)
                while time.monotonic() < begun_s + 2.0:
                    asked_s = time.monotonic()
                    client.state()  # has its turn too
                    assert time.monotonic() - asked_s < 1.0
                share = (_took_s(daemon) - before_s) / (time.monotonic() - begun_s)
        finally:
            ended.set()
            for thread in threads:
                thread.join()
    assert share < 0.6
