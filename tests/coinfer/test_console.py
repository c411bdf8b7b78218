"""Whatever is printed comes out as it is: names, paths and errors are no markup."""

import ast
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from coinfer.cli.console import PlainConsole, emit_json, print_table, progress_bar
from coinfer.cli.running.top import render

ROOT = Path(__file__).parents[2]
STRANGE = ("[/a]", "[bold]b[/bold]", "[link=x]", "x[1].csv", ":smile:", "[", "[/", "a" * 200)


@pytest.mark.parametrize("text", STRANGE)
def test_text_is_printed_as_it_is(text, capsys):
    PlainConsole().print(text)
    PlainConsole().print(f"edge: {text}", soft_wrap=True)
    print_table(text, ["name", text], [[text, 1]])
    said = capsys.readouterr().out
    assert said.startswith(f"{text}\nedge: {text}\n{text[:100]}")
    rows = said.splitlines()[3:]
    assert sum(text[:20] in row for row in rows) >= 2


def test_nothing_that_is_printed_is_obeyed_by_a_terminal(capsys):
    PlainConsole().print("a\x1b]0;x\x07b\nc")
    print_table("t\x1b[2J", ["n\x07"], [["c\x1b[31m"]])
    said = capsys.readouterr().out
    assert said.startswith("a\\x1b]0;x\\x07b\nc\n")
    assert "\x1b" not in said
    assert "\x07" not in said


@pytest.mark.parametrize("text", STRANGE)
def test_a_progress_bar_s_words_are_text_too(text, capsys):
    with progress_bar() as bar:
        task = bar.add_task(text, total=1, note=text)
        bar.update(task, completed=1)
    assert text[:20] in capsys.readouterr().err


def test_where_nobody_watches_a_task_is_a_line_a_tenth(capsys):
    """Epochs are no tasks of their own; a stage is, and begins anew."""
    now = [0.0]
    with progress_bar(lambda: now[0]) as bar:
        task = bar.add_task("exits", total=None, note="")
        for done in range(1, 701):
            now[0] += 1.0
            bar.update(task, completed=done, total=700)
        bar.update(task, description="outcomes")
        for done in range(1, 21):
            now[0] += 0.1
            bar.update(task, completed=done, total=20, note="codecs")
    lines = capsys.readouterr().err.splitlines()
    exits = [line for line in lines if line.startswith("exits")]
    assert [line.split(",")[0] for line in exits] == [f"exits: {10 * k} %" for k in range(11)]
    assert exits[1] == "exits: 10 %, 10 min left"
    assert exits[9] == "exits: 90 %, 70 s left"
    assert exits[10] == "exits: 100 %"
    outcomes = lines[11:]
    assert outcomes == ["outcomes", *(f"outcomes: {10 * k} %, codecs" for k in range(11))]


def test_json_holds_names_that_are_no_text(capsys):
    emit_json([{"file": os.fsdecode(b"caf\xe9.csv"), "rate": np.float32(0.5)}])
    assert json.loads(capsys.readouterr().out) == [{"file": "caf\\udce9.csv", "rate": 0.5}]


def test_the_screen_of_top_is_text(capsys):
    state = {
        "model": "[/m]", "controller": "[/c]", "deadline_ms": 100.0, "connected": True,
        "edge": "[::1]:7700", "rtt_ms": 1.0, "breaker_open": False, "frames": 1, "late": 0,
        "refused": 0, "seconds": [],
    }  # fmt: skip
    PlainConsole(width=200).print(render(state, 200))
    assert (
        "[/m], [/c], deadline 100 ms; edge [::1]:7700, round trip 1 ms" in capsys.readouterr().out
    )
    handed_over = "the robust planner decided 93 % of the last minute's frames"
    assert handed_over in render(state | {"policy_fallback_share": 0.93}, 200)
    for quiet in ({}, {"policy_fallback_share": None}, {"policy_fallback_share": 0.0}):
        assert "robust planner" not in render(state | quiet, 200)


def test_no_other_console_is_made():
    made = []
    for room in ("coinfer", "controller", "experiments", "models", "traces", "envs", "artefacts"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and node.module == "rich.console":
                    made.append(str(path.relative_to(ROOT)))
                if isinstance(node, ast.ImportFrom) and node.module == "rich":
                    made.append(str(path.relative_to(ROOT)))
    assert made == ["coinfer/cli/console.py"]


def test_bytes_from_outside_do_not_end_an_edge(tmp_path):
    port = tmp_path / "port"
    edge = subprocess.Popen(
        [sys.executable, "-m", "coinfer.cli.main", "edge", "--model", "alexnet", "--port", "0",
         "--port-file", port], cwd=tmp_path, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        end = time.monotonic() + 60
        while not port.exists():
            assert edge.poll() is None
            assert time.monotonic() < end
            time.sleep(0.02)
        with socket.create_connection(("127.0.0.1", int(port.read_text()))) as client:
            client.sendall(b"[/a]" + bytes(200))
            assert client.recv(1) == b""  # hung up
        said = ""
        while "[/a]" not in said:
            line = edge.stderr.readline()
            assert line, said
            said += line
        edge.send_signal(signal.SIGTERM)
        assert edge.wait(30) == 0
        assert "0 requests served" in edge.stderr.read()
    finally:
        edge.kill()
        edge.wait()
        edge.stderr.close()
