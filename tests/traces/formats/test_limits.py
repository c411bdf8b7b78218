"""Hostile files: within the bounds cheap, outside them refused, and always in one short line."""

import gzip
import io
import subprocess
import sys
import zipfile

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from artefacts import ArtefactError, CoinferError
from traces.formats import ReadOptions, limits, packing, read, read_all, read_packets

pytestmark = pytest.mark.system

LONGEST_MESSAGE = 400
NAME = "rate_" + "n" * 70


def refused(tmp_path, text, name="a.csv", **options):
    """The message without the file's path."""
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(CoinferError) as raised:
        read_all(path, ReadOptions(**options))
    said = str(raised.value).removeprefix(str(path))
    assert len(said) <= LONGEST_MESSAGE
    assert said.isprintable()
    return said


def zipped(method: int, **files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name.replace("_", "."), data)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("bound", "text", "found"),
    [
        ("MOST_LINES", "1\n" * 40, "more than 9 lines"),
        ("MOST_LINES", "#\n" * 40 + "1\n", "more than 9 lines"),
        ("MOST_LINES", "1\r" * 40, "more than 9 lines"),
        ("MOST_NUMBERS", "0 1\n1 2\n" * 3, "more than 9 numbers"),
        ("MOST_TABLE_ROWS", "time_s,mbps\n" + "1,1\n" * 40, "more than 9 rows in a table"),
        (
            "MOST_TABLE_ROWS",
            "run_num,seq_num,Throughput\n" + "1,1,1\n" * 40,
            "more than 9 rows in a table",
        ),
        ("MOST_COLUMNS", "time_s" + ",mbps" * 9 + "\n0" + ",1" * 9, "more than 9 columns"),
        ("MOST_COLUMNS", "time_s" + " mbps" * 9 + "\n0" + " 1" * 9, "more than 9 columns"),
    ],
)
def test_more_than_a_bound_is_refused(tmp_path, monkeypatch, bound, text, found):
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").startswith("traces.formats") and hasattr(module, bound):
            monkeypatch.setattr(module, bound, 9)
    assert found in refused(tmp_path, text)


def test_worded_rows_and_reports_are_bounded(tmp_path, monkeypatch):
    from traces.formats import bare, tables

    monkeypatch.setattr(bare, "MOST_WORDED_ROWS", 9)
    monkeypatch.setattr(tables, "MOST_WORDED_ROWS", 9)
    monkeypatch.setattr(limits, "MOST_INTERVALS", 9)
    monkeypatch.setattr(limits, "MOST_REPORT_OBJECTS", 9)
    assert "more than 9 lines with units" in refused(tmp_path, "1 Mbps\n" * 11)
    days = "time,mbps\n" + "2019-12-01 13:47:32,1\n" * 11
    assert "more than 9 rows with a date" in refused(tmp_path, days)
    rows = "".join(
        f"[  5]   {k}.00-{k + 1}.00   sec   610 KBytes  5.00 Mbits/sec    0\n" for k in range(11)
    )
    assert "more than 9 intervals" in refused(tmp_path, rows)
    assert "more than 9 objects" in refused(tmp_path, '{"intervals":[' + "{}," * 9 + "{}]}")
    monkeypatch.setattr(limits, "MOST_REPORT_BYTES", 99)
    assert "a report of more than" in refused(tmp_path, '{"error":"' + "x" * 99 + '"}')
    assert "a report of more than" in refused(tmp_path, rows)


def test_a_long_line_is_refused_by_its_number_but_json_may_be_one(tmp_path):
    long = "10 " * limits.LONGEST_LINE_BYTES
    assert refused(tmp_path, "1\n2\n" + long).startswith(", line 3: found a line of more than 64")
    assert refused(tmp_path, "# " + long + "\n1\n").startswith(", line 1: found a line")
    pieces = ",".join(
        f'{{"sum":{{"start":{k},"end":{k + 1},"bits_per_second":8e6}}}}' for k in range(2000)
    )
    (tmp_path / "a.json").write_text(f'{{"intervals":[{pieces}]}}')
    assert read(tmp_path / "a.json").trace.duration_s == 2000.0


