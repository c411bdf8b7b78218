"""What a sweep leaves on disk: a folder a cell, and two tables of all.

`cells/<id>/` holds the policy and, written last, `result.json`; a folder without it is of a cell
that was not finished. `failure.json` stands for a cell that ended in an error; the next run tries
it again. `results.parquet` (a row a cell) and `traces.parquet` (a row a cell, split and trace) are
made from these and replaced whole after every cell.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from artefacts import ArtefactError, UsageError, atomic_write, read_json, write_json
from experiments.evaluation.comparison import TraceFigures
from experiments.learning.training_args import TrainArgs
from experiments.sweeps.cell import Measured
from experiments.sweeps.definition import argument_types
from experiments.sweeps.grid import Cell
from experiments.sweeps.runners import Done

FORMAT_VERSION = 1
FIGURES = {
    "reward": "mean_reward",
    "goodput_accuracy": "goodput_accuracy",
    "late_share": "late_share",
    "mean_latency_s": "mean_latency_s",
    "p95_latency_s": "p95_latency_s",
    "bytes_per_frame": "bytes_per_frame",
    "device_compute_s_per_frame": "device_s_per_frame",
    "energy_j_per_frame": "energy_j_per_frame",
    "share_of_bound": "share_of_bound",
}
"""Figures of the comparison and their columns; a cell's are prefixed by their split."""
ARROW = {
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    str: pa.string(),
}


class CellResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`result.json`: a finished cell; `attempts`: how often it was begun (workers die)."""

    format_version: int
    cell: Cell
    attempts: int
    measured: Measured


class CellFailure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`failure.json`: a cell that ended in an error, in one line."""

    format_version: int
    cell: Cell
    attempts: int
    error: str


Record = CellResult | CellFailure


class Store:
    """The folder of one sweep; `cells` are those that its tables tell of."""

    def __init__(self, folder: str | Path, cells: Sequence[Cell]) -> None:
        self.folder = Path(folder)
        self._cells = tuple(cells)
        self._records: dict[str, Record] = {}

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder; UsageError where another sweep is at work in it."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            stream = open(self.folder / ".lock", "w")  # noqa: SIM115
        except OSError as error:
            raise ArtefactError(
                self.folder, found=str(error.strerror).lower(), expected="a folder to write into"
            ) from None
        with stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(
                    f"{self.folder}: found another sweep at work in it, expected none"
                ) from None
            yield

    def load(self) -> tuple[Cell, ...]:
        """Read what is there; the cells that are still to do, earlier failures among them."""
        for cell in self._cells:
            kinds: tuple[tuple[str, type[Record]], ...]
            kinds = (("failure.json", CellFailure), ("result.json", CellResult))
            for name, kind in kinds:
                path = self._of(cell) / name
                if path.exists():
                    self._records[cell.id] = _read(path, kind, cell)
        results = {r.cell.id for r in self._records.values() if isinstance(r, CellResult)}
        return tuple(cell for cell in self._cells if cell.id not in results)

    def add(self, done: Done) -> Record:
        """Write what a cell gave, its result last, and both tables anew."""
        folder, answer = self._of(done.cell), done.answer
        record: Record
        if "error" in answer:
            record = CellFailure(FORMAT_VERSION, done.cell, done.attempts, answer["error"])
            write_json(folder / "failure.json", record)
        else:
            measured = msgspec.json.decode(answer["measured"], type=Measured)
            record = CellResult(FORMAT_VERSION, done.cell, done.attempts, measured)
            for name, content in answer["files"].items():
                with atomic_write(folder / name, "wb") as stream:
                    stream.write(content)
            write_json(folder / "result.json", record)
            (folder / "failure.json").unlink(missing_ok=True)
        self._records[done.cell.id] = record
        self.write_tables()
        return record

    def records(self) -> tuple[Record, ...]:
        """What is known of cells, in the order of the definition."""
        return tuple(self._records[c.id] for c in self._cells if c.id in self._records)

    def write_tables(self) -> None:
        """Replace `results.parquet` and `traces.parquet`."""
        records = self.records()
        parts = list(dict.fromkeys(p for c in self._cells for p in c.evaluation.parts))
        _write(self.folder / "results.parquet", table_rows(records), _cell_schema(parts))
        rows = [row for r in records if isinstance(r, CellResult) for row in _trace_rows(r)]
        _write(self.folder / "traces.parquet", rows, _trace_schema())

    def _of(self, cell: Cell) -> Path:
        return self.folder / "cells" / cell.id


