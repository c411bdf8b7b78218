"""`coinfer link`: real commands behind real namespaces, and nothing left of either."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from experiments.replay.cell import carried
from experiments.replay.cell.behind import run_behind
from experiments.replay.cell.carried import Carried, CellLink, can_make_links
from experiments.replay.cell.kernel import CellError
from traces.trace import BandwidthTrace

TRACE = "time_s,rate_bps\n0,2e6\n1000,2e6\n"
LINK = ("-m", "coinfer.cli.main", "link")
CARRIER, KEEPER = "experiments.replay.cell.carrier", "enter.py --keep"
CODES = {signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGINT: 130, signal.SIGKILL: -9}
GRANDCHILDREN = "sleep 700 & (setsid sleep 701 &); echo begun; sleep 702"
ASK = """
import os, socket, sys, time
host, kind, port = os.environ["COINFER_LINK_HOST"], sys.argv[1], int(sys.argv[2])
begun_s = time.monotonic()
if kind == "tcp":
    peer = socket.create_connection((host, port), 20)
else:
    peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    peer.connect((host, port))
    peer.settimeout(20)
peer.sendall(b"x" * int(sys.argv[3]))
if kind == "tcp":
    peer.shutdown(socket.SHUT_WR)
print(peer.recv(100).decode(), time.monotonic() - begun_s)
"""
needs_tun = pytest.mark.skipif(
    not can_make_links() or os.geteuid() != 0, reason="needs root and /dev/net/tun"
)


@pytest.fixture
def trace(tmp_path):
    """A link of 2 Mbit/s."""
    (tmp_path / "trace.csv").write_text(TRACE)
    return tmp_path / "trace.csv"


@contextlib.contextmanager
def counting(kind):
    """A service on loopback that says how many bytes came; its port."""
    family = socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, family) as service:
        service.bind(("127.0.0.1", 0))

        def serve_tcp():
            with contextlib.suppress(OSError):
                peer, _ = service.accept()
                with peer:
                    count = 0
                    while data := peer.recv(65536):
                        count += len(data)
                    peer.sendall(str(count).encode())

        def serve_udp():
            with contextlib.suppress(OSError):
                data, sender = service.recvfrom(65536)
                service.sendto(str(len(data)).encode(), sender)

        if kind == "tcp":
            service.listen()
        threading.Thread(target=serve_tcp if kind == "tcp" else serve_udp, daemon=True).start()
        yield service.getsockname()[1]


def interfaces():
    return sorted(os.listdir("/sys/class/net"))


@needs_tun
@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137)])
def test_the_command_s_exit_code_is_passed_on_and_nothing_stays(tool, trace, script, code):
    before = interfaces()
    one = tool([*LINK, "--trace", trace, "--", "sh", "-c", f"sleep 700 & {script}"])
    assert one.end() == code, one.said
    assert interfaces() == before
    assert "2 Mbit/s in the mean" in one.said[1]


@needs_tun
@pytest.mark.parametrize("number", CODES)
def test_however_it_ends_nothing_stays(tool, trace, number):
    before = interfaces()
    one = tool([*LINK, "--trace", trace, "--", "sh", "-c", GRANDCHILDREN])
    assert one.line() == "begun"
    one.running(CARRIER, KEEPER, "sleep 700", "sleep 701", "sleep 702")
    assert one.end(number) == CODES[number], one.said
    assert "Traceback" not in one.said[1], one.said
    assert interfaces() == before


@needs_tun
def test_what_is_left_by_a_keeper_that_is_killed_is_ended(tool, trace):
    one = tool([*LINK, "--trace", trace, "--", "sh", "-c", GRANDCHILDREN])
    assert one.line() == "begun"
    one.running("sleep 700", "sleep 701", "sleep 702")
    for pid, command in one.children().items():
        if KEEPER in command:
            os.kill(pid, signal.SIGKILL)
    assert one.end() == 137, one.said


@needs_tun
def test_keys_at_the_terminal_reach_the_command_first(tool, trace):
    """Ctrl-C goes to the whole group; a command that puts its things in order may finish."""
    script = "trap 'sleep 0.3; echo ordered; exit 5' INT; echo begun; sleep 700 & wait"
    one = tool([*LINK, "--trace", trace, "--", "sh", "-c", script])
    assert one.line() == "begun"
    os.killpg(one.pid, signal.SIGINT)
    assert one.end() == 130, one.said
    assert "ordered" in one.said[0]


@needs_tun
def test_a_carrier_that_is_killed_ends_the_command_in_one_line(tool, trace):
    one = tool([*LINK, "--trace", trace, "--", "sh", "-c", GRANDCHILDREN])
    assert one.line() == "begun"
    for pid, command in one.children().items():
        if CARRIER in command:
            os.kill(pid, signal.SIGKILL)
    assert one.end() == 2, one.said
    assert "link: the process that carries its packets has ended" in one.said[1]
    assert "Traceback" not in one.said[1]


@needs_tun
@pytest.mark.parametrize(("kind", "size"), [("tcp", 100_000), ("udp", 1200)])
def test_services_on_the_machine_s_loopback_are_reached(tool, trace, program, kind, size):
    with counting(kind) as port:
        asking = [sys.executable, *program(ASK), kind, port, size]
        one = tool([*LINK, "--trace", trace, "--rtt", "60ms", "--", *asking])
        assert one.end() == 0, one.said
    came, taken_s = one.said[0].split()
    assert int(came) == size
    # the link alone: bytes over 2 Mbit/s and a round trip; TCP opens, and ramps up
    least_s = 8 * size / 2e6 + 0.06
    assert least_s <= float(taken_s) < least_s + 1.5


@needs_tun
def test_a_port_where_nothing_listens_is_refused(tool, trace, program):
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    asking = [sys.executable, *program(ASK), "tcp", port, 1]
    one = tool([*LINK, "--trace", trace, "--", *asking])
    assert one.end() == 1
    assert "ConnectionRefusedError" in one.said[1]


@needs_tun
def test_the_environment_and_the_folder_are_the_command_s_own(tool, trace, tmp_path):
    script = 'echo "$COINFER_LINK_HOST $MAHIMAHI_BASE $OWN $PYTHONPATH"; pwd; cat'
    one = tool(
        [*LINK, "--quiet", "--trace", trace, "--", "sh", "-c", script], stdin=subprocess.PIPE,
        OWN="kept", PYTHONPATH=f"{Path(__file__).resolve().parents[2]}:/nowhere",
    )  # fmt: skip
    one.process.stdin.write("typed")
    one.process.stdin.close()
    one.process.stdin = None
    assert one.end() == 0, one.said
    first, folder, typed = one.said[0].splitlines()
    assert first.split()[:3] == ["100.64.0.1", "100.64.0.1", "kept"]
    assert first.endswith(":/nowhere")
    assert folder == str(one.folder)
    assert (typed, one.said[1]) == ("typed", "")


@needs_tun
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv")
def test_without_the_right_to_make_namespaces_a_user_s_own_are_made(tool, trace, program):
    """Root without CAP_SYS_ADMIN is a user like others, but for the device's file."""
    if subprocess.run(["unshare", "-U", "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs a kernel that grants user namespaces")
    run = """
    import os, sys
    os.execvp("setpriv", ["setpriv", "--bounding-set", "-sys_admin", sys.executable, *sys.argv[1:]])
    """
    with counting("tcp") as port:
        asking = [sys.executable, *program(ASK, "ask.py"), "tcp", port, 20_000]
        one = tool([*program(run), *LINK, "--trace", trace, "--", *asking])
        assert one.end() == 0, one.said
    assert one.said[0].startswith("20000 ")
    other = tool([*program(run), *LINK, "--trace", trace, "--", "sh", "-c", GRANDCHILDREN])
    assert other.line() == "begun"
    other.running(CARRIER, "sleep 701")
    assert other.end(signal.SIGKILL) == -9


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["--", "true"], 2, "Missing option '--trace'"),
        (["--trace", "{trace}"], 2, "Missing argument 'command'"),
        (["--trace", "none.csv", "--", "true"], 2, "none.csv: found no such file"),
        (["--trace", "{trace}", "--rtt", "40", "--", "true"], 2, "--rtt: found '40', expected"),
        (["--trace", "{trace}", "--rtt", "40m", "--", "true"], 2, "--rtt: found '40m', expected"),
        (["--trace", "{trace}", "--queue", "60", "--", "true"], 2, "--queue: found '60', expected"),
        (["--trace", "{trace}", "--queue", "1kB", "--", "true"], 2, "--queue: found '1kB'"),
        (["--trace", "{trace}", "--queue", "", "--", "true"], 2, "--queue: found nothing"),
        (["--trace", "{trace}", "--loss", "3", "--", "true"], 2, "--loss"),
        (["--trace", "{trace}", "--", "no-such-command"], 127, "COMMAND: found 'no-such-command'"),
        (["--trace", "{trace}", "--", "{trace}"], 126, "expected a file that may be run"),
        (["--trace", "{still}", "--", "true"], 2, "found a trace that lets nothing pass"),
    ],
)
def test_what_cannot_be_meant_is_one_line(tool, trace, tmp_path, argv, code, said):
    still = tmp_path / "still.csv"
    still.write_text("time_s,rate_bps\n0,0\n10,0\n")
    one = tool([*LINK, *(a.format(trace=trace, still=still) for a in argv)])
    assert one.end() == code, one.said
    lines = [line for line in one.said[1].splitlines() if not line.startswith("traces: ")]
    assert len(lines) == 1, one.said
    assert said in lines[0]


