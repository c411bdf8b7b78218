"""Files that are whole or absent on disks that are full, read-only or no disks; text as editors
of other systems write it."""

import contextlib
import json
import os
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import msgspec
import numpy as np
import pytest

from artefacts import (
    ArtefactError,
    atomic_write,
    digest_file,
    encode_json,
    printable,
    read_bytes,
    read_json,
    read_toml,
    ready_file,
    ready_folder,
    write_json,
)

pytestmark = pytest.mark.system
LIMIT = 65536


class Card(msgspec.Struct):
    name: str
    size: int = 0


def by_bytes(stream):
    stream.write(bytes(4 * LIMIT))


def by_many_bytes(stream):
    for _ in range(LIMIT):
        stream.write(b"1234")


def by_numpy(stream):
    np.savez(stream, x=np.zeros(LIMIT))


def by_one_array(stream):
    np.save(stream, np.zeros(LIMIT))


def by_zip(stream):
    import zipfile

    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("x", bytes(4 * LIMIT))


def by_pillow(stream):
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    Image.fromarray(noise).save(stream, format="png")


def by_matplotlib(stream):
    figures = pytest.importorskip("matplotlib.figure")
    noise = np.random.default_rng(0).random((300, 300))
    figure = figures.Figure()
    figure.subplots().imshow(noise)
    figure.savefig(stream, format="png", dpi=300)


def by_torch(stream):
    torch = pytest.importorskip("torch")
    torch.save({"x": torch.zeros(LIMIT)}, stream)


def by_parquet(stream):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    noise = np.random.default_rng(0).random(LIMIT)
    parquet.write_table(pyarrow.table({"x": noise}), stream)


@contextlib.contextmanager
def small_files():
    """The system refuses to let a file grow beyond `LIMIT` (EFBIG), as a full disk would."""
    before, usual = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, usual)


@pytest.mark.parametrize(
    "write",
    [by_bytes, by_many_bytes, by_numpy, by_one_array, by_zip, by_pillow, by_matplotlib, by_torch,
     by_parquet],
)  # fmt: skip
def test_whatever_writes_a_refused_byte_is_one_line_and_leaves_the_old_file(tmp_path, write):
    path = tmp_path / "kept"
    path.write_bytes(b"old")
    with small_files(), pytest.raises(ArtefactError) as error:
        with atomic_write(path, "wb") as stream:
            write(stream)
    assert str(error.value) == f"{path}: found file too large, expected a file that can be written"
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["kept"]


def test_text_that_finds_no_room_is_refused_when_it_is_flushed(tmp_path):
    with small_files(), pytest.raises(ArtefactError, match="found file too large"):
        with atomic_write(tmp_path / "text") as stream:
            stream.write("ä" * LIMIT)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    "write", [by_bytes, by_numpy, by_one_array, by_zip, by_pillow, by_matplotlib, by_torch,
              by_parquet]
)  # fmt: skip
def test_what_libraries_write_is_read_back(tmp_path, write):
    with atomic_write(tmp_path / "whole", "wb") as stream:
        write(stream)
    assert (tmp_path / "whole").stat().st_size > 100
    assert stat.S_IMODE((tmp_path / "whole").stat().st_mode) == 0o644
    assert os.listdir(tmp_path) == ["whole"]


def test_arrays_survive(tmp_path):
    with atomic_write(tmp_path / "a.npz", "wb") as stream:
        np.savez(stream, x=np.arange(5))
    with np.load(tmp_path / "a.npz") as archive:
        assert archive["x"].tolist() == [0, 1, 2, 3, 4]


def test_a_mistake_in_the_block_is_not_the_disk_s(tmp_path):
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        with atomic_write(tmp_path / "x") as stream:
            stream.write("half")
            (tmp_path / "elsewhere").read_bytes()
    with pytest.raises(BrokenPipeError):
        with atomic_write(tmp_path / "x") as stream:
            raise BrokenPipeError(32, "Broken pipe")
    with pytest.raises(ZeroDivisionError):
        with atomic_write(tmp_path / "x") as stream:
            stream.write("half")
            raise ZeroDivisionError
    with pytest.raises(KeyboardInterrupt):
        with atomic_write(tmp_path / "x") as stream:
            stream.write("half" * LIMIT)
            raise KeyboardInterrupt
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("name", ["x" * 255, "ä" * 127, "with\n[red] brackets[bold]"])
def test_the_longest_names_are_written(tmp_path, name):
    write_json(tmp_path / name, {"a": 1})
    assert os.listdir(tmp_path) == [name]


