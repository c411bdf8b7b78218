"""Who is hung up at the door: real sockets, and a clock that the tests set."""

import asyncio
import contextlib
import gc
import json
import logging
import socket
import subprocess
import sys
import time
import tracemalloc

import msgspec
import pytest
from aiohttp import web

from controller.daemon.configuration.settings import HttpSettings, LimitSettings
from controller.daemon.http.connections import ConnectionTable, HttpConnection
from controller.daemon.http.listening import HttpListener

LOG = logging.getLogger("coinfer.test")
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
HOLD = b"GET /hold HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
LARGE = b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Door:
    """An application behind the daemon's listener: `/` answers, `/hold` waits for `go`."""

    def __init__(self, **limits):
        self.limits = msgspec.structs.replace(LimitSettings(), **limits)
        self.now_s = 100.0
        self.table = ConnectionTable(lambda: self.limits, LOG, lambda: self.now_s)
        self.go = asyncio.Event()
        self.address, self.clients = None, []

    @contextlib.asynccontextmanager
    async def open(self, path="", host="127.0.0.1"):
        @web.middleware
        async def told(request, handler):
            request.protocol.begin(request)
            try:
                return await handler(request)
            finally:
                request.protocol.end()

        async def answer(request):
            return web.Response(text="ok")

        async def hold(request):
            await self.go.wait()
            return web.Response(text="held")

        async def large(request):
            return web.Response(body=bytes(50_000_000))

        async def body(request):
            return web.Response(text=str(len(await request.read())))

        async def turn(request):
            await request.protocol.turn(1e6)
            return web.Response(text="ok")

        app = web.Application(middlewares=[told])
        app.add_routes([web.get("/", answer), web.get("/hold", hold), web.get("/large", large)])
        app.add_routes([web.post("/", body), web.get("/turn", turn)])
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        try:
            listener = HttpListener(HttpSettings(host=host, port=0, socket=path), self.table)
            async with listener.serving(runner) as where:
                host, port = where[0].removeprefix("http://").rsplit(":", 1)
                self.address = (host.strip("[]"), int(port))
                yield self
        finally:
            self.go.set()
            for writer in self.clients:
                writer.transport.abort()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
            await runner.cleanup()

    async def connect(self, said=b"", path=None):
        reader, writer = await (
            asyncio.open_unix_connection(path) if path else asyncio.open_connection(*self.address)
        )
        self.clients.append(writer)
        writer.write(said)
        await writer.drain()
        return reader, writer

    async def settled(self, count):
        """Wait until so many connections are open."""
        async with asyncio.timeout(10):
            while len(self.table.open) != count:
                await asyncio.sleep(0.005)


async def head_of(reader):
    async with asyncio.timeout(10):
        return await reader.readuntil(b"\r\n\r\n")


async def answered(client, said=GET):
    """The status of one request on a connection that is kept."""
    reader, writer = client
    writer.write(said)
    head = await head_of(reader)
    length = int(head.lower().split(b"content-length:")[1].split()[0])
    async with asyncio.timeout(10):
        await reader.readexactly(length)
    return int(head.split()[1])


async def hung_up(client):
    """Whether the other end has closed."""
    try:
        async with asyncio.timeout(5):
            return await client[0].read(1) == b""
    except ConnectionError:
        return True
    except TimeoutError:
        return False


def run(scenario):
    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_strangers_give_way_among_themselves_and_clients_stay():
    async def scenario():
        async with Door(connections=8).open() as door:
            kept = await door.connect()
            assert await answered(kept) == 200
            strangers = []
            for _ in range(40):
                door.now_s += 1.0
                strangers.append(await door.connect())
                await asyncio.sleep(0)
            assert await answered(kept) == 200
            await door.settled(8)
            assert all([await hung_up(one) for one in strangers[:33]])
            # those that came last may still ask
            assert await answered(strangers[-1]) == 200
            assert await answered(kept) == 200

    run(scenario)


