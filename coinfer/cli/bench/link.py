"""`coinfer bench link`: how exactly the cell link follows a trace, and what it costs."""

from __future__ import annotations

from typing import Annotated

import typer

from coinfer.cli.console import emit_json, print_table, progress_bar
from coinfer.cli.options import JsonOption


def link(
    seconds: Annotated[int, typer.Option(min=1, help="Of every rate.")] = 10,
    json: JsonOption = False,
) -> None:
    """The cell link from 0.1 to 30 Mbit/s: delivered against the trace, TCP against arithmetic.

    Every second's bytes are held against the trace's integral, 100 KB on a warm connection against
    bytes over rate and the round trip. Needs /dev/net/tun.
    """
    from experiments.benches.cell import RATES_BPS, cell_figures

    with progress_bar() as bar:
        task = bar.add_task("link", total=len(RATES_BPS) + 1, note="")
        found = cell_figures(seconds, done=lambda: bar.update(task, advance=1))
    if json:
        emit_json(found)
        return
    print_table(
        f"cell link, round trip {1e3 * found.rtt_s:g} ms, TCP by {found.congestion_control}, "
        f"{seconds} s of each rate",
        ["Mbit/s", "worst second off", "mean second off", "of a core", "100 KB", "arithmetic",
         "of it", "latest packet"],
        [
            (
                "0.1 to 30, moving" if r.rate_bps is None else f"{r.rate_bps / 1e6:g}",
                f"{100 * r.worst_off:.2f} %",
                f"{100 * sum(r.off) / len(r.off):.2f} %",
                f"{100 * r.cpu_share:.1f} %",
                "-" if r.transfer_s is None else f"{1e3 * r.transfer_s:.1f} ms",
                "-" if r.arithmetic_s is None else f"{1e3 * r.arithmetic_s:.1f} ms",
                "-" if r.of_arithmetic is None else f"{r.of_arithmetic:.4f}",
                f"{1e3 * r.lateness_s:.1f} ms",
            )
            for r in found.rows
        ],
    )  # fmt: skip
