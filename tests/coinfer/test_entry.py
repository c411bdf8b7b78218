"""What holds for every command: streams that are full, closed or ASCII; names that are no text."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from forked_commands import Server

from coinfer.cli import entry

ROOT = Path(__file__).parents[2]

ODD = os.fsdecode("[red]b\xfccher[/] \xe4".encode("latin-1")).replace("/", "|")
"""A file's name in Latin-1, which is no UTF-8, with brackets that styles are written in."""
LOCALES = {
    "utf-8": {"LANG": "C.UTF-8"},
    "c": {"LANG": "C", "LC_ALL": "C"},
    "c-strict": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
}


def environment(locale):
    """All that a process in this locale is given."""
    usual = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHONIO"))}
    return usual | LOCALES[locale]


def coinfer(*argv, cwd, locale="utf-8", **options):
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.run(
        [sys.executable, "-m", "coinfer.cli.entry", *map(str, argv)], cwd=cwd, check=False,
        env=environment(locale), timeout=120, **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    path = tmp_path_factory.mktemp("trace") / "trace.csv"
    done = coinfer("traces", "generate", "--seconds", "30", "--out", path, cwd=path.parent)
    assert done.returncode == 0, done.stderr
    return path


# -- standard streams ------------------------------------------------------------------------------


def test_a_reader_that_goes_away_ends_it_quietly(trace):
    command = [sys.executable, "-m", "coinfer.cli.entry", "traces", "info", str(trace), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) in (entry.PIPE_CLOSED, 1)
    assert said == b""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_output_that_finds_no_room_is_one_line(trace):
    with open("/dev/full", "w") as full:
        done = coinfer("traces", "info", trace, "--json", cwd=trace.parent, stdout=full)
    assert done.returncode == 2
    assert done.stderr.decode() == (
        "coinfer: found no space left on device, expected room to work in\n"
    )


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_streams_that_are_closed_are_done_without(trace, closed, tmp_path):
    made = tmp_path / "made.csv"
    script = "".join(f"{n}{'<' if n == 0 else '>'}&- " for n in closed)
    command = [sys.executable, "-m", "coinfer.cli.entry", "traces", "convert", trace, made]
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" ' + script, "sh", *map(str, command)], capture_output=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == b"" or 2 not in closed
    assert made.read_bytes()[:10] == trace.read_bytes()[:10]


def test_libraries_are_bound_where_a_process_may_use_less_than_the_machine(monkeypatch):
    for name in entry.THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    entry._bound_threads(4, 4)
    assert not set(entry.THREAD_VARIABLES) & set(os.environ)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # what a unit or a user says stays
    entry._bound_threads(2, 64)
    assert [os.environ.pop(name) for name in entry.THREAD_VARIABLES] == ["1", "2", "2"]


# -- names -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=LOCALES)
def in_locale(request, tmp_path_factory):
    """A locale's name, and `run(*argv, cwd=)`: commands of processes that began in it."""
    server = Server(str(ROOT), environment(request.param))
    env = environment(request.param)

    def run(*argv, cwd):
        folder = tmp_path_factory.mktemp("streams")
        return server.run("coinfer.cli.entry", *argv, cwd=cwd, folder=folder, env=env, text=False)

    yield request.param, run
    server.close()


def test_a_name_that_is_no_text_is_printed_in_every_locale(tmp_path, in_locale):
    locale, run = in_locale
    (tmp_path / ODD).mkdir()
    (tmp_path / ODD / ODD).write_bytes(b"no trace")
    (tmp_path / ODD / "device.toml").write_text("format_version = 1\nscenario = 3\n")
    commands = (
        ("traces", "info", f"{ODD}/{ODD}"),
        ("traces", "info", f"{ODD}/nowhere"),
        ("device", "--config", f"{ODD}/device.toml"),
        ("edge", "--model", ODD),
        ("edge", "--config", f"{ODD}/nowhere.toml"),
        ("edge", "--host", ODD),
        ("edge", "--port-file", f"{ODD}"),
        ("device", "--scenario", "edgent", "--edge", ODD),
        ("plan", "--scenario", f"{ODD}/x.toml", "--bandwidth", "1"),
        ("compare", "--scenario", "edgent", "--traces", f"{ODD}/nowhere"),
        ("map", "--scenario", "edgent", "--out", f"{ODD}"),
        ("report", "--results", f"{ODD}/nowhere", "--out", "x.html"),
        ("top", ODD),
        (ODD,),
        (f"--{ODD}",),
    )
    for argv in commands if locale == "ascii" else commands[:4]:
        done = run(*argv, cwd=tmp_path)
        said = done.stderr.decode("latin-1")
        assert done.returncode == 2, (argv, said)
        assert "Traceback" not in said
        assert len([x for x in said.splitlines() if x.startswith("coinfer: ")]) == 1, said
        assert "[red]" in said


def test_files_of_such_names_are_read_and_written(tmp_path, in_locale, trace):
    _, run = in_locale
    (tmp_path / ODD).write_bytes(trace.read_bytes())
    done = run("traces", "convert", ODD, f"{ODD}.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / f"{ODD}.csv").exists()
    done = run("certs", "init", "--dir", f"{ODD}-certs", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


# -- what the system refuses -----------------------------------------------------------------------


def refused(error, capsys):
    code = entry._refused(error)
    out = capsys.readouterr()
    assert out.out == ""
    return code, out.err


@pytest.fixture
def kept_output():
    """Standard output, put back after a test that lets go of it."""
    kept = os.dup(1)
    yield
    os.dup2(kept, 1)
    os.close(kept)


@pytest.mark.usefixtures("kept_output")
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(13, "Permission denied", "/a"), "coinfer: /a: found permission denied"),
        (OSError(28, "No space left on device"), "coinfer: found no space left on device"),
        (OSError(24, "Too many open files"), "coinfer: found too many open files"),
        (FileNotFoundError(2, "No usable temporary directory found in ['/x']"),
         "coinfer: No usable temporary directory found in ['/x']"),
        (OSError(2, "No such file or directory", b"/b"), "coinfer: /b: found no such file"),
        (OSError(9, "Bad file descriptor", 7), "coinfer: 7: found bad file descriptor"),
    ],
)  # fmt: skip
def test_what_the_system_refuses_is_one_line(error, said, capsys):
    code, line = refused(error, capsys)
    assert code == 2
    assert line.startswith(said)
    assert line.count("\n") == 1


