"""The log: alike lines are limited in rate and counted, both forms, both daemons' loggers."""

import fcntl
import io
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.daemon.configuration.settings import LogSettings
from controller.daemon.monitoring.log import (
    BURST,
    MOST_KINDS,
    MOST_WAITING_BYTES,
    WINDOW_S,
    LineWriter,
    RepeatLimit,
    set_up_log,
)


class Lines:
    """A limited handler into memory, on a clock that the test sets."""

    def __init__(self):
        self.now_s, self.stream = 0.0, io.StringIO()
        self.limit = RepeatLimit(logging.StreamHandler(self.stream), lambda: self.now_s)
        self.written = 0

    def write(self, message, *args, line=1):
        record = logging.LogRecord("x", logging.INFO, "a.py", line, message, args, None)
        self.limit.handle(record)

    @property
    def said(self):
        return self.stream.getvalue().splitlines()


def test_alike_lines_are_counted_and_the_count_is_written():
    lines = Lines()
    for number in range(1244):
        lines.write("connection %d", number)
    assert lines.said == [f"connection {k}" for k in range(BURST)]
    lines.now_s += WINDOW_S
    lines.write("something else", line=2)
    assert lines.said[BURST:] == ["connection 1243 … and 1,234 like it", "something else"]
    lines.write("connection %d", 7)
    assert lines.said[-1] == "connection 7"


def test_the_count_comes_without_a_further_line_too():
    lines = Lines()
    for _ in range(BURST + 3):
        lines.write("again")
    lines.limit.tell()
    assert len(lines.said) == BURST
    lines.now_s += WINDOW_S + 1.0
    lines.limit.tell()
    assert lines.said[BURST:] == ["again … and 3 like it"]
    lines.limit.tell()
    assert len(lines.said) == BURST + 1
    for _ in range(BURST + 2):
        lines.write("at the end")
    lines.limit.close()
    assert lines.said[-1] == "at the end … and 2 like it"


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0.0, 5.0)), max_size=200))
def test_every_line_is_written_or_counted(events):
    lines = Lines()
    for line, later_s in events:
        lines.now_s += later_s
        lines.write("kind", line=line)
    lines.limit.close()
    left_out = sum(int(s.split(" … and ")[1].split()[0]) for s in lines.said if " like it" in s)
    whole = sum(" like it" not in s for s in lines.said)
    assert whole + left_out == len(events)
    assert whole <= 4 * BURST * (1 + lines.now_s / WINDOW_S)


def test_kinds_without_end_are_forgotten_with_their_count():
    lines = Lines()
    for _ in range(BURST + 5):
        lines.write("first", line=0)
    for line in range(1, MOST_KINDS + 1):
        lines.write("other", line=line)
    assert "first … and 5 like it" in lines.said
    assert len(lines.limit._kinds) == MOST_KINDS


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_daemons_and_asyncio_write_through_it(form, capsys):
    names = ("coinfer.device", "coinfer.edge", "asyncio", "grpc")
    before = {n: logging.getLogger(n).handlers[:] for n in ("coinfer", "asyncio", "grpc",
                                                            "opentelemetry")}  # fmt: skip
    try:
        limit = set_up_log(LogSettings(form=form))
        for name in names:
            for _ in range(50):
                logging.getLogger(name).error("%s is in trouble", name)
        set_up_log(LogSettings(form=form))  # a reload: what was counted is written first
        said = capsys.readouterr().err.splitlines()
        assert limit not in logging.getLogger("coinfer").handlers
    finally:
        for name, handlers in before.items():
            logging.getLogger(name).handlers[:] = handlers
            logging.getLogger(name).propagate = True
            logging.getLogger(name).setLevel(logging.NOTSET)
        logging.getLogger("aiohttp").setLevel(logging.NOTSET)
    # one place in this file writes for all four names: it is one kind
    assert len(said) == BURST + 1
    text = json.loads(said[-1])["message"] if form == "json" else said[-1]
    assert text.endswith(f"grpc is in trouble … and {4 * 50 - BURST} like it")


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_line_is_one_line_of_bounded_length_whatever_it_holds(form, capsys):
    names = ("coinfer", "asyncio", "grpc", "opentelemetry", "aiohttp")
    before = {n: (logging.getLogger(n).handlers[:], logging.getLogger(n).level) for n in names}
    try:
        set_up_log(LogSettings(form=form))
        logging.getLogger("coinfer.edge").warning("model %s", "a\nb\x1b[2J" + "x" * 1_000_000)
        set_up_log(LogSettings(form=form))
        said = capsys.readouterr().err
    finally:
        for name, (handlers, level) in before.items():
            logging.getLogger(name).handlers[:] = handlers
            logging.getLogger(name).propagate = True
            logging.getLogger(name).setLevel(level)
    assert len(said.splitlines()) == 1
    assert "\x1b" not in said
    assert "characters ...]" in said
    assert len(said) < 1500


