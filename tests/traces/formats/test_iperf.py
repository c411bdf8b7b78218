"""iperf's reports: text and JSON, both directions, one test."""

import json

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


UDP_HEAD = """Connecting to host 10.0.0.1, port 5201
[ ID] Interval           Transfer     Bitrate         Total Datagrams
[  5]   0.00-1.00   sec  11.9 MBytes   100 Mbits/sec  8633
[  5]   1.00-2.00   sec  11.9 MBytes   100 Mbits/sec  8633
- - - - - - - - - - - - - - - - - - - - - - - - -
[ ID] Interval           Transfer     Bitrate         Jitter    Lost/Total Datagrams
[  5]   0.00-2.00   sec  23.8 MBytes   100 Mbits/sec  0.000 ms  0/17266 (0%)  sender
[  5]   0.00-2.04   sec  2.38 MBytes  10.0 Mbits/sec  0.91 ms  15540/17266 (90%)  receiver
"""
UDP_SERVER = """-----------------------------------------------------------
Server listening on 5201
-----------------------------------------------------------
Accepted connection from 10.0.0.2, port 46254
[ ID] Interval           Transfer     Bitrate         Jitter    Lost/Total Datagrams
[  5]   0.00-1.00   sec  1.19 MBytes  10.0 Mbits/sec  0.911 ms  7770/8633 (90%)
[  5]   1.00-2.00   sec  1.07 MBytes  9.00 Mbits/sec  0.911 ms  7860/8633 (91%)
[  5]   0.00-2.00   sec  2.38 MBytes  9.50 Mbits/sec  0.911 ms  15630/17266 (90%)  receiver
"""
OFFERED = "a sender's intervals of UDP: what it offered, not what passed"


def test_what_a_sender_of_udp_offers_is_no_trace(tmp_path):
    iperf2 = (
        "Client connecting to 10.0.0.1, UDP port 5001\n"
        "Sending 1470 byte datagrams, IPG target: 117.60 us\n"
        "[  3]  0.0- 1.0 sec  11.9 MBytes  100 Mbits/sec\n"
        "[  3]  1.0- 2.0 sec  11.9 MBytes  100 Mbits/sec\n"
    )
    for text in (UDP_HEAD, iperf2):
        with pytest.raises(ArtefactError, match="--get-server-output") as caught:
            reading(tmp_path, text, "a.txt")
        assert caught.value.found == OFFERED


def test_the_receivers_intervals_of_udp_are_read(tmp_path):
    got_output = f"{UDP_HEAD}\nServer output:\n{UDP_SERVER}\niperf Done.\n"
    reverse = UDP_SERVER.replace("Server listening on 5201", "Connecting to host x, port 5201\n"
        "Reverse mode, remote host x is sending")  # fmt: skip
    reverse = reverse.replace("Accepted connection from", "local")
    for text, direction in (
        (UDP_SERVER, "uplink"), (got_output, "uplink"), (reverse, "downlink")
    ):  # fmt: skip
        found = reading(tmp_path, text, "a.txt")
        assert found.trace.rates_bps.tolist() == [10e6, 9e6]
        assert found.understood.direction == direction


def test_of_both_directions_of_udp_the_received_one_is_read_and_said(tmp_path):
    text = (
        "Connecting to host x, port 5201\n"
        "[ ID][Role] Interval           Transfer     Bitrate         Total Datagrams\n"
        "[  5][TX-C]   0.00-1.00   sec  11.9 MBytes   100 Mbits/sec  8633\n"
        "[  7][RX-C]   0.00-1.00   sec  1.19 MBytes  10.0 Mbits/sec  0.91 ms  77/863 (9%)\n"
    )
    found = reading(tmp_path, text, "a.txt")
    assert found.understood.direction == "downlink"
    assert found.trace.rates_bps.tolist() == [10e6]
    assert any(note.startswith("uplink: a sender of UDP") for note in found.notes)
    with pytest.raises(ArtefactError, match="what it offered"):
        reading(tmp_path, text, "a.txt", direction="uplink")


def udp_json(side: str, rate: float, **more):
    sends = side == "connecting_to"
    sums = [
        {"start": k, "end": k + 1, "bytes": rate / 8, "bits_per_second": rate, "omitted": False,
         "packets": 86, "sender": sends} | ({} if sends else {"jitter_ms": 0.9})
        for k in range(2)
    ]  # fmt: skip
    start = {side: {"host": "x"}, "test_start": {"protocol": "UDP", "reverse": 0}}
    return {"start": start, "intervals": [{"sum": total} for total in sums], **more}


def test_json_of_udp_is_read_from_the_receiver_alone(tmp_path):
    client, server = udp_json("connecting_to", 100e6), udp_json("accepted_connection", 10e6)
    for offered in (client, {"intervals": [
        {"sum": {"start": 0, "end": 1, "bits_per_second": 1e8, "packets": 9, "sender": True}}
    ]}):  # fmt: skip
        with pytest.raises(ArtefactError, match="--get-server-output") as caught:
            reading(tmp_path, json.dumps(offered), "a.json")
        assert caught.value.found == OFFERED
    for received in (server, client | {"server_output_json": server}):
        found = reading(tmp_path, json.dumps(received), "a.json")
        assert found.trace.rates_bps.tolist() == [10e6, 10e6]
        assert found.understood.direction == "uplink"
    found = reading(tmp_path, json.dumps(client | {"server_output_text": UDP_SERVER}), "a.json")
    assert found.trace.rates_bps.tolist() == [10e6, 9e6]
    assert (found.understood.format, found.understood.direction) == ("iperf3-json", "uplink")
