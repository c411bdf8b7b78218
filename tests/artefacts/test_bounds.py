"""Files larger than their readers believe possible are refused before the memory is full."""

import os
import threading
import tracemalloc
from pathlib import Path

import msgspec
import pytest

from artefacts import ArtefactError, read_bytes, read_json, read_toml
from controller.link.secure import read_token


class Card(msgspec.Struct):
    name: str


@pytest.mark.parametrize(
    ("read", "most"),
    [
        (lambda path: read_json(path, Card), "64 MiB"),
        (lambda path: read_json(path, Card, most_bytes=2**20), "1 MiB"),
        (lambda path: read_toml(path, Card), "1 MiB"),
        (lambda path: read_bytes(path, 1000), "1000 bytes"),
        (read_token, "1 MiB"),
    ],
)
def test_a_sparse_file_of_two_gibibytes_is_refused_unread(tmp_path, read, most):
    path = tmp_path / "sparse"
    path.touch()
    os.truncate(path, 2**31)
    tracemalloc.start()
    try:
        with pytest.raises(ArtefactError) as error:
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    assert str(error.value) == f"{path}: found a file of more than {most}, expected at most {most}"


def test_a_pipe_has_no_size_and_is_read_up_to_the_bound():
    reader, writer = os.pipe()

    def write():
        with open(writer, "wb") as stream:
            stream.write(b"x" * 1001)

    writing = threading.Thread(target=write)
    writing.start()
    try:
        with pytest.raises(ArtefactError, match="found a file of more than 1000 bytes"):
            read_bytes(Path(f"/dev/fd/{reader}"), 1000)
    finally:
        writing.join()
        os.close(reader)


@pytest.mark.parametrize("size", [0, 1, 2**18, 2**18 + 1, 2**20])
def test_what_is_within_the_bound_comes_whole(tmp_path, size):
    path = tmp_path / "file"
    path.write_bytes(os.urandom(size))
    assert read_bytes(path, 2**20) == path.read_bytes()