@pytest.mark.usefixtures("kept_output")
@pytest.mark.parametrize(
    "error", [OSError("a mistake of ours"), OSError(9, "Bad file descriptor"), BrokenPipeError(32)]
)
def test_a_mistake_of_ours_is_raised(error, capsys):
    with pytest.raises(OSError, match=r"."):
        entry._refused(error)


def test_the_public_names_are_there_without_being_loaded():
    script = (
        "import sys, coinfer\n"
        "assert 'numpy' not in sys.modules\n"
        "from coinfer import *\n"
        "assert issubclass(DeviceError, CoinferError) and Client and AsyncClient and Inference\n"
        "assert set(coinfer.__all__) <= set(dir(coinfer))\n"
        "print(coinfer.__version__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip()
    import coinfer as package

    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        package.Nothing  # noqa: B018


@pytest.mark.parametrize("name", [ODD, "$x_{$", "_hidden", "a\nb", "\u4e2d\U0001f600"])
def test_a_trace_of_any_name_is_drawn(tmp_path, trace, name):
    (tmp_path / name).write_bytes(trace.read_bytes())
    done = coinfer("traces", "plot", name, "--out", f"{name}.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / f"{name}.png").read_bytes()[:4] == b"\x89PNG"


def test_a_name_that_holds_line_ends_and_colours_is_one_line(tmp_path):
    done = coinfer("traces", "info", "a\nb\r\x1b[2Jc\u2028d", cwd=tmp_path)
    assert done.returncode == 2
    said = done.stderr.decode()
    assert said.startswith(r"coinfer: a\nb\r\x1b[2Jc\u2028d: found no such file")
    assert said.count("\n") == len(said.splitlines()) == 1


# -- code of a user's that does not end ------------------------------------------------------------

STUBBORN = """
import threading, time
from artefacts import endings
from coinfer.cli import entry

def thread():
    threading.Thread(target=time.sleep, args=(1e6,), name="theirs").start()
    return 3

def swallowing():
    begun = False
    while True:
        try:
            if not begun:
                begun = True
                print("begun", flush=True)
            time.sleep(0.05)
        except BaseException:
            pass

entry.THREADS_S = 0.2
endings.SOON_S = {soon_s}
entry._command = {what}
entry.run()
"""


def stubborn(what, soon_s=10.0):
    return subprocess.Popen(
        [sys.executable, "-c", STUBBORN.format(what=what, soon_s=soon_s)], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def test_a_thread_that_never_ends_is_not_waited_for():
    process = stubborn("thread")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 3, said
    assert said == (
        "coinfer: found thread 'theirs' still running, expected none: it is not waited for\n"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_code_that_swallows_every_signal_is_ended_by_the_fifth(number):
    process = stubborn("swallowing")
    assert process.stdout.readline() == "begun\n"
    sent = 0
    while process.poll() is None and sent < 200:
        process.send_signal(number)
        sent += 1
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.3)
    process.kill()
    process.communicate()
    assert process.returncode == -number
    assert sent >= 5


def test_signals_that_come_far_apart_are_not_counted_together():
    """A process that runs for a year may be asked five times to stop what it is at."""
    process = stubborn("swallowing", soon_s=0.0)
    assert process.stdout.readline() == "begun\n"
    for _ in range(8):
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.1)
    assert process.poll() is None
    process.kill()
    process.communicate()
