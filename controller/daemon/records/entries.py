"""The form of kept records: segments of JSON lines, a header first, then frames and measurements.

What is kept are figures. Pictures, tensors, answered classes and messages are not: whoever reads a
segment learns how fast and how sure frames were answered, not what was on them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

import msgspec

from artefacts import digest_bytes
from controller.device.frame import FrameRecord
from controller.interface import Measurement
from controller.plans import Plan
from controller.scenarios import Setting

FORMAT_VERSION = 1
DIGITS = 6
"""Of a second or a probability that is kept."""
LINE_BYTES = 16_384
"""A line of a segment is no longer."""
SEGMENT = re.compile(r"records-\d{13}-[0-9a-f]{8}-\d{6}\.jsonl(?:\.part)?")
"""Name of a segment: when it began (ms), its stream, its number. `.part`: not ended."""
PART = ".part"


class RecordSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the figures of the last frames and transfers are kept, for `coinfer train --from`."""

    folder: Annotated[str, msgspec.Meta(min_length=1)]
    """Of the segments; made with mode 0700 where it is not there."""
    most_bytes: int = 67_108_864
    """Of all segments together; the oldest go first."""
    hours: float = 24.0
    """Older segments are removed."""


def record_bounds(found: RecordSettings | None) -> list[tuple[str, float, float, float]]:
    """(field, value, least, most) of what the settings say."""
    if found is None:
        return []
    return [
        ("records.most_bytes", found.most_bytes, 2**16, 2**40),
        ("records.hours", found.hours, 0.01, 8784.0),
    ]


class RecordsHeader(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="header"
):
    """First line of a segment (`kind`: "header"): whose records. Times count from `begun_at_s`."""

    format_version: int
    """1."""
    stream: str
    """Eight hexadecimal digits: the same in all segments of one unbroken stream."""
    number: int
    """Of this segment in its stream, from 0."""
    begun_at_s: float
    """When the daemon's stream began, in seconds since 1970 by the device's clock."""
    scenario: str
    """Its name."""
    scenario_digest: str
    """Of its file."""
    model_digest: str
    """Of the network's weights."""
    inputs_digest: str
    """Of profiles and outcomes."""
    plans_digest: str
    """Of the plans, in their order."""


class KeptFrame(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag_field="kind",
    tag="frame",
):
    """One frame (`kind`: "frame"). Which class was answered is not kept."""

    frame: int
    """Its number."""
    plan: int
    """Its plan's number in the scenario's table."""
    arrival_s: float
    """Since the stream's begin."""
    latency_s: float | None = None
    """From arrival to answer (null: none in time)."""
    exit: int | None = None
    """That answered, from 0."""
    by_plan: bool = False
    """Whether the plan's own answer came, no local one."""
    where: str | None = None
    """Where the answer's last layer ran: device or edge."""
    confidence: float | None = None
    """The answered class's probability."""
    bytes_sent: int = 0
    """Of the tensor or picture."""
    size: float | None = None
    """Bytes that crossed over their mean by its plan."""
    device_s: float = 0.0
    """Computed on the device."""
    stages_s: dict[str, float] = {}
    """Of an edge's answer: receiving, waiting and computing there."""
    moments_s: dict[str, float] = {}
    """Since its arrival: as in the record of a run."""


class KeptMeasurement(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag_field="kind",
    tag="measurement",
):
    """One transfer, or what had come of it (`kind`: "measurement")."""

    known_s: float
    """When the device knew of it, since the stream's begin."""
    payload_bytes: int
    """That arrived."""
    duration_s: float
    """In which they did."""
    complete: bool = True
    """Whether all of it arrived."""


Entry = RecordsHeader | KeptFrame | KeptMeasurement
_DECODER = msgspec.json.Decoder(Entry)


def records_header(setting: Setting, stream: str, number: int, begun_at_s: float) -> RecordsHeader:
    """The first line of a segment of records of a setting.

    `stream` is the stream's name, `number` the segment's; the stream began at `begun_at_s`, in
    seconds since 1970.
    """
    return RecordsHeader(
        FORMAT_VERSION,
        stream,
        number,
        round(begun_at_s, 3),
        setting.scenario.name,
        setting.scenario.digest,
        setting.model.digest,
        setting.inputs_digest,
        plans_digest(setting.table.plans),
    )


def kept_frame(record: FrameRecord) -> KeptFrame:
    """What is kept of a frame's record."""
    return KeptFrame(
        record.frame,
        record.plan,
        round(record.arrival_s, DIGITS),
        _rounded(record.latency_s),
        record.exit,
        record.by_plan,
        record.where,
        _rounded(record.confidence),
        record.bytes_sent,
        _rounded(record.size),
        round(record.device_s, DIGITS),
        {name: round(value, DIGITS) for name, value in dict(record.stages_s).items()},
        {name: round(value, DIGITS) for name, value in dict(record.moments_s).items()},
    )


def kept_measurement(measurement: Measurement) -> KeptMeasurement:
    """What is kept of a transfer."""
    return KeptMeasurement(
        round(measurement.known_s, DIGITS),
        measurement.payload_bytes,
        round(measurement.duration_s, DIGITS),
        measurement.complete,
    )


def encoded(entry: Entry) -> bytes:
    """An entry as a line."""
    return msgspec.json.encode(entry) + b"\n"


def decoded(line: bytes) -> Entry:
    """The entry of a line. Raises `msgspec.DecodeError` where it is none."""
    found: Entry = _DECODER.decode(line)
    return found


def plans_digest(plans: Sequence[Plan]) -> str:
    """SHA-256 of plans in their order: frames name them by their numbers."""
    return digest_bytes("\n".join(str(plan) for plan in plans).encode())


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)