def test_of_clients_the_longest_silent_one_gives_way():
    async def scenario():
        async with Door(connections=4).open() as door:
            clients = []
            for _ in range(4):
                clients.append(await door.connect())
                door.now_s += 1.0
                assert await answered(clients[-1]) == 200
            assert await answered(clients[0]) == 200
            newcomer = await door.connect()
            assert await answered(newcomer) == 200
            assert await hung_up(clients[1])
            for client in (clients[0], clients[2], clients[3], newcomer):
                assert await answered(client) == 200

    run(scenario)


def test_a_request_under_way_never_gives_way_and_one_more_is_turned_away():
    async def scenario():
        async with Door(connections=4).open() as door:
            busy = [await door.connect(HOLD) for _ in range(4)]
            async with asyncio.timeout(10):
                while sum(one.under_way for one in door.table.open) < 4:
                    await asyncio.sleep(0.005)
            reader, _ = await door.connect()
            whole = await asyncio.wait_for(reader.read(), 10)
            head, body = whole.split(b"\r\n\r\n", 1)
            assert b" 503 " in head
            assert set(json.loads(body)) == {"error"}
            door.now_s += 1e6
            door.table.sweep()
            door.go.set()
            for client in busy:
                assert (await head_of(client[0])).startswith(b"HTTP/1.1 200 ")

    run(scenario)


def test_bodies_that_are_not_whole_give_way_before_a_client_that_is_idle():
    """One byte of each body comes; the one that was begun first goes first."""

    async def scenario():
        async with Door(connections=4).open() as door:
            camera = await door.connect()
            assert await answered(camera) == 200
            slow = []
            for _ in range(8):
                door.now_s += 1.0
                slow.append(await door.connect(POST % 1000 + b"x"))
                async with asyncio.timeout(10):
                    while sum(one.coming_in for one in door.table.open) < min(len(slow), 3):
                        await asyncio.sleep(0.005)
                assert await answered(camera) == 200
            assert all([await hung_up(one) for one in slow[:5]])
            slow[-1][1].write(bytes(999))
            assert (await head_of(slow[-1][0])).startswith(b"HTTP/1.1 200 ")
            assert await answered(camera) == 200

    run(scenario)


def test_who_waits_for_a_turn_gives_way_before_a_client_that_is_idle():
    async def scenario():
        async with Door(connections=4).open() as door:
            camera = await door.connect()
            assert await answered(camera) == 200
            turn = GET.replace(b"/ ", b"/turn ", 1)
            assert await answered(await door.connect(), turn) == 200  # all there is for long
            waiting = [await door.connect(turn) for _ in range(2)]
            async with asyncio.timeout(10):
                while sum(one.delayed_s is not None for one in door.table.open) < 2:
                    await asyncio.sleep(0.005)
            door.now_s += 1.0
            assert await answered(await door.connect()) == 200
            assert await hung_up(waiting[0])
            assert await answered(camera) == 200

    run(scenario)


def test_bytes_of_a_head_make_no_connection_younger():
    """Those who have asked once and trickle a head go before a client that asks now and then."""

    async def scenario():
        async with Door(connections=4).open() as door:
            camera = await door.connect()
            tricklers = [await door.connect() for _ in range(3)]
            for one in tricklers:
                assert await answered(one) == 200
                one[1].write(b"GET /")
            assert await answered(camera) == 200
            for _ in range(5):
                door.now_s += 1.0
                for _, writer in tricklers:
                    writer.write(b"a")
                await asyncio.sleep(0.02)
            newcomer = await door.connect()
            assert await answered(newcomer) == 200
            assert await answered(camera) == 200
            assert sum([await hung_up(one) for one in tricklers[:1]]) == 1

    run(scenario)


