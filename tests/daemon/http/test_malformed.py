"""What is no request over HTTP: bounded, answered in one line, and ended."""

import asyncio
import contextlib
import gc
import json
import socket

import pytest
from http_listener import GET, Listener, run

from controller.daemon.http import connections
from controller.daemon.http.connections import HttpConnection


@pytest.fixture(autouse=True)
def _short_linger(monkeypatch):
    """What is refused is read for this long, here: every connection is waited for to its end."""
    monkeypatch.setattr(connections, "LINGER_S", 0.1)


async def sent(writer, data):
    writer.write(data)
    await writer.drain()


def test_a_head_has_a_bound():
    async def scenario():
        async with Listener().open() as listener:
            reader, writer = await listener.connect(GET[:-2])
            for number in range(100):
                writer.write(b"h%d: %b\r\n" % (number, b"a" * 4000))
            whole = await asyncio.wait_for(reader.read(), 10)
            assert whole.startswith(b"HTTP/1.1 431 ")
            assert b"found a head of more than 32,768 bytes" in whole

    run(scenario)


@pytest.mark.parametrize("said", [b"\x00" * 65536, b"\xff" * 65536, b"GET /" + b"x" * 65536])
def test_what_is_no_http_is_read_once_and_leaves_nothing(said):
    """With the collector off: a circle of the error and its connection would stay for long."""

    async def scenario():
        async with Listener().open() as listener:
            gc.collect()
            gc.disable()
            try:
                for _ in range(10):
                    reader, writer = await listener.connect(said * 8)
                    with contextlib.suppress(ConnectionError):
                        assert b" 400 " in await asyncio.wait_for(reader.read(), 10)
                    writer.transport.abort()
                await listener.settled(0)
                await asyncio.sleep(0.05)
                left = [one for one in gc.get_objects() if type(one) is HttpConnection]
                assert len(left) <= 1, len(left)
            finally:
                gc.enable()

    run(scenario)


@pytest.mark.parametrize("verb", [b"GET", b"CONNECT"])
def test_what_follows_an_upgrade_is_dropped_and_the_connection_ends(verb):
    async def scenario():
        async with Listener().open() as listener:
            reader, _ = await listener.connect(
                verb + b" / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
                b"Upgrade: websocket\r\n\r\n" + bytes(100_000)
            )
            one = next(iter(listener.table.open), None)
            whole = await asyncio.wait_for(reader.read(), 10)
            assert whole.count(b"HTTP/1.1 ") == 1
            assert one is None or len(one._message_tail) <= 8192
            await listener.settled(0)

    run(scenario)


def test_a_body_whose_chunks_are_none_is_refused_at_once(running):
    """Not when its time is over."""
    head = b"POST /infer HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
    with running() as daemon:
        host, port = daemon.address.removeprefix("http://").split(":")
        for sent in (b"zz\r\n", b"1\r\nx\r\n" * 20_000, b"0\r\n" + b"a: b\r\n" * 20_000):
            with socket.create_connection((host, int(port)), 5) as client:
                client.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n" + sent)
                assert b" 400 " in client.recv(4096)[:16]
        assert "Traceback" not in daemon.said()


def test_what_is_no_http_is_one_line_of_json():
    async def scenario():
        async with Listener().open() as listener:
            for said in (
                b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
                b"GET / HTTP/9.9\r\n\r\n",
                b"\x00\r\n\r\n",
            ):
                reader, _ = await listener.connect(said)
                whole = await asyncio.wait_for(reader.read(), 10)
                head, body = whole.split(b"\r\n\r\n", 1)
                assert b" 400 " in head
                assert b"content-type: application/json\r\n" in head.lower() + b"\r\n"
                assert json.loads(body)["error"].startswith("request: found no HTTP")

    run(scenario)
