"""Pictures of traces; matplotlib is imported only here, when a picture is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from artefacts import UsageError, atomic_write, printable, without_package
from traces.trace import BandwidthTrace


def plot_traces(traces: Sequence[BandwidthTrace], out: Path) -> None:
    """Rates over time, one line a trace, as a PNG."""
    if out.suffix != ".png":
        raise UsageError(f"plot: found '{out}', expected a name in .png")
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ModuleNotFoundError:
        raise without_package("plot", "matplotlib", "train") from None
    figure, axes = pyplot.subplots(figsize=(10, 4))
    for trace in traces:
        times = np.append(trace.times_s, trace.duration_s)
        axes.stairs(trace.rates_bps / 1e6, times, label=plain_label(trace.name))
    axes.set_xlabel("time (s)")
    axes.set_ylabel("bandwidth (Mbit/s)")
    if len(traces) <= 10:
        axes.legend(fontsize="small")
    with atomic_write(out, "wb") as stream:
        figure.savefig(stream, format="png", dpi=120, bbox_inches="tight")
    pyplot.close(figure)


def plain_label(name: str) -> str:
    """A name as matplotlib shows it: no formula between dollars, nothing left out of a legend."""
    text = printable(name).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text
