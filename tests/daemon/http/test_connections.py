"""Who is hung up at the listener: real sockets, and a clock that the tests set."""

import asyncio
import contextlib
import json
import socket
import time
import tracemalloc

import msgspec
import pytest
from http_listener import GET, Listener, answered, head_of, hung_up, run

HOLD = b"GET /hold HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
LARGE = b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n"


def test_newcomers_give_way_among_themselves_and_clients_stay():
    async def scenario():
        async with Listener(connections=8).open() as listener:
            kept = await listener.connect()
            assert await answered(kept) == 200
            newcomers = []
            for _ in range(40):
                listener.now_s += 1.0
                newcomers.append(await listener.connect())
                await asyncio.sleep(0)
            assert await answered(kept) == 200
            await listener.settled(8)
            assert all([await hung_up(one) for one in newcomers[:33]])
            # those that came last may still ask
            assert await answered(newcomers[-1]) == 200
            assert await answered(kept) == 200

    run(scenario)


def test_of_clients_the_longest_silent_one_gives_way():
    async def scenario():
        async with Listener(connections=4).open() as listener:
            clients = []
            for _ in range(4):
                clients.append(await listener.connect())
                listener.now_s += 1.0
                assert await answered(clients[-1]) == 200
            assert await answered(clients[0]) == 200
            newcomer = await listener.connect()
            assert await answered(newcomer) == 200
            assert await hung_up(clients[1])
            for client in (clients[0], clients[2], clients[3], newcomer):
                assert await answered(client) == 200

    run(scenario)


def test_a_request_under_way_never_gives_way_and_one_more_is_turned_away():
    async def scenario():
        async with Listener(connections=4).open() as listener:
            busy = [await listener.connect(HOLD) for _ in range(4)]
            async with asyncio.timeout(10):
                while sum(one.under_way for one in listener.table.open) < 4:
                    await asyncio.sleep(0.005)
            reader, _ = await listener.connect()
            whole = await asyncio.wait_for(reader.read(), 10)
            head, body = whole.split(b"\r\n\r\n", 1)
            assert b" 503 " in head
            assert set(json.loads(body)) == {"error"}
            listener.now_s += 1e6
            listener.table.sweep()
            listener.go.set()
            for client in busy:
                assert (await head_of(client[0])).startswith(b"HTTP/1.1 200 ")

    run(scenario)


def test_bodies_that_are_not_whole_give_way_before_a_client_that_is_idle():
    """One byte of each body comes; the one that was begun first goes first."""

    async def scenario():
        async with Listener(connections=4).open() as listener:
            camera = await listener.connect()
            assert await answered(camera) == 200
            slow = []
            for _ in range(8):
                listener.now_s += 1.0
                slow.append(await listener.connect(POST % 1000 + b"x"))
                async with asyncio.timeout(10):
                    while sum(one.coming_in for one in listener.table.open) < min(len(slow), 3):
                        await asyncio.sleep(0.005)
                assert await answered(camera) == 200
            assert all([await hung_up(one) for one in slow[:5]])
            slow[-1][1].write(bytes(999))
            assert (await head_of(slow[-1][0])).startswith(b"HTTP/1.1 200 ")
            assert await answered(camera) == 200

    run(scenario)


def test_who_waits_for_a_turn_gives_way_before_a_client_that_is_idle():
    async def scenario():
        async with Listener(connections=4).open() as listener:
            camera = await listener.connect()
            assert await answered(camera) == 200
            turn = GET.replace(b"/ ", b"/turn ", 1)
            assert await answered(await listener.connect(), turn) == 200  # all there is for long
            waiting = [await listener.connect(turn) for _ in range(2)]
            async with asyncio.timeout(10):
                while sum(one.delayed_s is not None for one in listener.table.open) < 2:
                    await asyncio.sleep(0.005)
            listener.now_s += 1.0
            assert await answered(await listener.connect()) == 200
            assert await hung_up(waiting[0])
            assert await answered(camera) == 200

    run(scenario)


