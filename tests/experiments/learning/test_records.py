"""Kept records become traces where something was measured; what does not belong is refused."""

import re

import numpy as np
import pytest

from artefacts import ArtefactError, UsageError
from controller.daemon.records.entries import (
    FORMAT_VERSION,
    KeptFrame,
    KeptMeasurement,
    RecordsHeader,
    encoded,
    plans_digest,
)
from controller.sensing.belief import BandwidthBelief
from experiments.learning.records import (
    APART_S,
    GAP_S,
    Stream,
    check_streams,
    frames_between,
    measured_traces,
    read_streams,
    split_by_time,
)
from traces.trace import BandwidthTrace


@pytest.fixture
def header(stream):
    def make(number=0, name="aaaaaaaa", **other):
        own = {
            "scenario": stream.scenario.name, "scenario_digest": stream.scenario.digest,
            "model_digest": stream.model.digest, "inputs_digest": stream.inputs_digest,
            "plans_digest": plans_digest(stream.table.plans),
        }  # fmt: skip
        return RecordsHeader(FORMAT_VERSION, name, number, 1e9, **own | other)

    return make


def write(folder, entries, at=1, name="aaaaaaaa", number=0, tail=b""):
    path = folder / f"records-{at:013d}-{name}-{number:06d}.jsonl"
    path.write_bytes(b"".join(map(encoded, entries)) + tail)
    return path


def transfers(trace, every_s=0.2, n_bytes=4000, end_s=None):
    """What a device would measure of a trace by one transfer after the other."""
    found, at_s = [], 0.0
    while at_s < (end_s or trace.duration_s - 2.0):
        ended = float(trace.transfer_end(at_s, n_bytes, "stop"))
        found.append(KeptMeasurement(ended, n_bytes, ended - at_s))
        at_s = max(ended, at_s + every_s)
    return found


def frame(k):
    return KeptFrame(k, 0, 0.1 * k, 0.05, 0, True, "device", 0.5)


def test_measurements_become_the_trace_that_they_were_made_on(tmp_path, header, stream):
    rng = np.random.default_rng(0)
    true = BandwidthTrace.from_intervals("true", [1.0] * 200, rng.uniform(1e6, 8e6, 200))
    found = transfers(true)
    half = len(found) // 2
    write(tmp_path, [header(), *found[:half], frame(0)])
    write(tmp_path, [header(1), frame(1), *found[half:]], at=2, number=1)
    (read,) = streams = read_streams(tmp_path)
    check_streams(tmp_path, streams, stream)
    assert read.frames == (frame(0), frame(1))
    assert read.measurements == tuple(found)
    assert not read.torn
    (trace,) = measured_traces(streams)
    assert trace.duration_s == pytest.approx(found[-1].known_s, abs=1e-3)
    ours, theirs = trace.resample(1.0).rates_bps[:190], true.resample(1.0).rates_bps[:190]
    assert np.corrcoef(ours, theirs)[0, 1] > 0.95
    assert trace.mean_bps == pytest.approx(true.mean_bps, rel=0.05)
    belief = BandwidthBelief.from_traces([trace])
    assert belief.rates_bps[0] == pytest.approx(np.quantile(theirs, 1 / 64), rel=0.15)


def test_a_gap_cuts_and_a_short_one_is_filled_by_both_sides(header):
    steady = [KeptMeasurement(0.5 * k, 62_500, 0.5) for k in range(1, 41)]  # 1 Mbit/s, 20 s
    late = [KeptMeasurement(m.known_s + 20.0 + GAP_S, 125_000, 0.5) for m in steady]
    later = [KeptMeasurement(m.known_s + 60.0 + GAP_S, 62_500, 0.5) for m in steady]
    brief = [KeptMeasurement(90.0 + GAP_S + 20.0, 1000, 1.0)]
    kept = Stream(header(), (), (*steady, *late, *later, *brief), torn=False)
    one, two = measured_traces([kept])
    assert one.duration_s == pytest.approx(40.0 + GAP_S)
    middle = one.bytes_between(20.0, 20.0 + GAP_S, "stop")
    assert middle == pytest.approx(GAP_S * (1e6 + 2e6) / 2 / 8)
    assert two.duration_s == pytest.approx(20.0)  # the last second alone tells nothing


def test_a_stream_that_measured_nothing_tells_of_no_link(header):
    """A device that keeps its frames to itself, or has no edge."""
    alone = Stream(header(), (frame(0), frame(1)), (), torn=False)
    steady = [KeptMeasurement(0.5 * k, 62_500, 0.5) for k in range(1, 41)]
    assert measured_traces([alone]) == ()
    (one,) = measured_traces([alone, Stream(header(), (), tuple(steady), torn=False)])
    assert one.mean_bps == pytest.approx(1e6)


def test_silence_counts_only_where_nothing_else_was_measured(header):
    steady = [KeptMeasurement(0.5 * k, 62_500, 0.5) for k in range(1, 41)]
    silent = [
        KeptMeasurement(0.5 * k, 0, 0.5, complete=False) for k in range(41, 51)
    ]  # 5 s in which nothing came
    slow = KeptMeasurement(28.0, 30_000, 4.0, complete=False)  # arrived from second 24 on
    (trace,) = measured_traces([Stream(header(), (), (*steady, *silent, slow), torn=False)])
    assert trace.duration_s == pytest.approx(28.0)
    assert trace.bytes_between(20.0, 24.0, "stop") == pytest.approx(0.0, abs=1e-6)
    assert trace.bytes_between(24.0, 28.0, "stop") == pytest.approx(30_000)


