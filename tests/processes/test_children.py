"""Children end with the process that started them, whatever way it ends: real processes."""

import ast
import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from artefacts import processes

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("artefacts", "traces", "models", "controller", "envs", "experiments", "coinfer")
STARTERS = {
    "artefacts/processes.py",
    # it stands between us and a user's command, and is itself started and bound as all are
    "experiments/replay/cell/enter.py",
    # its workers are started by multiprocessing, and bind themselves (`end_with_parent`)
    "experiments/sweeps/local.py",
}
STARTING = {"Popen", "run", "call", "check_call", "check_output", "getoutput", "getstatusoutput"}

HOLDER = """
import signal, sys, time
from artefacts.owners import temporary_folder
from artefacts.processes import Children

DEAF = "import signal, time; signal.signal(15, 1); print(0, flush=True); time.sleep(600)"
with temporary_folder("held") as folder, Children(grace_s=0.5) as children:
    deaf = children.start([sys.executable, "-c", DEAF], stdout=-1, text=True)
    deaf.stdout.readline()
    stopped = children.start(["sleep", "602"])
    stopped.send_signal(signal.SIGSTOP)
    {more}
    print(folder, flush=True)
    {what}
"""
GRANDCHILD = 'children.start(["sh", "-c", "sleep 601 & wait"])'
WAIT = "time.sleep(600)"


@pytest.mark.parametrize(
    ("what", "number", "code"),
    [
        (WAIT, signal.SIGINT, -signal.SIGINT),
        (WAIT, signal.SIGTERM, 128 + signal.SIGTERM),
        (WAIT, signal.SIGHUP, 128 + signal.SIGHUP),
        ("raise ZeroDivisionError", None, 1),
        ("sys.exit(3)", None, 3),
        ("pass", None, 0),
    ],
)
def test_nothing_stays_however_a_tool_ends(tool, program, what, number, code):
    one = tool(program(HOLDER.format(what=what, more=GRANDCHILD)))
    assert Path(one.line()).parent == one.folder
    assert one.end(number) == code, one.said
    assert one.left() == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGQUIT, signal.SIGABRT])
def test_what_a_killed_tool_started_is_killed_and_the_next_clears_its_folder(tool, program, number):
    one = tool(program(HOLDER.format(what=WAIT, more="")))
    name = Path(one.line()).name
    assert len(one.children()) == 2
    assert one.end(number) == -number
    assert one.left() == [name]
    other = tool(program(HOLDER.format(what="pass", more="")))
    assert other.end() == 0
    assert other.left() == []


def test_a_run_beside_it_loses_nothing(tool, program):
    one = tool(program(HOLDER.format(what=WAIT, more="")))
    name = Path(one.line()).name
    other = tool(program(HOLDER.format(what="pass", more="")))
    assert other.end() == 0
    assert one.left() == [name]
    assert len(one.children()) == 2
    assert one.end(signal.SIGTERM) == 143


def test_a_child_whose_parent_ends_before_it_could_be_bound_ends_too(tool, program):
    """The launcher asks who its parent is after it has asked the kernel: no moment is left out."""
    command = ["-I", "-S", processes.BOUND, os.getpid() + 1, 2, "sleep", "603"]
    one = tool(command)
    assert one.end() == 128 + signal.SIGKILL


def test_signals_that_are_ignored_stay_ignored(tool, program):
    """As `nohup` wants it."""
    one = tool(program(HOLDER.format(what="sys.stdin.read()", more="")), ignored=(signal.SIGHUP,))
    one.line()
    one.process.send_signal(signal.SIGHUP)
    assert one.end(signal.SIGTERM) == 143


SLOW_END = """
import os, signal, sys, time
from artefacts.endings import orderly, shielded, unwind_from_start

{begin}
with orderly():
    try:
        print("ready", flush=True)
        time.sleep(600)
    finally:
        with shielded():
            print("cleaning", flush=True)
            sys.stdin.readline()
            print("cleaned", flush=True)
"""


@pytest.mark.parametrize("begin", ["", "unwind_from_start()"], ids=["script", "command"])
@pytest.mark.parametrize(("second", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, -2)])
def test_cleaning_up_is_not_cut_short(tool, program, second, code, begin):
    one = tool(program(SLOW_END.format(begin=begin)), stdin=subprocess.PIPE)
    assert one.line() == "ready"
    one.process.send_signal(signal.SIGTERM)
    assert one.line() == "cleaning"
    one.process.send_signal(second)
    one.process.stdin.write("go on\n")
    one.process.stdin.close()
    assert one.line() == "cleaned"
    assert one.process.wait(10) == code


HALF_MADE = """
import os
from artefacts.endings import orderly, unwind_from_start

class Loop:
    def __init__(self):
        os.kill(os.getpid(), {number})
        self.handlers = {{}}

    def __del__(self):
        print("taken down", flush=True)
        self.handlers.clear()

{begin}
"""


