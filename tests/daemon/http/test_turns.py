"""Cheap requests of all connections together get a share of the loop, in the order they come."""

import asyncio
import os
import select
import socket
import threading
import time
from pathlib import Path

import pytest

from controller.daemon.client import Client
from controller.daemon.http.turns import BURST_S, SHARE, Turns

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

        def took_s():
            fields = Path(f"/proc/{daemon.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

        threads = [threading.Thread(target=ask_without_end) for _ in range(8)]
        for thread in threads:
            thread.start()
        try:
            with Client(daemon.address) as client:
                client.state()
                begun_s, before_s = time.monotonic(), took_s()
                while time.monotonic() < begun_s + 2.0:
                    asked_s = time.monotonic()
                    client.state()  # has its turn too
                    assert time.monotonic() - asked_s < 1.0
                share = (took_s() - before_s) / (time.monotonic() - begun_s)
        finally:
            ended.set()
            for thread in threads:
                thread.join()
    assert share < 0.6