def test_json_is_read_by_no_other_format(tmp_path):
    text = '{"intervals":[]}' + "1," * limits.LONGEST_LINE_BYTES
    assert "found an object in JSON" in refused(tmp_path, text, format="table")
    with pytest.raises(ArtefactError, match="a packet-delivery"):
        read_packets(tmp_path / "a.csv", 20)


def test_what_json_holds_besides_is_not_built(tmp_path):
    said = refused(tmp_path, '{"start":{"connecting_to":[' + "[]," * 100 + "[]]}}")
    assert "$.start.connecting_to" in said
    streamed = '{"event":"start","data":{"connecting_to":{"host":"a","port":1}}}\n'
    streamed += '{"event":"interval","data":{"sum":{"start":0,"end":1,"bits_per_second":8e6}}}\n'
    (tmp_path / "a.json").write_text(streamed)
    found = read(tmp_path / "a.json")
    assert found.trace.rates_bps.tolist() == [8e6]
    assert found.understood.direction == "uplink"
    failed = '{"event":"start","data":{}}\n{"event":"error","data":"no \\u001b route"}\n'
    assert "the error 'no \\\\u001b route'" in refused(tmp_path, failed)


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_other_methods_of_zip_files_are_refused(tmp_path, method):
    data = bytearray(zipped(method, a_csv=b"time_s,mbps\n0,1\n1,2\n"))
    assert "neither stored nor deflated" in refused(tmp_path, bytes(data), "a.zip")
    data[45] ^= 0x55  # damaged as well
    assert "does not unpack" in refused(tmp_path, bytes(data), "a.zip")


def test_gzip_files_of_several_members_are_read_and_of_many_refused(tmp_path, monkeypatch):
    whole = b"".join(gzip.compress(b"%d\n" % k) for k in range(300)) + bytes(1000)
    (tmp_path / "a.up.gz").write_bytes(whole)
    assert read(tmp_path / "a.up.gz").trace.total_bytes == 300 * 1500
    monkeypatch.setattr(packing, "MOST_GZIP_MEMBERS", 299)
    assert "more than 299 members" in refused(tmp_path, whole, "a.up.gz")
    assert "does not unpack" in refused(tmp_path, gzip.compress(b"1\n") + b"rubbish", "b.gz")
    for cut in range(2, 22):
        assert "does not unpack" in refused(tmp_path, gzip.compress(b"1\n")[:cut], "c.gz")
    monkeypatch.setattr(packing, "MOST_ZIP_MEMBERS", 1)
    both = zipped(zipfile.ZIP_STORED, a_csv=b"1", b_csv=b"2")
    assert "more than 1 files" in refused(tmp_path, both, "d.zip")


@given(st.lists(st.binary(max_size=3000), max_size=6), st.integers(1, 400))
@example([b"", b"", b"x" * 600_000, b""], 262144)
def test_gunzip_gives_what_gzip_gives(pieces, size):
    raw = b"".join(gzip.compress(piece) for piece in pieces)
    stream, found = packing.Gunzip(raw), b""
    while piece := stream.read(size):
        assert len(piece) <= size
        found += piece
    assert found == gzip.decompress(raw) == b"".join(pieces)


