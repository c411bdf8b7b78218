"""An audit as one picture: predicted against measured latency, and the difference over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from experiments.replay.audit import Audit
from experiments.reporting.drawing import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OFFLOADED, LOCAL = "#3182bd", "#969696"


def audit_figure(found: Audit) -> Figure:
    """Two panels of an audit with rows; frames without an answer on either side are left out."""
    both = [r for r in found.rows if r.measured_s is not None and r.predicted_s is not None]
    measured = 1e3 * np.array([r.measured_s for r in both], dtype=np.float64)
    predicted = 1e3 * np.array([r.predicted_s for r in both], dtype=np.float64)
    at_s = np.array([r.arrival_s for r in both])
    sent = np.array([r.offloaded for r in both], dtype=np.bool_)
    figure = new_figure(9.0, 3.8)
    scatter, course = figure.subplots(1, 2)
    for name, mask, colour in (("sent to the edge", sent, OFFLOADED), ("local", ~sent, LOCAL)):
        dots = {"color": colour, "s": 6, "linewidths": 0, "alpha": 0.7, "label": name}
        scatter.scatter(measured[mask], predicted[mask], **dots)
        course.scatter(at_s[mask], predicted[mask] - measured[mask], **dots)
    most = float(max(measured.max(initial=1.0), predicted.max(initial=1.0)))
    scatter.plot([0, most], [0, most], color="black", linewidth=0.7)
    scatter.set(xlabel="measured, ms", ylabel="predicted, ms", xlim=(0, None), ylim=(0, None))
    course.axhline(0.0, color="black", linewidth=0.7)
    course.set(xlabel="s", ylabel="predicted - measured, ms")
    scatter.legend(fontsize="small", frameon=False)
    scatter.set_title(f"{found.controller} on {found.trace}", fontsize="small", loc="left")
    course.set_title(
        f"right and in time alike: {100 * found.agreement:.1f} % of {found.frames} frames",
        fontsize="small", loc="left",
    )  # fmt: skip
    return figure
