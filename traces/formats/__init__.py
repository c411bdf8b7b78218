"""Readers that recognise the trace formats of the field, and writers for CSV and Mahimahi.

`read` gives a trace and what was understood of its file; `read_trace` the trace alone. A malformed
line is refused with its file, number, what was found and what was expected; a file that can be
read in two ways is refused with both. Readers conserve bytes: what a log counted is what the trace
delivers.
"""

from traces.formats.bare import OBOE_LAST_CHUNK_MS
from traces.formats.own_csv import CSV_HEADER, write_csv
from traces.formats.packets import (
    MAHIMAHI_STEP_MS,
    PACKET_BYTES,
    read_packets,
    write_mahimahi,
)
from traces.formats.reading import (
    LONGEST_S,
    MAX_RATE_BPS,
    NO_OPTIONS,
    Format,
    Reading,
    ReadOptions,
    TraceQuestion,
    Understood,
    oddities,
)
from traces.formats.registry import (
    FORMATS,
    format_of,
    is_passed_over,
    read,
    read_all,
    read_trace,
    read_traces,
    trace_files,
)
from traces.formats.unpacking import SUFFIXES

__all__ = [
    "CSV_HEADER",
    "FORMATS",
    "LONGEST_S",
    "MAHIMAHI_STEP_MS",
    "MAX_RATE_BPS",
    "NO_OPTIONS",
    "OBOE_LAST_CHUNK_MS",
    "PACKET_BYTES",
    "SUFFIXES",
    "Format",
    "ReadOptions",
    "Reading",
    "TraceQuestion",
    "Understood",
    "format_of",
    "is_passed_over",
    "oddities",
    "read",
    "read_all",
    "read_packets",
    "read_trace",
    "read_traces",
    "trace_files",
    "write_csv",
    "write_mahimahi",
]
