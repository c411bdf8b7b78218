"""`coinfer figures edgent`: the paper's static experiments, as pictures and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from artefacts import UsageError, ready_folder
from coinfer.cli.console import console, emit_json, print_table, progress_bar
from coinfer.cli.options import JsonOption

READINGS = ("maps", "elements")

if TYPE_CHECKING:
    from experiments.analyses.figures.edgent import MethodPoint, StaticChoice, StaticFigures
    from models.facts.regression import Reading


def figures(
    which: Annotated[str, typer.Argument(help="Whose experiments: edgent.")],
    out: Annotated[Path, typer.Option(help="Folder for PNG and CSV.")] = Path("runs/figures"),
    model: Annotated[str, typer.Option(help="Model whose exits' accuracies are used.")] = "alexnet",
    reading: Annotated[str, typer.Option(help="Reading of the paper's conv variables.")] = "maps",
    order: Annotated[
        str, typer.Option(help="edge-first (the paper), device-first.")
    ] = "edge-first",
    requirement_ms: Annotated[
        float, typer.Option(help="Requirement of the figure over bandwidth.")
    ] = 1000.0,
    dynamic: Annotated[
        bool, typer.Option(help="Also the distribution of throughput on the test traces.")
    ] = True,
    json_: JsonOption = False,
) -> None:
    """Exit, partition and latency by bandwidth and by requirement; accuracy by requirement."""
    from controller.planners.algorithm1 import Order
    from experiments.analyses.figures.edgent import (
        device_only_s,
        edgent_inputs,
        static_figures,
        write_static_figures,
    )
    from models.facts.cards import load_model
    from models.facts.regression import Reading

    _check(which, reading, order, requirement_ms)
    loaded = load_model(model)
    ready_folder(out, make=False)
    inputs = edgent_inputs(loaded.spec, loaded.card.test_accuracies, cast(Reading, reading))
    made = static_figures(inputs, cast(Order, order), requirement_ms / 1000.0)
    written = write_static_figures(made, out)
    local = device_only_s(loaded.spec)
    throughput: dict[str, float] = {}
    if dynamic:
        throughput = _throughput(out)
        written = (*written, out / "throughput.png", out / "throughput.csv")
    if json_:
        emit_json({
            "device_only_s": local, "figures": made, "throughput_fps_at_0.6": throughput,
            "files": [str(path) for path in written],
        })  # fmt: skip
        return
    _print_device_only(local)
    _print(made, written, f"model {model}, conv's x1 as {reading}, {order}")
    if throughput:
        print_table(
            "Throughput at the 0.6 quantile (the paper, as recalled: map 27, static 20)",
            ("controller", "frames/s"),
            [(name, f"{value:.1f}") for name, value in throughput.items()],
        )


def _check(which: str, reading: str, order: str, requirement_ms: float) -> None:
    """Refuse what no figure can be drawn for."""
    from controller.planners.algorithm1 import ORDERS

    if which != "edgent":
        raise UsageError(f"figures: found '{which}', expected edgent")
    for option, value, known in (("--reading", reading, READINGS), ("--order", order, ORDERS)):
        if value not in known:
            raise UsageError(f"{option}: found '{value}', expected {' or '.join(known)}")
    if not 1.0 <= requirement_ms <= 60_000.0:
        raise UsageError(f"--requirement-ms: found {requirement_ms:g}, expected 1 to 60000")


def _throughput(out: Path) -> dict[str, float]:
    """Frames a second at the 0.6 quantile by controller; the distribution is drawn into `out`."""
    from experiments.analyses.figures.dynamic import draw_throughput

    with progress_bar() as bar:
        task = bar.add_task("closed loop on the test traces", total=100, note="")
        throughput, source = draw_throughput(
            out / "throughput.png",
            lambda name, share: bar.update(task, completed=round(100 * share), note=name),
        )
    console.print(f"throughput on {source}")
    return throughput


def _print_device_only(local: Mapping[Reading, float]) -> None:
    from experiments.analyses.figures.edgent import PAPER_DEVICE_ONLY_S

    seconds = ", ".join(f"{s:.3f} s with x1 as {r}" for r, s in local.items())
    console.print(
        f"device-only by the published regression: {seconds}; the paper measures more than "
        f"{PAPER_DEVICE_ONLY_S:g} s"
    )


def _print(made: StaticFigures, written: tuple[Path, ...], setting: str) -> None:
    columns = ("exit", "partition", "latency", "device", "edge", "uplink", "downlink", "met")
    print_table(
        f"Requirement {1000 * made.by_bandwidth[0].requirement_s:g} ms ({setting})",
        ("bandwidth", *columns),
        [(f"{row.bandwidth_bps / 1e3:.0f} kbit/s", *_cells(row)) for row in made.by_bandwidth],
    )
    print_table(
        f"Bandwidth 500 kbit/s ({setting})",
        ("requirement", *columns),
        [(f"{1000 * row.requirement_s:.0f} ms", *_cells(row)) for row in made.by_requirement],
    )
    by_method: dict[str, list[MethodPoint]] = {}
    for point in made.methods:
        by_method.setdefault(point.method, []).append(point)
    requirements = [f"{1000 * row.requirement_s:.0f} ms" for row in made.by_requirement]
    print_table(
        "Accuracy by requirement at 500 kbit/s, % (-: missed)",
        ("requirement", *by_method),
        [
            (requirement, *(_percent(points[k].accuracy) for points in by_method.values()))
            for k, requirement in enumerate(requirements)
        ],
    )
    print_table("Written", ("file",), [(str(path),) for path in written])


def _cells(row: StaticChoice) -> tuple[str, ...]:
    seconds = (row.latency_s, row.device_s, row.edge_s, row.uplink_s, row.downlink_s)
    return (
        str(row.exit),
        f"{row.partition} of {row.layers + 1}",
        *(f"{1000 * s:.1f} ms" for s in seconds),
        "yes" if row.met else "no",
    )


def _percent(accuracy: float | None) -> str:
    return "-" if accuracy is None else f"{100 * accuracy:.2f}"