@needs_tun
def test_two_links_beside_each_other_do_not_meet(tool, trace):
    both = [
        tool([*LINK, "--trace", trace, "--", "sh", "-c", "echo begun; sleep 0.5; exit 4"])
        for _ in range(2)
    ]
    assert [one.line() for one in both] == ["begun", "begun"]
    assert [one.end() for one in both] == [4, 4]


@needs_tun
def test_links_lie_within_each_other_and_their_round_trips_add_up(tool, trace, program):
    with counting("tcp") as port:
        asking = [sys.executable, *program(ASK), "tcp", port, 1]
        own = [*LINK, "--quiet", "--trace", trace, "--rtt", "150ms", "--"]
        one = tool([*own, sys.executable, *own, *asking])
        assert one.end() == 0, one.said
    came, taken_s = one.said[0].split()
    assert came == "1"
    # connecting takes the inner round trip; the byte and its answer take both
    assert 0.45 <= float(taken_s) < 2.0


@needs_tun
def test_a_resolver_that_listens_on_loopback_alone_is_reached(tmp_path, monkeypatch):
    monkeypatch.setattr(carried, "RESOLVERS", tmp_path / "resolv.conf")
    (tmp_path / "resolv.conf").write_text("# systemd's\nnameserver 127.0.0.53\nsearch a b\n")
    assert carried.loopback_resolvers() == ("127.0.0.53",)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as resolver:
        resolver.bind(("127.0.0.53", 0))
        resolver.settimeout(20)

        def answer():
            data, sender = resolver.recvfrom(100)
            resolver.sendto(b"to " + data, sender)

        threading.Thread(target=answer, daemon=True).start()
        ask = (
            "import socket, sys; s = socket.socket(2, 2); s.settimeout(20)\n"
            f"s.sendto(b'you', {resolver.getsockname()}); a = s.recvfrom(100)\n"
            f"sys.exit(a != (b'to you', {resolver.getsockname()}))"
        )
        link = CellLink(BandwidthTrace.from_intervals("t", [1.0], [1e6]))
        code, report = run_behind(link, [sys.executable, "-c", ask], lambda made: None)
    assert code == 0
    assert report.up.delivered == report.down.delivered == 1


