"""Bytes become text: packed, bounded, of other encodings; and large files stay cheap."""

import gzip
import io
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from artefacts import ArtefactError
from traces.formats import ReadOptions, read, read_all, read_traces, unpacking

pytestmark = pytest.mark.system


def reading(tmp_path, text, name="a.csv", **options):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(path, ReadOptions(**options))


def bomb(packing: str, size: int) -> bytes:
    data = b"1\n" * (size // 2)
    if packing == "gz":
        return gzip.compress(data)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.up", data)
    return buffer.getvalue()


@pytest.mark.parametrize("packing", ["gz", "zip"])
def test_a_bomb_is_refused(tmp_path, monkeypatch, packing):
    monkeypatch.setattr(unpacking, "MOST_BYTES", 2**20)
    with pytest.raises(ArtefactError, match="unpacked, a file of more than 1 MiB"):
        reading(tmp_path, bomb(packing, 2**21), f"a.up.{packing}")
    with pytest.raises(ArtefactError, match="a file of more than 1 MiB"):
        reading(tmp_path, b"1\n" * 2**20, "a.up")


def test_all_that_a_zip_file_holds_has_one_bound(tmp_path, monkeypatch):
    """Members that are small, unpacked, and hold gzip files that are small each."""
    monkeypatch.setattr(unpacking, "MOST_BYTES", 2**20)
    data = b"1\n" * (300 * 1024)  # 600 KiB
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("a.up.gz", "b.up.gz"):
            archive.writestr(name, gzip.compress(data))
    path = tmp_path / "set.zip"
    path.write_bytes(buffer.getvalue())
    with pytest.raises(ArtefactError, match=r"b\.up\.gz: .*unpacked, a file of more than 1 MiB"):
        read_traces(path)
    monkeypatch.setattr(unpacking, "MOST_BYTES", 2**21)
    assert len(read_traces(path)) == 2


def test_devices_and_pipes(tmp_path):
    with pytest.raises(ArtefactError, match="found a device"):
        read("/dev/zero")
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(ArtefactError, match=r"a\.csv: found a pipe, device or socket in a folder"):
        read_traces(tmp_path)
    with pytest.raises(ArtefactError, match="found a pipe, expected a file"):
        read(tmp_path / "a.csv")  # nobody may ever write into it
    reader, writer = os.pipe()
    os.write(writer, b"time_s,mbps\n0,5\n1,6\n")
    os.close(writer)
    try:  # as a shell gives one for `<(command)`
        assert read(f"/dev/fd/{reader}").trace.rates_bps.tolist() == [5e6, 6e6]
    finally:
        os.close(reader)


def test_damaged_and_other_packed_files_are_refused(tmp_path):
    raw = gzip.compress(b"0 5\n" * 1000)
    with pytest.raises(ArtefactError, match="does not unpack"):
        reading(tmp_path, raw[:-12], "a.gz")
    with pytest.raises(ArtefactError, match="does not unpack"):
        reading(tmp_path, b"PK\x03\x04rubbish", "a.zip")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("xl/workbook.xml", "<x/>")
        archive.writestr("xl/sheet1.xml", "<x/>")
    with pytest.raises(ArtefactError, match="a spreadsheet.*save it as CSV"):
        reading(tmp_path, buffer.getvalue(), "a.xlsx")


def archive_of(**files: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("_", "."), text)
    return buffer.getvalue()


def test_a_zip_file_of_several_traces_is_read_like_a_folder(tmp_path):
    table = "time_s,mbps\n0,5\n1,6\n"
    path = tmp_path / "set.zip"
    path.write_bytes(archive_of(a_csv=table, README_md="hello", b_up="1\n2\n3\n"))
    assert [trace.name for trace in read_traces(path)] == ["a", "b.up"]
    with pytest.raises(ArtefactError, match="a zip file of 2 traces"):
        read(path)
    path.write_bytes(archive_of(a_csv=table, b_csv=table.replace("6", "x")))
    with pytest.raises(ArtefactError, match=r"set\.zip/b\.csv, line 3: found 'x'"):
        read_traces(path)
    path.write_bytes(archive_of(LICENSE="x", README_md="y"))
    with pytest.raises(ArtefactError, match="a zip file without traces"):
        read_traces(path)


def test_a_folder_holds_packed_files_too(tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"time_s,mbps\n0,5\n1,6\n"))
    (tmp_path / "b.up").write_text("1\n2\n3\n")
    (tmp_path / "README.md").write_text("nothing")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX" / "._a.csv").write_bytes(b"\0\5\x16\7")
    (tmp_path / "._b.up").write_bytes(b"\0\5\x16\7")
    assert [trace.name for trace in read_traces(tmp_path)] == ["a", "b.up"]


def test_letters_that_are_no_utf_8_are_said(tmp_path):
    found = reading(tmp_path, "time_s,mbps,Straße\n0,5,a\n1,6,b\n".encode("latin-1"))
    assert any("not UTF-8" in note for note in found.notes)
    assert found.trace.rates_bps.tolist() == [5e6, 6e6]


CHILD = """
import sys, time
from traces.formats import read
begun = time.process_time()
trace = read(sys.argv[1]).trace
used = time.process_time() - begun
status = open("/proc/self/status").read()
print(trace.total_bytes, used, int(status.split("VmHWM:")[1].split()[0]) / 1024)
"""


def test_29_mb_of_packets_take_seconds_and_little_memory(tmp_path):
    """Of processor time, so that a busy machine does not fail it."""
    stamps = np.cumsum(np.random.default_rng(0).integers(0, 28, 3_400_000))
    path = tmp_path / "big.up"
    path.write_text("\n".join(map(str, stamps.tolist())) + "\n")
    assert path.stat().st_size > 29e6
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path)], capture_output=True, text=True, check=True
    )
    total, used_s, peak_mib = map(float, done.stdout.split())
    assert total == pytest.approx(1500 * len(stamps))
    assert used_s < 4
    assert peak_mib < 300


def test_names_without_a_suffix_are_traces_but_for_a_collection_s_papers(tmp_path):
    for name in ("packets", "run.2019", "run.2020", "README", "LICENSE", "sums.md5", ".hidden"):
        (tmp_path / name).write_text("time_s,mbps\n0,5\n1,6\n")
    names = [trace.name for trace in read_traces(tmp_path)]
    assert names == ["packets", "run.2019", "run.2020"]


@pytest.mark.parametrize("packed", [False, True])
def test_what_cannot_be_read_is_given_to_the_caller_and_the_rest_is_read(tmp_path, packed):
    table = "time_s,mbps\n0,5\n1,6\n"
    files = {"a_csv": "hello\n", "b_csv": table, "c_csv": table.replace("6", "x")}
    if packed:
        path = tmp_path / "set.zip"
        path.write_bytes(archive_of(**files))
    else:
        path = tmp_path / "set"
        path.mkdir()
        for name, text in files.items():
            (path / name.replace("_", ".")).write_text(text)
    refused = []
    found = read_all(path, refused=refused.append)
    assert [r.trace.name for r in found] == ["b"]
    assert [(e.path.name, e.line) for e in refused] == [("a.csv", 1), ("c.csv", 3)]
    with pytest.raises(ArtefactError, match=r"a\.csv, line 1"):
        read_all(path)


def test_a_folder_without_one_trace_raises_though_errors_are_wanted(tmp_path):
    (tmp_path / "a.csv").write_text("hello\n")
    with pytest.raises(ArtefactError, match=r"a\.csv, line 1: found 'hello'"):
        read_all(tmp_path, refused=lambda error: None)