def test_names_that_are_no_utf_8_are_written_read_and_named(tmp_path):
    path = tmp_path / os.fsdecode(b"b\xfccher.json")
    write_json(path, Card("a", 1))
    assert os.listdir(os.fsencode(tmp_path)) == [b"b\xfccher.json"]
    assert read_json(path, Card) == Card("a", 1)
    path.write_text("{")
    with pytest.raises(ArtefactError) as error:
        read_json(path, Card)
    assert str(error.value).encode("utf-8", "backslashreplace").count(b"b\\udcfccher") == 1


def test_names_that_are_no_utf_8_are_json_in_escapes(tmp_path):
    odd = os.fsdecode(b"b\xfccher")
    value = {"files": [odd, "\u00fc"], odd: (Card(odd, 2), 1.5, None)}
    said = json.loads(encode_json(value))
    assert said["files"] == ["b\\udcfccher", "\u00fc"]
    assert said["b\\udcfccher"] == [{"name": "b\\udcfccher", "size": 2}, 1.5, None]
    write_json(tmp_path / "a.json", value)
    assert json.loads((tmp_path / "a.json").read_text()) == said
    assert encode_json({"a": 1}) == b'{"a":1}'


def refused(path):
    with pytest.raises(ArtefactError) as error:
        write_json(path, {"a": 1})
    assert str(error.value).startswith(f"{path}: found ")
    assert str(error.value).endswith(", expected a file that can be written")
    with pytest.raises(ArtefactError, match="a file that can be written"):
        ready_file(path)
    return error.value.found


def test_what_cannot_be_a_file_is_refused_and_stays(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as sock:
        sock.bind(str(tmp_path / "socket"))
    assert refused(tmp_path / "folder") == "a folder"
    assert refused(tmp_path / "pipe") == "a pipe"
    assert refused(tmp_path / "socket") == "a socket"
    assert refused(tmp_path / "file" / "x") == "not a directory"
    assert refused(tmp_path / "loop") == "too many levels of symbolic links"
    assert refused(tmp_path / ("x" * 256)) == "file name too long"
    assert "null" in refused(tmp_path / "a\0b")
    before = Path(os.devnull).stat().st_rdev
    assert refused(Path(os.devnull)) == "a device"
    assert Path(os.devnull).stat().st_rdev == before
    assert sorted(os.listdir(tmp_path)) == ["file", "folder", "loop", "pipe", "socket"]


def test_what_cannot_be_read_is_one_line(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text("")
    for path, found in (
        (tmp_path / "nowhere", "no such file"),
        (tmp_path, "a folder"),
        (tmp_path / "file" / "x", "not a directory"),
        (tmp_path / "loop", "too many levels of symbolic links"),
        (tmp_path / ("x" * 256), "file name too long"),
        (Path("/dev/zero"), "a device"),
        (Path("/proc/self/mem"), "input/output error"),
    ):
        for read in (read_bytes, digest_file, lambda p: read_json(p, Card)):
            with pytest.raises(ArtefactError) as error:
                read(path)
            assert str(error.value).startswith(f"{path}: found {found}, expected a ")


def test_a_pipe_that_was_given_is_read_and_one_in_the_file_system_is_not_waited_for(tmp_path):
    reader, writer = os.pipe()
    os.write(writer, b'{"name": "a"}')
    os.close(writer)
    try:
        assert read_json(Path(f"/dev/fd/{reader}"), Card) == Card("a")
    finally:
        os.close(reader)
    os.mkfifo(tmp_path / "pipe")
    for read in (read_bytes, digest_file, lambda p: read_toml(p, Card)):
        with pytest.raises(ArtefactError, match="found a pipe, expected a file"):
            read(tmp_path / "pipe")


def test_a_file_that_is_replaced_keeps_who_may_read_it(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"name": "a"})
    assert path.stat().st_mode & 0o777 == 0o644
    path.chmod(0o600)
    write_json(path, {"name": "b"})
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_of_more_bytes_than_wanted_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * (2**20 + 1))
    assert len(read_bytes(tmp_path / "a", 2**20 + 1)) == 2**20 + 1
    with pytest.raises(ArtefactError, match="found a file of more than 1 MiB, expected at most 1"):
        read_bytes(tmp_path / "a", 2**20)


