"""`coinfer bench detector`: change-point detectors on known steps and on Belgium's test logs.

Prints what `experiments.analyses.detectors` measures; owns no figure of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from artefacts import UsageError
from coinfer.cli.console import console, emit_json, print_table
from coinfer.cli.options import JsonOption

if TYPE_CHECKING:
    from experiments.analyses.detectors.recorded import TraceScore
    from experiments.analyses.detectors.scores import StepScore

BASELINE = "ewma"
SCALE = 0.1
STATES = 32

STEP_METRICS = {
    "mean_delay": ("mean_delay_s", "s"),
    "median_delay": ("median_delay_s", "s"),
    "p90_delay": ("p90_delay_s", "s"),
    "missed": ("missed_share", "share"),
    "false_alarms": ("false_alarms_per_hour", "1/h"),
}
TRACE_METRICS = {
    "changes": ("changes_per_hour", "1/h"),
    "switches": ("switches_per_hour", "1/h"),
    "log_error": ("log_error", "ln"),
    "update": ("update_us", "us"),
}


def detector(
    hours: Annotated[float, typer.Option(help="Hours of synthetic steps a detector.")] = 10.0,
    seed: Annotated[int, typer.Option(help="Seed of the steps that are scored.")] = 0,
    json_: JsonOption = False,
) -> None:
    """Detection delay and false alarms of Bayes, EWMA and Page-Hinkley; switches on real logs."""
    import time

    from experiments.analyses.detectors.recorded import trace_benchmark
    from experiments.analyses.detectors.scores import step_benchmark
    from experiments.analyses.detectors.steps import link_statistics
    from traces.library import load_split
    from traces.states import states_by_quantiles

    if not 0.1 <= hours <= 1000:
        raise UsageError(f"--hours: found {hours}, expected 0.1 to 1000")
    if seed < 0:
        raise UsageError(f"--seed: found {seed}, expected at least 0")
    train, test = load_split("belgium", "train"), load_split("belgium", "test")
    scaled = [trace.scale(SCALE) for trace in train.traces]
    note = console.print
    steps = step_benchmark(link_statistics(scaled), hours, seed, note)
    logs = trace_benchmark(
        [trace.scale(SCALE) for trace in test.traces],
        states_by_quantiles(scaled, STATES, 5.0),
        time.perf_counter,
        note,
    )
    if json_:
        emit_json(as_entries(steps, logs))
    else:
        _print(steps, logs, train.source, test.source, f"--hours {hours:g} --seed {seed}")


def as_entries(steps: Sequence[StepScore], logs: Sequence[TraceScore]) -> dict[str, dict[str, Any]]:
    """One entry per detector and figure; baseline and ratio are the EWMA's (null at itself)."""
    found: dict[str, dict[str, Any]] = {}
    for sampling in dict.fromkeys(s.sampling for s in steps):
        mine = [s for s in steps if s.sampling == sampling]
        found |= _entries(f"steps.{sampling}", mine, STEP_METRICS)
    return found | _entries("belgium", logs, TRACE_METRICS)


def _entries(
    key: str, scores: Sequence[StepScore | TraceScore], metrics: dict[str, tuple[str, str]]
) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    reference = next((s for s in scores if s.detector == BASELINE), None)
    for score in scores:
        for metric, (field, unit) in metrics.items():
            value = getattr(score, field)
            base = None if reference is score else getattr(reference, field, None)
            found[f"{key}.{score.detector}.{metric}"] = {
                "value": value,
                "unit": unit,
                "baseline": base,
                "ratio": value / base if base else None,
            }
    return found


def _print(
    steps: Sequence[StepScore],
    logs: Sequence[TraceScore],
    train: str,
    test: str,
    arguments: str,
) -> None:
    print_table(
        f"Synthetic steps; noise and steps as in {train} (coinfer bench detector {arguments})",
        [
            *("detector", "sampling", "tuned on other seeds to", "mean delay", "median", "p90"),
            *("missed", "false alarms/h"),
        ],
        [
            (
                s.detector,
                s.sampling,
                s.settings,
                f"{s.mean_delay_s:.2f} s",
                f"{s.median_delay_s:.2f} s",
                f"{s.p90_delay_s:.2f} s",
                f"{100 * s.missed_share:.1f} %",
                f"{s.false_alarms_per_hour:.1f}",
            )
            for s in steps
        ],
    )
    print_table(
        f"Transfers of 12,288 bytes on {test} x {SCALE}, default settings, {STATES} states",
        ("detector", "transfers", "changes/h", "state switches/h", "ln error", "update"),
        [
            (
                s.detector,
                s.transfers,
                f"{s.changes_per_hour:.0f}",
                f"{s.switches_per_hour:.0f}",
                f"{s.log_error:.3f}",
                f"{s.update_us:.0f} us",
            )
            for s in logs
        ],
    )
