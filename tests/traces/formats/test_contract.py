"""What every registered format owes: one example each, read alike however it is packed."""

import gzip
import io
import json
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from artefacts import CoinferError, UsageError
from traces.formats import FORMATS, ReadOptions, format_of, read
from traces.formats.reading import OPTION_NAMES
from traces.trace import trace_digest

DOCS = Path(__file__).parents[3] / "docs" / "reference" / "traces.md"
LOG = "1450274031248 725 0 0 1000 500\n1450274032248 1725 0 0 2000 1000\n"
IPERF = """Connecting to host 10.0.0.1, port 5201
[  5] local 10.0.0.2 port 46254 connected to 10.0.0.1 port 5201
[ ID] Interval           Transfer     Bitrate         Retr  Cwnd
[  5]   0.00-1.00   sec   610 KBytes  5.00 Mbits/sec    0   1.12 MBytes
[  5]   1.00-2.00   sec   366 KBytes  3.00 Mbits/sec    0   1.12 MBytes
- - - - - - - - - - - - - - - - - - - - - - - - -
[ ID] Interval           Transfer     Bitrate         Retr
[  5]   0.00-2.00   sec   977 KBytes  4.00 Mbits/sec    0             sender
[  5]   0.00-2.00   sec   977 KBytes  4.00 Mbits/sec                  receiver
"""
IPERF_JSON = {
    "start": {"connecting_to": {"host": "10.0.0.1", "port": 5201}, "test_start": {"reverse": 0}},
    "intervals": [
        {"sum": {"start": k, "end": k + 1, "seconds": 1.0, "bytes": b, "bits_per_second": 8 * b,
                 "omitted": False, "sender": True}}
        for k, b in enumerate((625_000, 375_000))
    ],
}  # fmt: skip
DRIVE = """Timestamp,Longitude,CellID,NetworkMode,RSRP,DL_bitrate,UL_bitrate,State
2019.12.01_13.47.32,-8.3,11,5G,-95,9000,5000,D
2019.12.01_13.47.33,-8.3,11,5G,-,9100,3000,D
"""
LUMOS = """run_num,seq_num,nrStatus,movingSpeed,Throughput,tower_id
1,1,CONNECTED,0.4,5.0,2
1,2,CONNECTED,0.5,3.0,2
"""


@dataclass
class Example:
    file: str
    text: str
    rates_bps: list[float]
    duration_s: float
    direction: str = "not said"
    options: dict = field(default_factory=dict)


EXAMPLES = {
    "throughput-log": Example("a.log", LOG, [16e3, 16e3], 1.5, "downlink"),
    "mahimahi": Example("a.up", "0\n5\n5\n150\n200\n", [360e3, 240e3], 0.2, "uplink"),
    "column": Example(
        "a.txt", "5.5\n3\n", [5.5e6, 3e6], 1.0, options={"interval_s": 0.5, "rate_unit": "Mbit/s"}
    ),
    "oboe": Example(
        "a.txt", "15 500\n400 500\n440 300\n900 300\n", [500e3, 500e3, 300e3, 300e3], 1.885
    ),
    "pensieve": Example("a.txt", "0.5\t5.5\n1.5\t3.0\n", [5.5e6, 3e6], 2.0),
    "two-columns": Example(
        "a.txt", "0 5\n1 3\n", [5e3, 3e3], 2.0, options={"time_unit": "s", "rate_unit": "kbit/s"}
    ),
    "value-unit": Example("a.csv", "5.0,Mbits/sec\n300,Kbits/sec\n", [5e6, 300e3], 2.0),
    "csv": Example("a.csv", "time_s,rate_bps\n0.0,5e6\n1.0,3e6\n2.0,0.0\n", [5e6, 3e6], 2.0),
    "lumos5g": Example("a.csv", LUMOS, [5e6, 3e6], 2.0, "downlink"),
    "drive-test": Example("a.csv", DRIVE, [5e6, 3e6], 2.0, "uplink"),
    "table": Example("a.csv", "time_ms,ul_kbps\n0,5000\n1000,3000\n", [5e6, 3e6], 2.0, "uplink"),
    "iperf3": Example("a.txt", IPERF, [5e6, 3e6], 2.0, "uplink"),
    "iperf3-json": Example("a.json", json.dumps(IPERF_JSON) + "\n", [5e6, 3e6], 2.0, "uplink"),
}
every = pytest.mark.parametrize("name", EXAMPLES)