def test_what_comes_ahead_of_an_answer_waits_unread_and_is_answered():
    """Forty heads of 20 KB behind a request that takes long, then each has its answer."""
    head = GET[:-2] + b"".join(b"h%d: %b\r\n" % (k, b"a" * 5000) for k in range(4)) + b"\r\n"

    async def scenario():
        async with Door().open() as door:
            reader, writer = await door.connect(HOLD)
            tracemalloc.start()
            try:
                sending = asyncio.create_task(sent(writer, head * 40))
                await asyncio.sleep(0.3)
                (one,) = door.table.open
                assert len(one._messages) == 0
                held, _ = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert held < 3_000_000  # most of it is what this process has still to send
            assert held - 40 * len(head) < 400_000
            door.go.set()
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
        async with Door().open() as door:
            _, writer = await door.connect(HOLD)
            async with asyncio.timeout(10):
                while not any(one.under_way for one in door.table.open):
                    await asyncio.sleep(0.005)
                writer.write(GET * 300)
                while any(one.transport.is_reading() for one in door.table.open):
                    await asyncio.sleep(0.005)
            writer.transport.abort()
            async with asyncio.timeout(10):
                while door.table.open:
                    door.table.sweep()
                    await asyncio.sleep(0.005)

    run(scenario)


def test_a_head_has_a_bound():
    async def scenario():
        async with Door().open() as door:
            reader, writer = await door.connect(GET[:-2])
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
        async with Door().open() as door:
            gc.collect()
            gc.disable()
            try:
                for _ in range(10):
                    reader, writer = await door.connect(said * 8)
                    with contextlib.suppress(ConnectionError):
                        assert b" 400 " in await asyncio.wait_for(reader.read(), 10)
                    writer.transport.abort()
                await door.settled(0)
                await asyncio.sleep(0.05)
                left = [one for one in gc.get_objects() if type(one) is HttpConnection]
                assert len(left) <= 1, len(left)
            finally:
                gc.enable()

    run(scenario)


@pytest.mark.parametrize("verb", [b"GET", b"CONNECT"])
def test_what_follows_an_upgrade_is_dropped_and_the_connection_ends(verb):
    async def scenario():
        async with Door().open() as door:
            reader, _ = await door.connect(
                verb + b" / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
                b"Upgrade: websocket\r\n\r\n" + bytes(100_000)
            )
            one = next(iter(door.table.open), None)
            whole = await asyncio.wait_for(reader.read(), 10)
            assert whole.count(b"HTTP/1.1 ") == 1
            assert one is None or len(one._message_tail) <= 8192
            await door.settled(0)

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


def test_every_silence_has_its_time():
    """No head, half a head, no further request; a request under way has none of these times."""

    async def scenario():
        limits = {"head_s": 10.0, "idle_s": 300.0, "connections": 8}
        async with Door(**limits).open() as door:
            mute = await door.connect()
            half = await door.connect(GET[:20])
            kept = await door.connect()
            assert await answered(kept) == 200
            begun = await door.connect()
            assert await answered(begun) == 200
            under_way = await door.connect(HOLD)
            await door.settled(5)
            door.now_s += 5.0
            # a byte now and then does not stretch a head's time
            half[1].write(GET[20:21])
            begun[1].write(GET[:3])
            await asyncio.sleep(0.05)
            door.table.sweep()
            assert len(door.table.open) == 5
            door.now_s += 5.5
            half[1].write(GET[21:22])
            await asyncio.sleep(0.05)
            door.table.sweep()
            assert await hung_up(mute)
            assert await hung_up(half)
            assert len(door.table.open) == 3
            door.now_s += 5.0
            door.table.sweep()
            assert await hung_up(begun), "the head of its second request is as late"
            assert await answered(kept) == 200
            door.now_s += 301.0
            door.table.sweep()
            assert await hung_up(kept)
            door.go.set()
            assert (await head_of(under_way[0])).startswith(b"HTTP/1.1 200 ")

    run(scenario)


def test_who_takes_nothing_of_an_answer_is_hung_up():
    async def scenario():
        async with Door(stalled_s=10.0).open() as door:
            with socket.create_connection(door.address) as deaf:
                deaf.sendall(LARGE)
                async with asyncio.timeout(10):
                    while not any(one.stalled_s for one in door.table.open):
                        await asyncio.sleep(0.005)
                door.now_s += 9.0
                door.table.sweep()
                assert len(door.table.open) == 1
                door.now_s += 1.5
                door.table.sweep()
                await door.settled(0)

    run(scenario)