def test_a_name_of_anything_prints_in_one_line():
    assert printable("Straße [b]") == "Straße [b]"
    assert printable("a\n\x1b[31m\udcff\xa0") == r"a\n\x1b[31m\udcff\xa0"


def test_a_folder_and_a_file_are_tried_before_long_work(tmp_path):
    assert ready_folder(tmp_path / "a" / "b").is_dir()
    assert ready_file(tmp_path / "c" / "d.json") == tmp_path / "c" / "d.json"
    assert ready_folder(tmp_path / "e" / "f", make=False) == tmp_path / "e" / "f"
    assert not os.listdir(tmp_path / "a" / "b")
    assert os.listdir(tmp_path) == ["a"]
    (tmp_path / "file").write_text("")
    for make in (True, False):
        for folder in (tmp_path / "file", tmp_path / "file" / "x"):
            with pytest.raises(ArtefactError, match=r"found .*, expected a folder that can be"):
                ready_folder(folder, make=make)


NAMESPACE = ("unshare", "--mount", "--map-root-user", "--")


def mounts_allowed():
    if shutil.which("unshare") is None:
        return False
    tried = subprocess.run(
        [*NAMESPACE, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False
    )
    return tried.returncode == 0


FULL_OR_READ_ONLY = """
    import errno, os, sys
    from pathlib import Path
    from artefacts import ArtefactError, atomic_write, ready_file, ready_folder, write_json
    folder = Path(sys.argv[1])
    for call in (
        lambda: write_json(folder / "kept", "x" * 200_000),
        lambda: ready_folder(folder),
        lambda: ready_file(folder / "new"),
    ):
        try:
            call()
            print("written")
        except ArtefactError as error:
            print(error)
    print(sorted(os.listdir(folder)), (folder / "kept").read_text())
"""


@pytest.mark.skipif(not mounts_allowed(), reason="needs a mount namespace of its own")
@pytest.mark.parametrize(
    ("prepare", "found"),
    [
        ("dd if=/dev/zero of={0}/filler bs=4096 2>/dev/null || true", "no space left on device"),
        ("mount -o remount,ro {0}", "read-only file system"),
    ],
)
def test_a_full_and_a_read_only_disk_leave_what_was_there(tmp_path, prepare, found):
    folder, script = tmp_path / "disk", tmp_path / "script.py"
    folder.mkdir()
    script.write_text(textwrap.dedent(FULL_OR_READ_ONLY))
    steps = f"mount -t tmpfs -o size=64k none {folder} && printf old > {folder}/kept && "
    steps += prepare.format(folder) + f" && exec {sys.executable} {script} {folder}"
    done = subprocess.run(
        [*NAMESPACE, "sh", "-c", steps], capture_output=True, text=True, check=False,
        cwd=Path(__file__).parents[2], env=os.environ | {"PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    *lines, last = done.stdout.splitlines()
    assert len(lines) == 3, done.stderr
    assert lines[0] == f"{folder}/kept: found {found}, expected a file that can be written"
    assert lines[1] == f"{folder}: found {found}, expected a folder that can be written into"
    assert lines[2] == f"{folder}/new: found {found}, expected a file that can be written"
    kept = ["filler", "kept"] if "filler" in prepare else ["kept"]
    assert last == f"{kept} old"


def test_a_link_in_the_place_of_the_temporary_file_opens_nobody_s_file(tmp_path):
    """In a folder that others may write, somebody may swap it before it is renamed."""
    secret, folder = tmp_path / "secret", tmp_path / "shared"
    secret.write_text("key")
    secret.chmod(0o600)
    folder.mkdir()
    with atomic_write(folder / "out.json") as stream:
        stream.write("{}")
        (part,) = folder.iterdir()
        part.unlink()
        part.symlink_to(secret)
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert secret.read_text() == "key"