CHUNKED = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("apart", [False, True])
def test_a_body_in_chunks_is_not_parsed_before_its_turn(apart):
    """Chunks of a byte cost a hundred times what their bytes would."""
    chunks = b"1\r\nx\r\n" * 100 + b"0\r\n\r\n"

    async def scenario():
        async with Listener().open() as listener:
            reader, writer = await listener.connect(CHUNKED if apart else CHUNKED + chunks)
            if apart:
                await asyncio.sleep(0.05)
                writer.write(chunks)
            head = await head_of(reader)
            assert head.startswith(b"HTTP/1.1 200")
            assert await reader.readexactly(3) == b"100"
            turn = GET.replace(b"/ ", b"/turn ", 1)
            assert await answered(await listener.connect(), turn) == 200  # all there is for long
            writer.write(CHUNKED + chunks)
            async with asyncio.timeout(10):
                while not (late := [one for one in listener.table.open if one.delayed_s]):
                    await asyncio.sleep(0.005)
            assert late[0].chunked
            assert late[0].coming_in
            assert late[0]._content.total_bytes < 100

    run(scenario)


def test_bytes_of_a_head_make_no_connection_younger():
    """Those who have asked once and trickle a head go before a client that asks now and then."""

    async def scenario():
        async with Listener(connections=4).open() as listener:
            camera = await listener.connect()
            tricklers = [await listener.connect() for _ in range(3)]
            for one in tricklers:
                assert await answered(one) == 200
                one[1].write(b"GET /")
            assert await answered(camera) == 200
            for _ in range(5):
                listener.now_s += 1.0
                for _, writer in tricklers:
                    writer.write(b"a")
                await asyncio.sleep(0.02)
            newcomer = await listener.connect()
            assert await answered(newcomer) == 200
            assert await answered(camera) == 200
            assert sum([await hung_up(one) for one in tricklers[:1]]) == 1

    run(scenario)


def test_what_comes_ahead_of_an_answer_waits_unread_and_is_answered():
    """Forty heads of 20 KB behind a request that takes long, then each has its answer."""
    head = GET[:-2] + b"".join(b"h%d: %b\r\n" % (k, b"a" * 5000) for k in range(4)) + b"\r\n"

    async def scenario():
        async with Listener().open() as listener:
            reader, writer = await listener.connect(HOLD)
            tracemalloc.start()
            try:
                sending = asyncio.create_task(sent(writer, head * 40))
                await asyncio.sleep(0.3)
                (one,) = listener.table.open
                assert len(one._messages) == 0
                held, _ = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert held < 3_000_000  # most of it is what this process has still to send
            assert held - 40 * len(head) < 400_000
            listener.go.set()
            for text in (b"held", *[b"ok"] * 40):
                await head_of(reader)
                assert await reader.readexactly(len(text)) == text
            await sending

    run(scenario)


async def sent(writer, data):
    writer.write(data)
    await writer.drain()


def test_who_leaves_while_nothing_of_it_is_read_is_noticed():
    async def scenario():
        async with Listener().open() as listener:
            _, writer = await listener.connect(HOLD)
            async with asyncio.timeout(10):
                while not any(one.under_way for one in listener.table.open):
                    await asyncio.sleep(0.005)
                writer.write(GET * 300)
                while any(one.transport.is_reading() for one in listener.table.open):
                    await asyncio.sleep(0.005)
            writer.transport.abort()
            async with asyncio.timeout(10):
                while listener.table.open:
                    listener.table.sweep()
                    await asyncio.sleep(0.005)

    run(scenario)