@pytest.mark.parametrize(
    "begin",
    ["with orderly():\n    Loop()", "unwind_from_start()\nLoop()"],
    ids=["script", "command"],
)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, -2)])
def test_what_a_signal_leaves_half_made_fails_in_silence(tool, program, number, code, begin):
    one = tool(program(HALF_MADE.format(begin=begin, number=int(number))))
    assert one.line() == "taken down"
    assert one.end() == code
    assert "AttributeError" not in one.said[1]


WORK = """
import asyncio, sys
from artefacts.endings import run_async, unwind_from_start

async def work():
    try:
        print("ready", flush=True)
        await asyncio.sleep(600)
    finally:
        await asyncio.sleep(0)  # what is awaited here happens
        print("ended", flush=True)

run_async(work())
"""


@pytest.mark.parametrize("begin", ["", "unwind_from_start()"], ids=["script", "command"])
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, -2)]
)
def test_asynchronous_work_is_cancelled(tool, program, number, code, begin):
    one = tool(program(WORK.replace("run_async(work())", f"{begin}\nrun_async(work())")))
    assert one.line() == "ready"
    one.process.send_signal(number)
    assert one.line() == "ended"
    assert one.process.wait(10) == code


def test_a_command_that_is_not_there_is_named_and_a_long_one_ends():
    with pytest.raises(FileNotFoundError, match="no-such-command"):
        processes.start(["no-such-command"])
    with pytest.raises(subprocess.TimeoutExpired, match="sleep"):
        processes.run(["sleep", "604"], timeout_s=0.1)
    done = processes.run([sys.executable, "-c", "import sys; print(1); sys.exit(4)"])
    assert (done.returncode, done.stdout) == (4, "1\n")


def test_an_event_loop_goes_on_while_a_child_starts():
    async def started():
        turns, over = 0, asyncio.Event()

        async def go_on():
            nonlocal turns
            while not over.is_set():
                turns += 1
                await asyncio.sleep(0)

        going = asyncio.create_task(go_on())
        child = await processes.start_beside(["sleep", "606"])
        over.set()
        await going
        processes.end([child])
        with pytest.raises(FileNotFoundError, match="no-such-command"):
            await processes.start_beside(["no-such-command"])
        return turns, child.returncode

    turns, code = asyncio.run(started())
    assert turns > 1
    assert code == -signal.SIGTERM


def test_only_the_main_thread_starts_what_goes_on():
    """The kernel would end the child with the thread."""
    seen = []

    def begin():
        try:
            processes.start(["sleep", "605"])
        except RuntimeError as error:
            seen.append(str(error))

    thread = threading.Thread(target=begin)
    thread.start()
    thread.join()
    assert len(seen) == 1
    assert "main thread" in seen[0]


def test_a_file_of_the_working_folder_is_not_taken_for_ours(tmp_path, monkeypatch):
    """With the package installed or not: the child finds the code that this process runs."""
    for name in ("models", "artefacts", "controller", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not ours')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    code = "import models.facts.cards, artefacts, json; print(artefacts.__file__)"
    done = processes.run([sys.executable, "-P", "-c", code])
    assert (done.returncode, done.stderr) == (0, "")
    assert Path(done.stdout.strip()) == ROOT / "artefacts" / "__init__.py"
    done = processes.run(processes.module_command("coinfer.cli.main", "--help"))
    assert done.returncode == 0, done.stderr


def test_installed_packages_are_not_put_before_the_standard_library(monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert processes.child_environment()["PYTHONPATH"] == str(ROOT)
    assert processes.child_environment({"PYTHONPATH": "/x"})["PYTHONPATH"] == f"{ROOT}:/x"
    monkeypatch.setattr("site.getsitepackages", lambda: [str(ROOT)])
    assert "PYTHONPATH" not in processes.child_environment({"A": "b"})


def starts(path):
    """Lines of a source that start a process by themselves."""
    return [n.lineno for n in ast.walk(ast.parse(path.read_text())) if calls(n) or imports(n)]


def calls(node):
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return False
    owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
    name = node.func.attr
    by_os = owner == "os" and name.startswith(("fork", "spawn", "posix_spawn", "system", "popen"))
    return (
        by_os
        or (owner == "subprocess" and name in STARTING)
        or name.startswith("create_subprocess_")
    )


def imports(node):
    if not isinstance(node, ast.Import | ast.ImportFrom):
        return False
    names = [a.name for a in node.names]
    module = getattr(node, "module", None) or ""
    rooms = {name.split(".")[0] for name in (*names, module)}
    return bool(rooms & {"multiprocessing", "pty", "ProcessPoolExecutor"}) or module == "subprocess"


def test_there_is_one_way_to_start_a_process():
    found = {
        str(path.relative_to(ROOT)): lines
        for room in ROOMS
        for path in sorted((ROOT / room).rglob("*.py"))
        if (lines := starts(path))
    }
    assert set(found) == STARTERS, found