def test_a_reader_who_stands_still_holds_up_nobody_and_reads_what_it_missed():
    gate, written = threading.Event(), []

    def write(data):
        assert gate.wait(10.0)
        written.append(data)
        return len(data)

    writer = LineWriter(write)
    line = b"x" * 1023 + b"\n"
    for _ in range(MOST_WAITING_BYTES // len(line) + 100):  # does not return where one waits
        writer.put(line)
    assert not writer.flush(0.01)
    gate.set()
    assert writer.flush(10.0)
    writer.put(b"last\n")
    assert writer.flush(10.0)
    assert written[:-1] == [line] * (MOST_WAITING_BYTES // len(line))
    assert b"100 lines were left out" in written[-1]
    assert written[-1].endswith(b"\nlast\n")


def test_a_line_is_written_to_its_end_and_a_reader_who_is_gone_ends_nothing():
    written, broken = bytearray(), []

    def write(data):
        if broken:
            raise BrokenPipeError
        written.extend(data[:3])
        return min(len(data), 3)

    writer = LineWriter(write)
    writer.put(b"one line\n")
    assert writer.flush(10.0)
    broken.append(True)
    writer.put(b"lost\n")
    assert writer.flush(10.0)
    broken.clear()
    writer.put(b"two\n")
    assert writer.flush(10.0)
    assert written == b"one line\ntwo\n"


def test_a_process_whose_log_nobody_reads_goes_on_and_ends():
    """A pipe of a page, full from the start, that nobody ever reads."""
    code = (
        "import logging, sys\n"
        "from controller.daemon.monitoring.log import set_up_log\n"
        "from controller.daemon.configuration.settings import LogSettings\n"
        "set_up_log(LogSettings())\n"
        "for k in range(20000):\n"
        "    logging.getLogger('coinfer.device').log(20 + k % 3, 'line %d %s', k, 'x' * 500)\n"
        "print('done', flush=True)\n"
    )
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writer, False)
    os.write(writer, bytes(4096))
    os.set_blocking(writer, True)
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], stderr=writer, stdout=subprocess.PIPE, timeout=60,
            check=False,
        )  # fmt: skip
    finally:
        os.close(reader)
        os.close(writer)
    assert (done.returncode, done.stdout) == (0, b"done\n")


def test_a_plain_edge_whose_log_nobody_reads_serves_and_ends(tmp_path):
    """The pipe is full before the edge has said a word."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writer, False)
    os.write(writer, bytes(4096))
    os.set_blocking(writer, True)
    port_file = tmp_path / "port"
    command = [sys.executable, "-m", "coinfer.cli.main", "edge", "--port", "0"]
    edge = subprocess.Popen([*command, "--port-file", port_file], stderr=writer, stdout=writer)
    try:
        end = time.monotonic() + 60
        while not port_file.exists() or not port_file.read_text():
            assert time.monotonic() < end, "it waits for whoever reads its log"
            time.sleep(0.02)
        socket.create_connection(("127.0.0.1", int(port_file.read_text())), 10).close()
        edge.terminate()
        assert edge.wait(20) == 0
    finally:
        edge.kill()
        edge.wait()
        os.close(reader)
        os.close(writer)
