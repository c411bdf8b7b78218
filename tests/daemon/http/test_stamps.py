"""Arrivals are stamped at the socket: what waited while the loop was held up has waited since."""

import asyncio
import logging
import selectors
import socket
import time

import pytest
from aiohttp import web

from controller.daemon.configuration.settings import HttpSettings, LimitSettings
from controller.daemon.http.connection_table import ConnectionTable
from controller.daemon.http.listening import HttpListener
from controller.daemon.http.stamps import StampingSelector, arrival_s, stamping_loop

HELD_S = 0.3
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def looked():
    """A selector on a clock that the test sets, the end it watches, and the other end."""
    clock = [0.0]
    near, far = socket.socketpair()
    with near, far, StampingSelector(lambda: clock[0]) as selector:
        selector.register(near, selectors.EVENT_READ)
        yield clock, selector, near, far


def test_what_is_there_at_once_came_since_the_look_before(looked):
    clock, selector, near, far = looked
    clock[0] = 1.0
    assert not selector.select(0)
    far.send(b"x")
    clock[0] = 5.0  # the loop was held up
    assert selector.select(None)
    assert selector.since_s(newcomer=False) == 1.0
    near.recv(1)
    far.send(b"y")
    clock[0] = 5.5
    assert selector.select(1.0)
    assert selector.since_s(newcomer=False) == 5.0
    assert selector.since_s(newcomer=True) == 0.0  # its connection may have waited for long


def test_what_was_waited_for_came_then(looked):
    clock, selector, _, far = looked
    clock[0] = 3.0
    assert not selector.select(0.001)
    assert selector.since_s(newcomer=True) == selector.since_s(newcomer=False) == 3.0
    far.send(b"x")
    clock[0] = 4.0
    assert selector.select(None)
    assert selector.since_s(newcomer=True) == 3.0


def test_another_loop_says_now():
    async def asked():
        return time.monotonic(), arrival_s(newcomer=False), time.monotonic()

    before, found, after = asyncio.run(asked())
    assert before <= found <= after


@pytest.mark.parametrize("newcomer", [False, True])
def test_a_request_that_waited_for_the_loop_is_as_old_as_it_is(newcomer):
    """Over a connection that is kept, and over one that comes while the loop is held up."""
    ages = []

    async def answer(request):
        ages.append(time.monotonic() - request.protocol.arrived_s)
        return web.Response()

    async def serve():
        app = web.Application()
        app.router.add_get("/", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        table = ConnectionTable(LimitSettings, logging.getLogger("test"))
        async with HttpListener(HttpSettings(port=0), table).serving(runner) as where:
            address = ("127.0.0.1", int(where[0].rpartition(":")[2]))
            kept = await asyncio.to_thread(socket.create_connection, address)
            with kept:
                kept.settimeout(10.0)
                kept.sendall(REQUEST)
                await asyncio.to_thread(kept.recv, 4096)
                other = socket.create_connection(address) if newcomer else kept
                with other:
                    other.settimeout(10.0)
                    other.sendall(REQUEST)
                    held_until = time.monotonic() + HELD_S
                    while time.monotonic() < held_until:
                        pass  # the loop is held up
                    await asyncio.to_thread(other.recv, 4096)
        await runner.cleanup()

    with asyncio.Runner(loop_factory=stamping_loop) as runner:
        runner.run(serve())
    assert ages[0] < HELD_S
    assert ages[1] >= HELD_S
