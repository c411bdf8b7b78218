"""Every tool that starts processes, ended in the middle: nothing of it runs on, nothing stays."""

import ast
import os
import signal
from pathlib import Path

import pytest

from artefacts.owners import owner_of
from experiments.replay.cell.carried import can_make_links
from experiments.replay.testbed.namespaces import missing_tools

TRACE = "time_s,rate_bps\n0,2e6\n10,1e6\n20,2e6\n600,2e6\n"
KILLED = [signal.SIGTERM, signal.SIGKILL]
ALL = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL]
CODES = {signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGINT: 130, signal.SIGKILL: -9}
COINFER = ("-m", "coinfer.cli.main")
DAEMON = ("coinfer.cli.entry edge", "coinfer.cli.entry device")
needs_root = pytest.mark.skipif(
    bool(missing_tools()), reason=f"needs {', '.join(missing_tools())} for network namespaces"
)


def namespaces(pid):
    """Of a process, those that still have a name."""
    named = Path("/run/netns")
    names = os.listdir(named) if named.is_dir() else []
    return [n for n in names if (owner := owner_of(n)) is not None and owner.pid == pid]


def ended(one, number):
    """End a tool that is in the middle; a killed one may leave its folder to the next run."""
    one.until(one.children, "a process of its own")  # between two of them there may be none
    code = one.end(number)
    assert code == CODES[number], one.said
    assert "Traceback" not in one.said[1], one.said
    if number != signal.SIGKILL:
        assert one.left() == []
        assert namespaces(one.pid) == []


@pytest.fixture
def replay(tmp_path):
    """The command of a replay by a method."""
    (tmp_path / "trace.csv").write_text(TRACE)

    def command(method):
        return (*COINFER, "replay", "--scenario", "3g-alexnet", "--trace", tmp_path / "trace.csv",
                "--method", method, "--controller", "edge-only")  # fmt: skip

    return command


@pytest.mark.parametrize("number", ALL)
def test_replay(tool, replay, number):
    one = tool(replay("relay"))
    one.running(*DAEMON)
    ended(one, number)


@pytest.mark.skipif(os.geteuid() != 0 or not can_make_links(), reason="needs root and /dev/net/tun")
@pytest.mark.parametrize("number", ALL)
def test_replay_over_a_cell_link(tool, replay, number):
    one = tool(replay("cell"))
    one.running(*DAEMON, "experiments.replay.cell.carrier")
    assert namespaces(one.pid) == []
    ended(one, number)


@needs_root
@pytest.mark.parametrize("number", ALL)
def test_replay_in_namespaces(tool, replay, number):
    one = tool(replay("tc"))
    one.running(*DAEMON, "tc -force -batch")
    names = namespaces(one.pid)
    assert len(names) == 2
    ended(one, number)
    if number == signal.SIGKILL:
        assert namespaces(one.pid) == names
        code = (
            "from experiments.replay.testbed.namespaces import remove_orphans; "
            "print(remove_orphans())"
        )
        other = tool(["-c", code])
        assert set(names) <= set(ast.literal_eval(other.line()))
        assert namespaces(one.pid) == []
        assert other.end() == 0


@needs_root
def test_a_run_beside_it_keeps_its_namespaces(tool, program):
    """Both begin by removing what they take for nobody's."""
    hold = """
        import sys
        from experiments.replay.testbed.namespaces import NamespacePair, remove_orphans
        remove_orphans()
        with NamespacePair() as pair:
            print(pair.device, flush=True)
            sys.stdin.readline()
    """
    one, other = (tool(program(hold), stdin=-1) for _ in range(2))
    names = {one.line(), other.line()}
    assert len(names) == 2
    assert len(namespaces(one.pid)) == len(namespaces(other.pid)) == 2
    assert one.end(signal.SIGTERM) == 143
    assert len(namespaces(other.pid)) == 2
    assert other.end(signal.SIGTERM) == 143
    assert namespaces(other.pid) == namespaces(one.pid) == []