def zipped(member: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("__MACOSX/._x", b"\0")
        archive.writestr(f"folder/{member}", data)
    return buffer.getvalue()


def reading(tmp_path, example: Example, data: bytes, suffix: str = "", **options):
    path = tmp_path / (example.file + suffix)
    path.write_bytes(data)
    return read(path, ReadOptions(**(example.options | options)))


def test_every_format_has_an_example_here():
    assert set(EXAMPLES) == {known.name for known in FORMATS}


@every
def test_the_example_is_recognised_and_read(tmp_path, name):
    example = EXAMPLES[name]
    found = reading(tmp_path, example, example.text.encode())
    assert found.understood.format == name
    assert format_of(tmp_path / example.file, ReadOptions(**example.options)) == name
    assert found.trace.rates_bps.tolist() == pytest.approx(example.rates_bps)
    assert found.trace.duration_s == pytest.approx(example.duration_s)
    assert found.understood.direction == example.direction
    assert found.understood.time
    assert found.understood.rate
    assert found.understood.interval_s > 0


@every
def test_its_name_chooses_it(tmp_path, name):
    example = EXAMPLES[name]
    plain = reading(tmp_path, example, example.text.encode())
    named = reading(tmp_path, example, example.text.encode(), format=name)
    assert trace_digest(named.trace) == trace_digest(plain.trace)
    # what was inferred is said where the name was not given
    assert replace(named.understood, remarks=()) == replace(plain.understood, remarks=())
    assert set(named.understood.remarks) <= set(plain.understood.remarks)


@every
def test_packing_marks_and_line_ends_change_nothing(tmp_path, name):
    example = EXAMPLES[name]
    raw = example.text.encode()
    plain = reading(tmp_path, example, raw)
    variants = {
        "crlf": (raw.replace(b"\n", b"\r\n"), ""),
        "cr": (raw.replace(b"\n", b"\r"), ""),
        "mark": (b"\xef\xbb\xbf" + raw, ""),
        "utf-16": (example.text.encode("utf-16"), ""),
        "no last end": (raw.rstrip(b"\n"), ""),
        "blank lines": (b"\n\n" + raw + b"\n \n", ""),
        "comments": (b"# of the bus, 2019\n" + raw + b"# the end\n", ""),
        "gz": (gzip.compress(raw), ".gz"),
        "zip": (zipped(example.file, raw), ".zip"),
    }
    for what, (data, suffix) in variants.items():
        found = reading(tmp_path, example, data, suffix)
        assert trace_digest(found.trace) == trace_digest(plain.trace), what
        assert found.trace.name == plain.trace.name, what
        assert found.understood.format == name, what


@every
def test_an_option_that_it_does_not_obey_is_refused(tmp_path, name):
    example = EXAMPLES[name]
    values = {
        "time_unit": "s", "rate_unit": "Mbit/s", "column": "x", "time_column": "x",
        "interval_s": 1.0, "direction": "uplink",
    }  # fmt: skip
    obeyed = next(known for known in FORMATS if known.name == name).options
    for option in set(values) - obeyed:
        with pytest.raises(UsageError, match=OPTION_NAMES[option]):
            reading(
                tmp_path, example, example.text.encode(), format=name, **{option: values[option]}
            )


@every
def test_another_formats_file_is_refused_in_one_line(tmp_path, name):
    """Or read, where the other's file is one of this format too."""
    for example in EXAMPLES.values():
        options = {k: v for k, v in example.options.items() if k in ("time_unit", "rate_unit")}
        path = tmp_path / example.file
        path.write_text(example.text)
        try:
            found = read(path, ReadOptions(format=name, **options))
        except CoinferError as error:
            assert str(path) in str(error) or str(error).startswith("--")
            assert "\n" not in str(error)
        else:
            assert found.understood.format == name


@every
def test_the_document_names_it(name):
    assert f"`{name}`" in DOCS.read_text()
