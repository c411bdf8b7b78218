"""`coinfer bench codecs|confidence|executors|deadlines|optimum`: figures of networks and scenarios.

Prints what outcomes, profiles and `experiments` say; owns no figure of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from artefacts import UsageError, ready_file
from coinfer.cli.console import console, emit_json, print_table, progress_bar
from coinfer.cli.options import DeviceSecondOption, JsonOption, MegabyteOption, ScenarioOption
from coinfer.cli.scenario import prices_of, setting_of

ModelOption = Annotated[str, typer.Option(help="A shipped model's name, or a folder.")]
ExitOption = Annotated[int, typer.Option("--exit", min=0, help="1-based; 0: the last.")]


def codecs(
    model: ModelOption = "mobilenetv2",
    device: Annotated[str, typer.Option(help="Profile that says what encoding takes.")] = "",
    edge: Annotated[str, typer.Option(help="Profile that says what decoding takes.")] = "",
    exit_: ExitOption = 0,
    json: JsonOption = False,
) -> None:
    """Bytes, accuracy and time of every wire codec at every cut (report half of the outcomes)."""
    from controller.scenarios import load_profile
    from experiments.analyses.codec_table import codec_rows
    from models.facts.cards import load_model
    from models.facts.outcomes import read_outcomes

    loaded = load_model(model)
    outcomes = read_outcomes(loaded.folder / "outcomes.npz")
    exits = len(loaded.spec.exits)
    if exit_ > exits:
        raise UsageError(f"--exit: found {exit_}, expected 1 to {exits}")
    branch = (exit_ or exits) - 1
    slow = load_profile(device, loaded) if device else None
    fast = load_profile(edge, loaded) if edge else None
    rows = codec_rows(loaded, outcomes, branch, slow, fast)
    if json:
        emit_json(rows)
        return
    print_table(
        f"{loaded.spec.name}, exit {branch + 1}: float32 accuracy "
        f"{100 * outcomes.accuracy(branch, half='report'):.2f} % on the report half of "
        f"{outcomes.dataset}",
        ["after", "codec", "bytes", "accuracy", "change", "encode ms", "decode ms"],
        [
            (
                row.after or "the picture",
                row.codec,
                f"{row.mean_bytes:,.0f}",
                f"{100 * row.accuracy:.2f} %",
                f"{100 * row.change:+.2f}",
                "-" if row.encode_s is None else f"{1e3 * row.encode_s:.2f}",
                "-" if row.decode_s is None else f"{1e3 * row.decode_s:.2f}",
            )
            for row in rows
        ],
    )


def confidence(
    model: ModelOption = "mobilenetv2",
    plot: Annotated[Path | None, typer.Option(help="Draw the curves to this PNG.")] = None,
    json: JsonOption = False,
) -> None:
    """Exit on confidence: thresholds, calibrated ones, learned gates; accuracy against compute."""
    from experiments.analyses.confidence.curves import confidence_figures
    from models.facts.cards import load_model

    loaded = load_model(model)
    if plot is not None:
        ready_file(plot)
    figures = confidence_figures(loaded)
    if plot is not None:
        from experiments.analyses.figures.confidence import draw_confidence

        draw_confidence(figures, plot)
    if json:
        emit_json(figures)
        return
    print_table(
        f"{figures.model}: calibration on held-back pictures, error on {figures.judged_on}",
        ["exit", "accuracy", "temperature", "ECE before", "ECE after"],
        [
            (
                c.exit,
                f"{100 * c.accuracy:.2f} %",
                f"{c.temperature:.2f}",
                f"{c.ece_before:.4f}",
                f"{c.ece_after:.4f}",
            )
            for c in figures.calibration
        ],
    )
    shares = (0.4, 0.5, 0.6, 0.7, 0.8)
    print_table(
        f"{figures.model}: accuracy within a budget (share of the whole network with "
        "every head; "
        "settings chosen on held-back pictures), and its mean over all budgets",
        ["method", *(f"{100 * s:.0f} %" for s in shares), "area"],
        [
            (
                c.method,
                *(_at(c.budget, c.accuracy, s) for s in shares),
                f"{c.area:.4f}",
            )
            for c in figures.curves
        ],
    )


def _at(budgets: tuple[float, ...], values: tuple[float, ...], budget: float) -> str:
    """The value at the greatest budget within `budget`."""
    within = [v for b, v in zip(budgets, values, strict=True) if b <= budget + 1e-9]
    return f"{100 * within[-1]:.2f} %" if within else "-"


def executors(
    model: ModelOption = "mobilenetv2",
    exit_: ExitOption = 0,
    repeats: Annotated[int, typer.Option(min=10, help="Timed runs of each.")] = 200,
    json: JsonOption = False,
) -> None:
    """A whole branch on ONNX Runtime, its int8 form and torch, against a plain session."""
    from experiments.benches.executor import executor_rows
    from models.facts.cards import load_model
    from models.facts.outcomes import read_outcomes

    loaded = load_model(model)
    exits = len(loaded.spec.exits)
    if exit_ > exits:
        raise UsageError(f"--exit: found {exit_}, expected 1 to {exits}")
    branch = (exit_ or exits) - 1
    rows = executor_rows(loaded, read_outcomes(loaded.folder / "outcomes.npz"), branch, repeats)
    if json:
        emit_json(rows)
        return
    print_table(
        f"{loaded.spec.name}, exit {branch + 1}, one thread, {repeats} runs each in turn",
        ["executor", "median ms", "of a plain session", "accuracy"],
        [
            (name, f"{r.value:.3f}", f"{r.ratio:.2f}", f"{100 * (r.accuracy or 0.0):.2f} %")
            for name, r in rows.items()
        ],
    )


def deadlines(
    scenario: ScenarioOption,
    at_ms: Annotated[str, typer.Option("--ms", help="Deadlines, separated by commas.")],
    frames: Annotated[int, typer.Option(min=1, help="Frames of every training log.")] = 1500,
    device_second: DeviceSecondOption = None,
    megabyte: MegabyteOption = None,
    json: JsonOption = False,
) -> None:
    """The best single plan against the bound at each deadline, on the training logs alone."""
    from controller.scenarios import read_scenario
    from experiments.analyses.deadlines import scan_deadlines

    try:
        wanted = [float(part) / 1e3 for part in at_ms.split(",")]
    except ValueError:
        raise UsageError(f"--ms: found '{at_ms}', expected numbers separated by commas") from None
    if not wanted or not all(0 < w <= 60.0 for w in wanted):
        raise UsageError(f"--ms: found '{at_ms}', expected numbers above 0, at most 60000")
    with progress_bar() as bar:
        task = bar.add_task("deadlines", total=len(wanted), note="")
        rows = scan_deadlines(
            read_scenario(scenario),
            wanted,
            frames,
            lambda done, total: bar.update(task, completed=done, total=total),
            prices_of(device_second, megabyte),
        )
    if json:
        emit_json(rows)
        return
    console.print("training logs, policy half of the outcomes; shares of the clairvoyant bound")
    print_table(
        scenario,
        ["deadline ms", "bound", "best single plan", "share", "best on the device", "share"],
        [
            (
                f"{1e3 * r.deadline_s:g}",
                f"{r.bound:.4f}",
                r.best_plan,
                f"{r.best_single:.4f}",
                r.best_local,
                f"{r.device_only:.4f}",
            )
            for r in rows
        ],
    )


def optimum(
    scenario: ScenarioOption,
    frames: Annotated[int, typer.Option(min=1, help="Of every test log.")] = 600,
    refine: Annotated[bool, typer.Option(help="Tell the grid's error (8 times the time).")] = False,
    device_second: DeviceSecondOption = None,
    megabyte: MegabyteOption = None,
    json: JsonOption = False,
) -> None:
    """The clairvoyant optimum over the coupled queue, its error, and what its policy earns."""
    from experiments.evaluation.optimum_play import optimum_row
    from experiments.evaluation.optimum_queue import CoupledQueue

    setting = setting_of(scenario, device_second, megabyte)
    queue, traces = CoupledQueue(setting), setting.traces("test")
    rows = []
    with progress_bar() as bar:
        task = bar.add_task("optimum", total=len(traces.traces), note="")
        for trace in traces.traces:
            rows.append(optimum_row(queue, trace, frames, refine))
            bar.update(task, advance=1, note=f"{rows[-1].frames_per_s:,.0f} frames/s")
    if json:
        emit_json(rows)
        return
    console.print(f"traces: {traces.source}; report half of the outcomes")
    print_table(
        f"{scenario}: reward per frame",
        ["trace", "frames", "bound", "optimum", "grid error", "earned", "frames/s"],
        [
            (
                r.trace,
                r.frames,
                f"{r.bound:.5f}",
                f"{r.optimum:.5f}",
                "-" if r.grid_error is None else f"{100 * r.grid_error:+.4f} %",
                f"{r.earned:.5f} +- {r.earned_error:.5f}",
                f"{r.frames_per_s:,.0f}",
            )
            for r in rows
        ],
    )