def test_what_is_no_http_is_one_line_of_json():
    async def scenario():
        async with Door().open() as door:
            for said in (
                b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
                b"GET / HTTP/9.9\r\n\r\n",
                b"\x00\r\n\r\n",
            ):
                reader, _ = await door.connect(said)
                whole = await asyncio.wait_for(reader.read(), 10)
                head, body = whole.split(b"\r\n\r\n", 1)
                assert b" 400 " in head
                assert b"content-type: application/json\r\n" in head.lower() + b"\r\n"
                assert json.loads(body)["error"].startswith("request: found no HTTP")

    run(scenario)


def test_the_socket_in_the_file_system_counts_too(tmp_path):
    async def scenario():
        path = tmp_path / "door.sock"
        async with Door(connections=4).open(str(path)) as door:
            assert path.stat().st_mode & 0o777 == 0o660
            strangers = [await door.connect(path=path) for _ in range(4)]
            await door.settled(4)
            client = await door.connect()
            assert await answered(client) == 200
            assert await hung_up(strangers[0])

    run(scenario)


def test_it_listens_on_ipv6_too():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")

    async def scenario():
        async with Door().open(host="::1") as door:
            assert door.address[0] == "::1"
            assert await answered(await door.connect()) == 200

    run(scenario)


def test_descriptors_are_kept_back_for_the_daemon_itself():
    table = ConnectionTable(lambda: LimitSettings(connections=128), LOG)
    table.most = 0
    assert not table.make_room()
    table.most = 1
    assert table.make_room()
    assert not table.make_room()
    table.lost()
    assert table.make_room()


OUT_OF_DESCRIPTORS = """
import asyncio, logging, resource, socket, time
from controller.link.accepting import Acceptor, AcceptRules

lines = []
class Kept(logging.Handler):
    def emit(self, record):
        lines.append(record.getMessage())
log = logging.getLogger("x"); log.addHandler(Kept()); log.propagate = False

async def main():
    spared = []
    class Sparing(AcceptRules):
        def let_one_go(self):
            spared.append(1)
            return False
    acceptor = Acceptor(asyncio.Protocol, Sparing(), log)
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    acceptor.listen([listener])
    clients = [socket.socket() for _ in range(40)]
    for one in clients:
        one.setblocking(False)
    taken = max(one.fileno() for one in clients) + 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken + 10, taken + 200))
    for one in clients:
        one.connect_ex(listener.getsockname())
    begun, cpu, turns = time.monotonic(), time.process_time(), 0
    while time.monotonic() - begun < 1.5:
        await asyncio.sleep(0.01)
        turns += 1
    busy = time.process_time() - cpu
    timers = len(asyncio.get_running_loop()._scheduled)
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken + 200, taken + 200))
    seen = len(lines)
    await asyncio.sleep(0.5)
    quiet = len(lines) - seen
    acceptor.close()
    print(f"{turns} {len(lines)} {len(spared)} {busy:.3f} {timers} {quiet}")
    assert turns > 60, turns
    assert 1 <= len(lines) <= 12, lines
    assert len(spared) == len(lines)
    assert busy < 0.5, busy
    assert timers < 10, timers
    assert quiet == 0, lines
    assert "Too many open files" in lines[0], lines[0]

asyncio.run(main())
"""


def test_without_descriptors_nothing_spins_and_afterwards_all_come_in():
    """In a process of its own, as the limit is a process's."""
    done = subprocess.run(
        [sys.executable, "-c", OUT_OF_DESCRIPTORS],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_limit_of_descriptors_is_raised_to_what_the_system_allows():
    code = (
        "import resource; from controller.link.accepting import raise_descriptor_limit; "
        "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]; "
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard)); "
        "assert raise_descriptor_limit() == hard; "
        "assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


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