@needs_root
def test_what_runs_in_a_namespace_of_nobody_s_is_ended(tool, program):
    """A process that its dead owner's kernel could not end: it began another."""
    begin = """
        import os, sys
        from artefacts.processes import start
        from experiments.replay.testbed.namespaces import NamespacePair
        with NamespacePair() as pair:
            start(["ip", "netns", "exec", pair.edge, "sh", "-c", "sleep 606 & echo $!; wait"])
            sys.stdin.readline()
    """
    one = tool(program(begin), stdin=-1)
    pid = int(one.line())
    one.process.kill()
    one.process.wait()
    one.until(lambda: list(one.children()) == [pid], "the end of its own child", 5.0)
    code = "from experiments.replay.testbed.namespaces import remove_orphans; remove_orphans()"
    assert tool(["-c", code]).end() == 0
    one.until(lambda: not one.children(), "the end of the rest", 5.0)
    assert namespaces(one.pid) == []


BENCHES = {
    "wire": (("wire", "--repeats", "100000", "--tls"), ("wire_peer blocking", "wire_peer coinfer")),
    "edge": (("edge", "--model", "alexnet", "--devices", "2", "--seconds", "600"), DAEMON[:1]),
    "device": (("device", "--scenario", "3g-alexnet", "--idle-s", "600"), DAEMON[1:]),
}


@pytest.mark.parametrize("number", KILLED)
@pytest.mark.parametrize("name", BENCHES)
def test_benches(tool, name, number):
    argv, processes = BENCHES[name]
    one = tool([*COINFER, "bench", *argv])
    one.running(*processes)
    ended(one, number)


@needs_root
@pytest.mark.parametrize("number", KILLED)
def test_the_bench_on_a_shaped_link(tool, number):
    one = tool([*COINFER, "bench", "wire", "--shaped", "--repeats", "10000"])
    one.running("wire_peer coinfer", "experiments.benches.shaped")
    ended(one, number)


@pytest.mark.parametrize("number", KILLED)
@pytest.mark.parametrize("name", ["chaos", "soak"])
def test_chaos_and_soak(tool, name, number):
    much = {"chaos": ("--frames", "100000"), "soak": ("--minutes", "60")}[name]
    one = tool(["-m", f"experiments.{name}", *much], OMP_NUM_THREADS="1")
    one.running(" edge --model", "ready0", "ready1")
    ended(one, number)


@pytest.mark.parametrize("number", KILLED)
def test_promise(tool, number):
    one = tool(["-m", "experiments.replay.promise", "--logs", "1", "--method", "relay"])
    one.running(*DAEMON)
    ended(one, number)


@pytest.mark.parametrize("number", KILLED)
def test_what_measures_a_layer_s_memory(tool, program, number):
    """It starts a process that computes for minutes."""
    one = tool(
        program("""
            from models.facts.cards import SHIPPED
            from models.networks.measuring.memory import measured_activations
            measured_activations(SHIPPED / "mobilenetv2", "torch")
        """)
    )
    one.running("models.networks.measuring.memory")
    one.end(number)
    assert one.process.returncode == -number


WORKER = """
    import time
    from concurrent.futures import ProcessPoolExecutor
    from experiments.sweeps.local import _prepare, _Spawned

    if __name__ == "__main__":
        with ProcessPoolExecutor(1, mp_context=_Spawned(), initializer=_prepare) as pool:
            print(pool.submit(pow, 2, 3).result(), flush=True)
            pool.submit(time.sleep, 600)
            time.sleep(600)
"""


@pytest.mark.parametrize("number", KILLED)
def test_a_sweep_s_workers(tool, program, number):
    """They are started by multiprocessing, and bind themselves."""
    one = tool(program(WORKER))
    assert one.line() == "8"
    assert one.children()
    assert one.end(number) == -number


def test_a_demo_s_replay(tool, program):
    """The demo's own steps, without the training that comes before."""
    text = """
        import sys
        from coinfer.cli.console import console
        from artefacts.endings import orderly
        from controller.scenarios import load_setting, read_scenario
        from experiments.demo import liveliest
        from experiments.replay.session import ReplayArgs, replay

        setting = load_setting(read_scenario("3g-alexnet"))
        with orderly():
            trace = liveliest(setting.traces("test").traces, 60.0)
            args = ReplayArgs("3g-alexnet", "algorithm1", None, "relay", 1)
            replay(setting, trace, args, console.print)
    """
    one = tool(program(text))
    one.running(*DAEMON)
    ended(one, signal.SIGTERM)
