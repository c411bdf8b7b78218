"""The sockets of the local interface: where it listens, and what is kept back for it."""

import socket
import subprocess
import sys

import pytest
from http_listener import LOG, Listener, answered, hung_up, run

from controller.daemon.configuration.settings import LimitSettings
from controller.daemon.http.connection_table import ConnectionTable


def test_the_socket_in_the_file_system_counts_too(tmp_path):
    async def scenario():
        path = tmp_path / "listener.sock"
        async with Listener(connections=4).open(str(path)) as listener:
            assert path.stat().st_mode & 0o777 == 0o660
            newcomers = [await listener.connect(path=path) for _ in range(4)]
            await listener.settled(4)
            client = await listener.connect()
            assert await answered(client) == 200
            assert await hung_up(newcomers[0])

    run(scenario)


def test_it_listens_on_ipv6_too():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")

    async def scenario():
        async with Listener().open(host="::1") as listener:
            assert listener.address[0] == "::1"
            assert await answered(await listener.connect()) == 200

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
