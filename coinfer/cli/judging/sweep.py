"""`coinfer sweep`: many trainings, one table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coinfer.cli.console import console, emit_json, print_table, progress_bar, say_interrupted
from coinfer.cli.options import JsonOption

if TYPE_CHECKING:
    from experiments.sweeps.definition import Sweep
    from experiments.sweeps.driver import Swept
    from experiments.sweeps.results import Record


def sweep(
    definition: Annotated[
        Path, typer.Argument(help="The sweep's .toml file (docs/reference/studies.md).")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the cells and the tables.")],
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes (one a core).")] = None,
    ray: Annotated[str, typer.Option(help="HOST:PORT of a Ray cluster, instead of --jobs.")] = "",
    json: JsonOption = False,
) -> None:
    """Train and judge every cell of seeds x scenarios x algorithms x hyper-parameters.

    The same command goes on where it was ended. Tables: OUT/results.parquet, OUT/traces.parquet.
    """
    from artefacts import UsageError, usable_cpus

    if jobs is not None and ray:
        raise UsageError("sweep: found --jobs and --ray, expected one of them")
    from experiments.sweeps.definition import read_sweep
    from experiments.sweeps.driver import run_sweep
    from experiments.sweeps.local import run_local
    from experiments.sweeps.on_ray import run_on_ray

    wanted = read_sweep(definition)
    processes = jobs or usable_cpus()
    with progress_bar() as bar:
        task = bar.add_task("sweep", total=None, note="")

        def begun(cells: int, skipped: int) -> None:
            if skipped:
                console.print(f"{skipped} of {cells} cells were finished before and are skipped")
            bar.update(task, total=cells, completed=skipped)

        def finished(record: Record) -> None:
            console.print(_line(record))
            bar.update(task, advance=1)

        try:
            done = run_sweep(
                wanted,
                out,
                lambda cells: run_on_ray(cells, ray) if ray else run_local(cells, processes),
                begun,
                finished,
            )
        except KeyboardInterrupt:
            say_interrupted(out)
            raise typer.Exit(130) from None
    _report(wanted, done, out, json)
    if done.failed:
        names = "; ".join(f"{record.cell.label}: {record.error}" for record in done.failed)
        count = f"{len(done.failed)} {'cell' if len(done.failed) == 1 else 'cells'}"
        console.print(f"{count} failed: {names}")
        raise typer.Exit(1)


def _line(record: Record) -> str:
    from experiments.sweeps.results import CellFailure

    attempts = f", attempt {record.attempts}" if record.attempts > 1 else ""
    if isinstance(record, CellFailure):
        return f"failed: {record.cell.label}{attempts}: {record.error}"
    rewards = ", ".join(
        f"{part} reward {found.figures.reward:.4f}" for part, found in record.measured.parts.items()
    )
    return f"{record.cell.label}: {rewards}, {record.measured.train_s:.0f} s{attempts}"


def _report(wanted: Sweep, done: Swept, out: Path, json: bool) -> None:
    from experiments.sweeps.results import table_rows

    rows = table_rows(done.records)
    if json:
        emit_json(
            {
                "results": str(out / "results.parquet"),
                "traces": str(out / "traces.parquet"),
                "cells": len(done.records),
                "skipped": done.skipped,
                "failed": [record.cell.id for record in done.failed],
                "rows": rows,
            }
        )
        return
    part = wanted.evaluation.parts[0]
    columns = ["scenario", "algorithm", *wanted.swept]
    print_table(
        f"{len(done.records)} cells in {out}; figures on {part}, mean over seeds",
        [*columns, "seeds", "mean reward", "least", "greatest", "goodput accuracy", "late"],
        _grouped([row for row in rows if row["status"] == "finished"], columns, part),
    )


def _grouped(rows: list[dict[str, Any]], columns: list[str], part: str) -> list[list[object]]:
    """A line for everything but the seed, best mean reward first."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(str(row[name]) for name in columns), []).append(row)

    def mean(group: list[dict[str, Any]], figure: str) -> float:
        return float(sum(row[f"{part}_{figure}"] for row in group) / len(group))

    ordered = sorted(groups.items(), key=lambda item: -mean(item[1], "mean_reward"))
    return [
        [
            *names,
            len(group),
            f"{mean(group, 'mean_reward'):.4f}",
            f"{min(row[f'{part}_mean_reward'] for row in group):.4f}",
            f"{max(row[f'{part}_mean_reward'] for row in group):.4f}",
            f"{100 * mean(group, 'goodput_accuracy'):.2f} %",
            f"{100 * mean(group, 'late_share'):.2f} %",
        ]
        for names, group in ordered
    ]
