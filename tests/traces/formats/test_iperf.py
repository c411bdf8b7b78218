"""iperf's reports: text and JSON, both directions, one test."""

import pytest

from artefacts import ArtefactError
from traces.formats import ReadOptions, read


def reading(tmp_path, text, name="a.csv", **options):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(path, ReadOptions(**options))


BIDIRECTIONAL = """Connecting to host 10.0.0.1, port 5201
[ ID][Role] Interval           Transfer     Bitrate         Retr  Cwnd
[SUM][TX-C]   0.00-1.00   sec  1.25 MBytes  9.0 Mbits/sec    0             (omitted)
[  5][TX-C]   0.00-1.00   sec   244 KBytes  2.00 Mbits/sec    0   1.12 MBytes
[  7][TX-C]   0.00-1.00   sec   244 KBytes  2.00 Mbits/sec    0   1.12 MBytes
[SUM][TX-C]   0.00-1.00   sec   488 KBytes  4.00 Mbits/sec    0
[SUM][RX-C]   0.00-1.00   sec  1.07 MBytes  1.10 MBytes/sec
[SUM][TX-C]   1.00-2.00   sec   488 KBytes  500 Kbits/sec    0
[SUM][RX-C]   1.00-2.00   sec  0.00 Bytes  0.00 bits/sec
[SUM][TX-C]   0.00-2.00   sec  2.50 MBytes  10.5 Mbits/sec    0             sender
[SUM][RX-C]   0.00-2.00   sec  2.50 MBytes  10.5 Mbits/sec                  receiver
"""


def test_iperf_text_of_both_directions(tmp_path):
    up = reading(tmp_path, BIDIRECTIONAL, "a.txt")
    assert up.trace.rates_bps.tolist() == [4e6, 5e5]
    assert up.understood.direction == "uplink"
    assert any("1 line that iperf marks as omitted" in note for note in up.notes)
    down = reading(tmp_path, BIDIRECTIONAL, "a.txt", direction="downlink")
    assert down.trace.rates_bps.tolist() == [1.1 * 8 * 2**20, 0.0]
    server = BIDIRECTIONAL.replace("TX-C", "RX-S").replace("RX-C", "TX-S")
    assert reading(tmp_path, server, "a.txt").trace.rates_bps.tolist() == [4e6, 5e5]


ONE_WAY = "[  5]   0.00-1.00   sec   610 KBytes  5.00 Mbits/sec\n"
CLOSING = "[  5]   0.00-1.00   sec   610 KBytes  5.00 Mbits/sec    0             "


@pytest.mark.parametrize(
    ("before", "after", "direction"),
    [
        ("Connecting to host x, port 5201\n", "", "uplink"),
        ("Connecting to host x\nReverse mode, remote host x is sending\n", "", "downlink"),
        ("Server listening on 5201\nAccepted connection\n", CLOSING + "receiver\n", "uplink"),
        ("Server listening on 5201\nAccepted connection\n", CLOSING + "sender\n", "downlink"),
        ("", "", "not said"),
    ],
)
def test_iperf_text_says_which_way(tmp_path, before, after, direction):
    assert reading(tmp_path, before + ONE_WAY + after).understood.direction == direction


def test_iperf_text_of_two_tests_is_refused(tmp_path):
    two = 2 * ("Connecting to host x, port 5201\n" + ONE_WAY)
    with pytest.raises(ArtefactError, match="found 2 tests in one report"):
        reading(tmp_path, two)
    with pytest.raises(ArtefactError, match="found one from 2 s on"):
        reading(tmp_path, ONE_WAY + ONE_WAY.replace("0.00-1.00", "2.00-3.00"))


def test_iperf2_text_is_read_without_its_closing_line(tmp_path):
    text = (
        "Client connecting to 10.0.0.1, TCP port 5001\n"
        "[  3]  0.0- 1.0 sec  1.12 MBytes  9.44 Mbits/sec\n"
        "[  3]  1.0- 2.0 sec  1.12 MBytes  8.44 Mbits/sec\n"
        "[  3]  0.0- 2.0 sec  2.24 MBytes  8.94 Mbits/sec\n"
    )
    found = reading(tmp_path, text)
    assert found.trace.rates_bps.tolist() == pytest.approx([9.44e6, 8.44e6])
    assert found.understood.direction == "uplink"


def test_iperf_json_server_reverse_old_and_streamed(tmp_path):
    one = '{"sum":{"start":0,"end":1,"bits_per_second":8e6%s}}'
    cases = {
        '{"start":{"accepted_connection":{}},"intervals":[%s]}' % (one % ""): "uplink",
        '{"start":{"connecting_to":{},"test_start":{"reverse":1}},"intervals":[%s]}'
        % (one % ""): "downlink",
        '{"start":{"connecting_to":{}},"intervals":[%s]}' % (one % ',"sender":false'): "downlink",
        '{"event":"start","data":{"connecting_to":{}}}\n{"event":"interval","data":%s}\n'
        '{"event":"end","data":{}}' % (one % ""): "uplink",
    }
    for text, direction in cases.items():
        found = reading(tmp_path, text, "a.json")
        assert found.understood.direction == direction
        assert found.trace.rates_bps.tolist() == [8e6]