def test_every_silence_has_its_time():
    """No head, half a head, no further request; a request under way has none of these times."""

    async def scenario():
        limits = {"head_s": 10.0, "idle_s": 300.0, "connections": 8}
        async with Listener(**limits).open() as listener:
            mute = await listener.connect()
            half = await listener.connect(GET[:20])
            kept = await listener.connect()
            assert await answered(kept) == 200
            begun = await listener.connect()
            assert await answered(begun) == 200
            under_way = await listener.connect(HOLD)
            await listener.settled(5)
            listener.now_s += 5.0
            # a byte now and then does not stretch a head's time
            half[1].write(GET[20:21])
            begun[1].write(GET[:3])
            await asyncio.sleep(0.05)
            listener.table.sweep()
            assert len(listener.table.open) == 5
            listener.now_s += 5.5
            half[1].write(GET[21:22])
            await asyncio.sleep(0.05)
            listener.table.sweep()
            assert await hung_up(mute)
            assert await hung_up(half)
            assert len(listener.table.open) == 3
            listener.now_s += 5.0
            listener.table.sweep()
            assert await hung_up(begun), "the head of its second request is as late"
            assert await answered(kept) == 200
            listener.now_s += 301.0
            listener.table.sweep()
            assert await hung_up(kept)
            listener.go.set()
            assert (await head_of(under_way[0])).startswith(b"HTTP/1.1 200 ")

    run(scenario)


def test_who_takes_nothing_of_an_answer_is_hung_up():
    async def scenario():
        async with Listener(stalled_s=10.0).open() as listener:
            with socket.create_connection(listener.address) as deaf:
                deaf.sendall(LARGE)
                async with asyncio.timeout(10):
                    while not any(one.stalled_s for one in listener.table.open):
                        await asyncio.sleep(0.005)
                listener.now_s += 9.0
                listener.table.sweep()
                assert len(listener.table.open) == 1
                listener.now_s += 1.5
                listener.table.sweep()
                await listener.settled(0)

    run(scenario)


def test_of_long_answers_that_nobody_takes_the_newest_is_kept():
    """Fifty megabytes each: without a bound a hundred connections hold five gigabytes."""

    async def scenario():
        async with Listener(bodies_bytes=120_000_000).open() as listener, deaf_ones() as begin:
            for number in range(1, 6):
                listener.now_s += 1.0
                begin(listener)
                kept = min(number, 2)  # together at most 120 MB, and the newest in any case
                async with asyncio.timeout(20):
                    while (
                        sum(one.stalled_s is not None for one in listener.table.open) != kept
                        or len(listener.table.open) != kept
                        or max(one.stalled_s for one in listener.table.open) != listener.now_s
                    ):
                        await asyncio.sleep(0.005)
            listener.limits = msgspec.structs.replace(listener.limits, bodies_bytes=1)
            listener.table.relieve()
            await listener.settled(1)
            assert await answered(await listener.connect()) == 200

    run(scenario)


@contextlib.asynccontextmanager
async def deaf_ones():
    """Gives what begins one that asks for a long answer and reads nothing."""
    with contextlib.ExitStack() as held:

        def begin(listener):
            deaf = held.enter_context(socket.create_connection(listener.address))
            deaf.sendall(LARGE)

        yield begin


BODY = b'{"inputs":[{"name":"picture","shape":[1,32,32,3],"datatype":"UINT8","data":[%s]}]}'


def test_a_camera_is_answered_in_time_while_others_connect_and_say_nothing(running):
    """1,100 silent connections against a real daemon with no more descriptors than usual."""
    resource = pytest.importorskip("resource")
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 1300:
        pytest.skip("the system allows too few descriptors for so many connections")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], 1300), before[1]))
    body = BODY % b",".join([b"0"] * 3072)
    head = b"POST /infer?deadline_ms=1000 HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"

    def ask(camera):
        begun = time.monotonic()
        camera.sendall(head % len(body) + body)
        answer = camera.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        return time.monotonic() - begun

    with contextlib.ExitStack() as stack:
        daemon = stack.enter_context(running())
        host, port = daemon.address.removeprefix("http://").split(":")
        camera = stack.enter_context(socket.create_connection((host, int(port)), 10))
        ask(camera)
        took = []
        for number in range(1100):
            stack.enter_context(socket.create_connection((host, int(port)), 10))
            if number % 50 == 0:
                took.append(ask(camera))
        took += [ask(camera) for _ in range(10)]
        assert len(daemon.said()) < 20_000
        assert "waited for longest" in daemon.said()
        assert daemon.stop() == 0
        assert "like it" in daemon.said()
    resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert max(took) < 1.0
    assert sorted(took)[len(took) // 2] < 0.25