def test_a_short_silence_is_no_outage(header):
    """Nothing had come of a frame at its deadline; what came of it a moment later says the rate."""
    steady = [KeptMeasurement(0.5 * k, 62_500, 0.5) for k in range(1, 41)]
    silent = [KeptMeasurement(20.3 + 0.5 * k, 0, 0.2, complete=False) for k in range(4)]
    more = [KeptMeasurement(m.known_s + 22.0, 62_500, 0.5) for m in steady]

    def mean_bps(silences):
        entries = (*steady, *silent[:silences], *more)
        (trace,) = measured_traces([Stream(header(), (), entries, torn=False)])
        return 8 * trace.bytes_between(20.0, 22.0, "stop") / 2.0

    assert mean_bps(2) == pytest.approx(1e6)  # 0.4 s without anything
    assert mean_bps(4) < 0.5e6  # 0.8 s


def test_a_torn_last_segment_is_read_up_to_its_last_whole_line(tmp_path, header):
    write(tmp_path, [header(), frame(0)])
    write(tmp_path, [header(1), frame(1)], at=2, number=1, tail=encoded(frame(2))[:-5])
    # of another daemon's run, whose first segment has nothing whole; it has a trailing hole
    write(tmp_path, [header(name="bbbbbbbb"), frame(7)], at=3, name="bbbbbbbb", tail=b"\0" * 50)
    write(tmp_path, [], at=4, name="cccccccc", tail=b'{"kind":"hea')
    one, two = read_streams(tmp_path)
    assert [f.frame for f in one.frames] == [0, 1]
    assert one.torn
    assert [f.frame for f in two.frames] == [7]


@pytest.mark.parametrize(
    ("tail", "said"),
    [(b"nonsense\n", "line 3"), (encoded(frame(9))[:-9] + b"\n", "line 3"), (b"{", "line 3")],
)
def test_damage_before_the_end_is_refused(tmp_path, header, tail, said):
    write(tmp_path, [header(), frame(0)], tail=tail)
    write(tmp_path, [header(1), frame(1)], at=2, number=1)
    with pytest.raises(ArtefactError, match=said):
        read_streams(tmp_path)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("scenario", "other", "found records of 'other', expected those of '3g-alexnet' alone"),
        ("scenario_digest", "0" * 64, "field 'scenario_digest': found records with 0000"),
        ("model_digest", "0" * 64, "field 'model_digest'"),
        ("plans_digest", "0" * 64, "field 'plans_digest'"),
    ],
)
def test_records_of_another_scenario_network_or_plans_are_refused(
    tmp_path, header, stream, field, value, said
):
    write(tmp_path, [header(), frame(0)])
    write(tmp_path, [header(name="bbbbbbbb", **{field: value})], at=2, name="bbbbbbbb")
    streams = read_streams(tmp_path)
    with pytest.raises(ArtefactError, match=re.escape(said)) as caught:
        check_streams(tmp_path, streams, stream)
    assert "\n" not in str(caught.value)


def test_profiles_may_be_measured_anew(tmp_path, header, stream):
    write(tmp_path, [header(inputs_digest="0" * 64)])
    check_streams(tmp_path, read_streams(tmp_path), stream)


def test_a_folder_without_records_and_other_versions_are_refused(tmp_path, header):
    with pytest.raises(ArtefactError, match="found no records"):
        read_streams(tmp_path)
    with pytest.raises(ArtefactError, match="found no folder"):
        read_streams(tmp_path / "absent")
    raw = encoded(header()).replace(b'"format_version":1', b'"format_version":9')
    write(tmp_path, [], tail=raw)
    with pytest.raises(ArtefactError, match="field 'format_version': found 9, expected 1"):
        read_streams(tmp_path)
    write(tmp_path, [], tail=raw.replace(b'"stream"', b'"another"'))
    with pytest.raises(ArtefactError, match="found no header of format 1, but of 9"):
        read_streams(tmp_path)
    write(tmp_path, [frame(0)])
    with pytest.raises(ArtefactError, match="expected one header, then records"):
        read_streams(tmp_path)


def test_the_newest_is_held_back_and_nothing_is_in_two_parts():
    traces = [
        BandwidthTrace.from_intervals(f"t{k}", [1.0] * 500, 1e6 + 1e3 * np.arange(500) + 1e6 * k)
        for k in range(2)
    ]
    parts = split_by_time(traces, "records")
    rates = [
        np.concatenate([t.rates_bps for t in part.traces])
        for part in (parts.train, parts.validation, parts.held_back)
    ]
    assert [len(r) for r in rates] == [700, 150, 150]
    assert np.array_equal(np.concatenate(rates), np.concatenate([t.rates_bps for t in traces]))
    assert [t.duration_s for t in parts.held_back.traces] == [75.0, 75.0]
    names = [t.name for t in parts.held_back.traces]
    assert len(set(names)) == 2
    with pytest.raises(UsageError, match="of which none of 10 s is to choose on"):
        split_by_time([traces[0].slice(0.0, 60.0)], "records")


def test_frames_of_several_streams_lie_on_one_clock_as_they_arrived(header):
    """A frame is kept when it ends, which may be before an older one does; every stream has a clock
    of its own."""
    streams = [
        Stream(header(), (frame(1), frame(0), frame(2)), (), False),
        Stream(header(name="bbbbbbbb"), (frame(0), frame(1)), (), False),
    ]
    found = frames_between(streams, 0.0, 1.0)
    assert [one.frame for one in found] == [0, 1, 2, 0, 1]
    at_s = [one.arrival_s for one in found]
    assert at_s == pytest.approx([0.0, 0.1, 0.2, 0.2 + APART_S, 0.3 + APART_S])
    assert frames_between(streams, 0.0, 0.6) == found[:3]
    assert frames_between(streams, 0.6, 1.0) == found[3:]
    assert frames_between([], 0.0, 1.0) == ()
