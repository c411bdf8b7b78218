"""What PORTEND measured (Ebrahimi et al., ICPADS 2023), read from the four published tables.

Latencies are of partitions measured as a whole, not sums of blocks. Every exit was measured on all
samples, the ones that would have left before it too.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from artefacts import ArtefactError, UsageError, data_directory, read_bytes
from artefacts.arrays import Floats

MOST_BYTES = 64 * 2**20
TABLES = {
    "partitions.csv": (
        "machine", "network", "data_set", "first_block", "last_block", "latency_ms", "samples",
    ),
    "exits.csv": (
        "network", "data_set", "part", "exit_after_block", "entropy_threshold", "would_exit",
        "right_of_those",
    ),
    "block_inputs.csv": ("network", "data_set", "block", "input_shape", "float32_bytes"),
    "serialisation.csv": ("machine", "bytes", "serialise_ms", "deserialise_ms"),
}  # fmt: skip
Row = dict[str, str]


@dataclass(frozen=True, eq=False)
class Exits:
    """Of every threshold and block: how many samples would exit there, and how many rightly."""

    thresholds: Floats
    """(T,) of the normalised entropy, rising; at 1 every sample exits."""
    would: Floats
    """(T, N + 1) samples, by the block before the exit; 0 stands for no block at all."""
    right: Floats
    """(T, N + 1) of those."""
    samples: float


@dataclass(frozen=True, eq=False)
class Network:
    """A network of N blocks: what its partitions take, what crosses, what its exits are worth."""

    name: str
    blocks: int
    latency_ms: dict[str, Floats]
    """(N + 2, N + 2) by machine: of the partition from one block to another, 0 of none."""
    input_bytes: Floats
    """(N + 2,) that enter a block, by its number."""
    exits: dict[str, Exits]
    """By the part that they were measured on: validation, test."""


@dataclass(frozen=True, eq=False)
class Serialisation:
    """What writing and reading tensors takes on a machine, by their size."""

    bytes: Floats
    write_ms: Floats
    read_ms: Floats

    def write(self, count: Floats) -> Floats:
        """Milliseconds to write so many bytes, between the sizes that were measured."""
        return np.interp(count, self.bytes, self.write_ms)

    def read(self, count: Floats) -> Floats:
        """Milliseconds to read them."""
        return np.interp(count, self.bytes, self.read_ms)


def folder_of(given: Path | None) -> Path:
    """The folder of the four tables: the one that is `given`, else of the data folder."""
    root = data_directory()
    place = given or (root / "portend" if root is not None else None)
    if place is None or not place.is_dir():
        raise UsageError(
            f"PORTEND: found no folder {place or 'portend/'}, expected one with "
            f"{', '.join(TABLES)} (--data FOLDER, or COINFER_DATA)"
        )
    return place


def read_networks(folder: Path) -> dict[str, Network]:
    """Every network of the tables in a `folder`, by its name; raises `ArtefactError`."""
    times, exits, inputs = (
        _by_network(folder / name) for name in ("partitions.csv", "exits.csv", "block_inputs.csv")
    )
    found = {}
    for name, rows in times.items():
        blocks = max(_whole(folder / "partitions.csv", row, "last_block") for row in rows)
        if name in exits and name in inputs:
            found[name] = Network(
                name,
                blocks,
                _latencies(folder / "partitions.csv", rows, blocks),
                _inputs(folder / "block_inputs.csv", inputs[name], blocks, name),
                _exits(folder / "exits.csv", exits[name], blocks),
            )
    return found


def read_serialisation(folder: Path) -> dict[str, Serialisation]:
    """What every machine of the table in a `folder` takes to write and to read."""
    path = folder / "serialisation.csv"
    rows: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for row in _rows(path):
        rows[row["machine"]].append(
            (
                _number(path, row, "bytes"), _number(path, row, "serialise_ms"),
                _number(path, row, "deserialise_ms"),
            )
        )  # fmt: skip
    return {name: _curve(np.array(sorted(of))) for name, of in rows.items()}


def _curve(rows: Floats) -> Serialisation:
    """Medians of every size; nothing takes nothing."""
    sizes = np.unique(rows[:, 0])
    medians = np.array([np.median(rows[rows[:, 0] == size, 1:], axis=0) for size in sizes])
    both = np.vstack([np.zeros((1, 2)), medians])
    return Serialisation(np.concatenate([[0.0], sizes]), both[:, 0], both[:, 1])


def _latencies(path: Path, rows: list[Row], blocks: int) -> dict[str, Floats]:
    found: dict[str, Floats] = {}
    for row in rows:
        first, last = _whole(path, row, "first_block"), _whole(path, row, "last_block")
        if not 1 <= first <= last <= blocks:
            raise ArtefactError(
                path, field="first_block", found=f"{first} to {last}", expected="blocks in order"
            )
        made = found.setdefault(row["machine"], np.full((blocks + 2, blocks + 2), np.nan))
        made[first, last] = _number(path, row, "latency_ms")
    for machine, made in found.items():
        for first in range(1, blocks + 2):
            made[first, first - 1] = 0.0
        missing = np.argwhere(np.isnan(np.triu(made[1:-1, 1:-1])))
        if len(missing):
            first, last = (int(k) + 1 for k in missing[0])
            raise ArtefactError(
                path, field="latency_ms", found=f"nothing for blocks {first} to {last}",
                expected=f"a latency on {machine}",
            )  # fmt: skip
    return found


def _inputs(path: Path, rows: list[Row], blocks: int, name: str) -> Floats:
    """Bytes that enter every block.

    VGGish's are numbered from 0 in the published table, and behind them stand those of other
    networks under its name: the first row of a block counts.
    """
    first: dict[int, float] = {}
    for row in rows:
        first.setdefault(_whole(path, row, "block"), _number(path, row, "float32_bytes"))
    shift = 1 if 0 in first else 0
    made = np.full(blocks + 2, np.nan)
    for number in range(1, blocks + 1):
        if number - shift not in first:
            raise ArtefactError(
                path, field="block", found=f"none of number {number - shift} of {name}",
                expected=f"the input of all {blocks} blocks",
            )  # fmt: skip
        made[number] = first[number - shift]
    return made


def _exits(path: Path, rows: list[Row], blocks: int) -> dict[str, Exits]:
    parts: dict[str, dict[tuple[float, int], tuple[float, float]]] = defaultdict(dict)
    for row in rows:
        key = (_number(path, row, "entropy_threshold"), _whole(path, row, "exit_after_block"))
        parts[row["part"]][key] = (
            _number(path, row, "would_exit"), _number(path, row, "right_of_those"),
        )  # fmt: skip
    found = {}
    for part, given in parts.items():
        thresholds = sorted({t for t, _ in given})
        would, right = (np.zeros((len(thresholds), blocks + 1)) for _ in range(2))
        for (threshold, block), (all_of, right_of) in given.items():
            at = thresholds.index(threshold)
            if not 0 <= right_of <= all_of:
                raise ArtefactError(
                    path, field="right_of_those", found=f"{right_of:g} of {all_of:g}",
                    expected="a part of those that would exit",
                )  # fmt: skip
            would[at, block], right[at, block] = all_of, right_of
        found[part] = Exits(np.array(thresholds), would, right, float(would[-1].max()))
    return found


def _by_network(path: Path) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in _rows(path):
        found[row["network"]].append(row)
    return found


def _rows(path: Path) -> Iterator[Row]:
    text = read_bytes(path, MOST_BYTES).decode("utf-8", "replace")
    table = csv.DictReader(io.StringIO(text))
    wanted = TABLES[path.name]
    if tuple(table.fieldnames or ()) != wanted:
        raise ArtefactError(
            path, line=1, found=", ".join(table.fieldnames or ()) or "nothing",
            expected=", ".join(wanted),
        )  # fmt: skip
    for number, row in enumerate(table, 2):
        if None in row or None in row.values():
            raise ArtefactError(
                path, line=number, found="another number of fields",
                expected=f"{len(wanted)} fields",
            )  # fmt: skip
        yield row


def _number(path: Path, row: Row, field: str) -> float:
    try:
        value = float(row[field])
    except ValueError:
        value = float("nan")
    if not 0 <= value < float("inf"):
        raise ArtefactError(path, field=field, found=row[field], expected="a number, 0 or more")
    return value


def _whole(path: Path, row: Row, field: str) -> int:
    value = _number(path, row, field)
    if value != int(value):
        raise ArtefactError(path, field=field, found=row[field], expected="a whole number")
    return int(value)
