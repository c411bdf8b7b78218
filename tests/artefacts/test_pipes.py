"""Pipes are read where somebody writes; a pipe that nobody writes into is refused."""

import os

import pytest

from artefacts import ArtefactError, digest_file, pipes, read_bytes


def test_a_pipe_that_nobody_writes_into_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(pipes, "WRITER_WAIT_S", 0.05)
    os.mkfifo(tmp_path / "pipe")
    for read in (read_bytes, digest_file):
        with pytest.raises(ArtefactError, match="found a pipe that nobody writes into"):
            read(tmp_path / "pipe")


def test_a_slow_writer_of_a_pipe_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(pipes, "WRITER_WAIT_S", 0.0)
    os.mkfifo(tmp_path / "pipe")
    writer = os.open(tmp_path / "pipe", os.O_RDWR)
    with pipes.open_to_read(tmp_path / "pipe") as stream:
        os.write(writer, b"abc")
        os.close(writer)
        assert stream.read() == b"abc"