def _read(path: Path, kind: type[Record], cell: Cell) -> Record:
    found: Record = read_json(path, kind, version=FORMAT_VERSION)
    if found.cell.id != cell.id:
        raise ArtefactError(path, field="cell.id", found=found.cell.id, expected=cell.id)
    return found


def table_rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    """The rows of `results.parquet`, as plain data."""
    return [_row(record) for record in records]


def _row(record: Record) -> dict[str, Any]:
    cell = record.cell
    row = {
        "cell": cell.id,
        "scenario": cell.scenario.name,
        **cell.args,
        "attempts": record.attempts,
    }
    if isinstance(record, CellFailure):
        return row | {"status": "failed", "error": record.error}
    measured = record.measured
    row |= {"status": "finished", "host": measured.host}
    row |= {"train_s": measured.train_s, "evaluate_s": measured.evaluate_s}
    for part, result in measured.parts.items():
        row |= {f"{part}_traces": result.source, f"{part}_bound": result.bound}
        row |= {f"{part}_{column}": getattr(result.figures, f) for f, column in FIGURES.items()}
    return row


def _trace_rows(result: CellResult) -> Iterator[dict[str, Any]]:
    cell = result.cell
    for part, found in result.measured.parts.items():
        for trace, figures in found.figures.per_trace.items():
            yield {
                "cell": cell.id,
                "scenario": cell.scenario.name,
                "algorithm": cell.algorithm,
                "seed": cell.args["seed"],
                "part": part,
                "trace": trace,
                "frames": figures.frames,
            } | {column: getattr(figures, f) for f, column in FIGURES.items()}


def _cell_schema(parts: Sequence[str]) -> pa.Schema:
    """Columns of the table of cells: what it is, its arguments, how it went, figures by split."""
    columns = {"cell": pa.string(), "scenario": pa.string(), "algorithm": pa.string()}
    columns["seed"] = pa.int64()
    for name, hint in argument_types(TrainArgs).items():
        columns.setdefault(name, ARROW.get(hint, pa.string()))
    columns |= {"status": pa.string(), "error": pa.string(), "attempts": pa.int64()}
    for part in parts:
        columns[f"{part}_traces"] = pa.string()
        columns[f"{part}_bound"] = pa.float64()
        columns |= {f"{part}_{column}": pa.float64() for column in FIGURES.values()}
    columns |= {"train_s": pa.float64(), "evaluate_s": pa.float64(), "host": pa.string()}
    return pa.schema(list(columns.items()))


def _trace_schema() -> pa.Schema:
    names = ("cell", "scenario", "algorithm", "part", "trace")
    columns = {name: pa.string() for name in names} | {"seed": pa.int64(), "frames": pa.int64()}
    columns |= {column: pa.float64() for column in FIGURES.values()}
    assert set(FIGURES) <= set(TraceFigures.__struct_fields__)
    return pa.schema(list(columns.items()))


def _write(path: Path, rows: Sequence[dict[str, Any]], schema: pa.Schema) -> None:
    fitted = [{name: _fitted(row.get(name), schema.field(name).type) for name in schema.names}
              for row in rows]  # fmt: skip
    with atomic_write(path, "wb") as stream:
        pq.write_table(pa.Table.from_pylist(fitted, schema=schema), stream)


def _fitted(value: Any, kind: pa.DataType) -> Any:
    """A value of a type that has no column type of its own is written as JSON."""
    if kind == pa.string() and value is not None and not isinstance(value, str):
        return msgspec.json.encode(value).decode()
    return value