@needs_tun
def test_a_command_that_removes_its_interface_ends_in_one_line(tool, trace):
    if shutil.which("ip") is None:
        pytest.skip("needs ip")
    one = tool([*LINK, "--quiet", "--trace", trace, "--", "sh", "-c",
                "ip link del cell0; sleep 700"])  # fmt: skip
    assert one.end() == 2, one.said
    assert one.said[1].splitlines() == [
        "coinfer: link: the process that carries its packets has ended"
    ]


@needs_tun
def test_packets_are_lost_by_the_seed_and_what_was_carried_is_said(tool, trace, program):
    send = """
    import os, socket
    out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    out.connect((os.environ["COINFER_LINK_HOST"], 9))
    for _ in range(200):
        out.send(bytes(100))
    import time; time.sleep(1)
    """

    def said(seed):
        one = tool([*LINK, "--trace", trace, "--loss", "0.2", "--seed", seed, "--",
                    sys.executable, *program(send)])  # fmt: skip
        assert one.end() == 0, one.said
        return one.said[1].splitlines()[-1].split(";")[0]

    first = said(1)
    lost = int(first.split(", ")[-1].split()[0])
    assert 20 <= lost <= 60
    assert f"{128 * (200 - lost):,} bytes in {200 - lost} packets" in first
    assert said(1) == first
    assert said(2) != first


def test_a_user_without_the_device_is_refused_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(carried, "TUN", str(tmp_path / "tun"))
    link = CellLink(BandwidthTrace.from_intervals("t", [1.0], [1e6]))
    with pytest.raises(CellError, match=r"tun: found no such device, expected one that this user"):
        Carried(link)


@needs_tun
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
def test_a_system_that_grants_no_namespaces_is_refused_in_one_line(tool, trace, program):
    """Inside a user namespace that may make none, without the right that root has."""
    if subprocess.run(["unshare", "-Ur", "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs a kernel that grants user namespaces")
    run = """
    import os, sys
    none = "echo 0 > /proc/sys/user/max_user_namespaces"
    less = 'exec setpriv --bounding-set -sys_admin "$@"'
    command = ["sh", "-c", f"{none}; {less}", "sh", sys.executable, *sys.argv[1:]]
    os.execvp("unshare", ["unshare", "-Ur", *command])
    """
    one = tool([*program(run), *LINK, "--quiet", "--trace", trace, "--", "true"])
    assert one.end() == 2, one.said
    assert one.said[1].splitlines() == [
        "coinfer: a user namespace: found no more allowed, expected root, or a kernel that grants "
        "it to users"
    ]