@given(st.text("a\r\n#% \té", max_size=60), st.integers(1, 9))
def test_blocks_change_nothing(text, block):
    raw = text.encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "BLOCK_BYTES", block)
        lines = limits.with_line_feeds(raw)
        assert lines == raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        assert limits.as_utf_8(text.encode("utf-16-le"), "utf-16-le") == raw
        bare = limits.without_comments(lines).split(b"\n")
        kept = [
            b"" if line.lstrip(b" \t").startswith((b"#", b"%")) else line
            for line in lines.split(b"\n")
        ]
        assert bare == kept
        broken = lines + b"\n\xff"
        assert limits.first_bad_line(broken) == lines.count(b"\n") + 2


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (",".join(f"{NAME}{k}" for k in range(900)) + "\n" + ",".join("1" * 900), {}),
        (f"{'t' * 300} time,{'x' * 300} rate\n0.5,1\n1.5,1\n", {}),
        (f"time {'t' * 60},rate {'x' * 60}\n0,1\n1,1\n", {}),
        (f"time_s,rate {'x' * 60}\n0,\x1b[31m\n", {}),
        ("time_s,\x1b]0;x\x07rate,\u2028rate\n0,1,1\n", {}),
        (f"time_s,mbps,{NAME}\n0,1,1\n", {"column": NAME * 9}),
        ("\U000e0001" * 500 + "\n", {}),
        ('{"error":"' + "\U000e0001" * 500 + '"}', {}),
        ("time_s,mbps\n0,1\n" + "1," * 30000 + "\n", {}),
        ("0 1\n5 1\n9 1\n", {}),
        ("1\n1\n1\n", {}),
    ],
)
def test_messages_are_short_and_print(tmp_path, text, options):
    refused(tmp_path, text, **options)


def test_a_long_name_is_chosen_as_it_stands(tmp_path):
    one, other = "rate_mbps_" + "n" * 200, "rate_mbps_" + "m" * 200
    text = f"time_s,{one},{other}\n0,1,2\n1,3,4\n"
    said = refused(tmp_path, text)
    assert "--column 'rate_mbps_nnn" in said
    found = read(tmp_path / "a.csv", ReadOptions(column=other, rate_unit="Mbit/s"))
    assert found.trace.rates_bps.tolist() == [2e6, 4e6]


def test_a_quote_that_is_not_closed_is_refused(tmp_path):
    text = 'time_s,mbps,note\n0,1,"two\nlines"\n1,2,x\n'
    (tmp_path / "a.csv").write_text(text)
    assert read(tmp_path / "a.csv").trace.rates_bps.tolist() == [1e6, 2e6]
    endless = "time_s,mbps\n0,1\n" + '"\n",' * limits.LONGEST_LINE_BYTES
    assert "a quote that is not closed" in refused(tmp_path, endless)


CHILD = """
import sys, time
from traces.formats import read_all
begun = time.process_time()
try:
    read_all(sys.argv[1])
except Exception as error:
    assert type(error).__name__ in ("ArtefactError", "TraceQuestion"), error
    assert len(str(error)) < 400 + len(sys.argv[1])
used = time.process_time() - begun
status = open("/proc/self/status").read()
print(used, int(status.split("VmHWM:")[1].split()[0]) / 1024)
"""
HOSTILE = {
    "one number a line": lambda: b"1\n" * 3_499_000,
    "many lines": lambda: b"1\n" * 16_000_000,
    "a bad last line": lambda: b"1 2\n" * 3_499_000 + b"x\n",
    "one line": lambda: b"10 " * 5_000_000,
    "lists in json": lambda: b'{"start":{"connecting_to":[' + b"[]," * 10_000_000,
    "digits": lambda: (b"1" * 65_000 + b"x\n") * 400,
    "open brackets": lambda: b"time_s," + b"(" * 65_000 + b",mbps\n0,1,1\n",
    "units": lambda: b"1 kilobits_per_second\n" * 999_000,
    "words of columns": lambda: b"time_s" + b",rate" * 13_000 + b"\n",
    "its own table": lambda: (
        b"time_s,rate_bps\n" + b"".join(b"%d,1e6\n" % k for k in range(3_400_000))
    ),
    "a long name": lambda: b"time_s rate_mbps" + b"x" * 10_000_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_small_hostile_files_take_seconds_and_little_memory(tmp_path, name):
    """Of processor time, so that a busy machine does not fail it: 4 to 14 s by machine. Hostile
    files took minutes before there were limits.
    """
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(HOSTILE[name](), compresslevel=1))
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path)], capture_output=True, text=True, check=True
    )
    used_s, peak_mib = map(float, done.stdout.split())
    assert used_s < 30
    assert peak_mib < 400
