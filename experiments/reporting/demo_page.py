"""The demo's one page: what happened in a sentence, the replays as pictures, the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from experiments.evaluation.comparison import Comparison, comparison_rows
from experiments.reporting.drawing import inline_svg
from experiments.reporting.page import document, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SPOKEN = {"device-only": "the device alone", "algorithm1": "Algorithm 1", "learned": "coinfer"}
"""How the sentence calls controllers."""


def sentence(result: Comparison) -> str:
    """What came of it: how many frames each of three controllers answered right and in time."""
    figures = [
        f"{called} {'answers ' if k == 0 else ''}"
        f"{100 * result.controllers[name].goodput_accuracy:.1f} %"
        + (" of frames right and in time" if k == 0 else "")
        for k, (name, called) in enumerate(SPOKEN.items())
    ]
    count = len(result.traces)
    logs = f"{count} {'log of a link' if count == 1 else 'logs of links'}"
    made = f"{logs} made like recorded ones" if result.generated else logs
    return f"On {made} {figures[0]}, {figures[1]}, {figures[2]}."


def demo_page(
    result: Comparison,
    replays: Mapping[str, Figure],
    notes: Sequence[str],
    command: str,
) -> str:
    """A whole HTML file that needs nothing beside it.

    `replays` are figures by what they show, `notes` say what the replays rest on.

    `result` is the comparison, `command` what was run.
    """
    columns, rows = comparison_rows(result)
    title = "coinfer: the demo"
    parts = [
        f"<h1>{title}</h1>",
        f"<p><strong>{escape(sentence(result))}</strong></p>",
        "<h2>On a real link</h2>",
        "<p>Device and edge were two processes on a link whose rate followed a trace. Every dot is "
        "a frame; the coloured band above it says which plan the controller chose for it.</p>",
    ]
    for k, (caption, figure) in enumerate(replays.items()):
        drawn = inline_svg(figure, f"replay-{k}", caption)
        parts.append(f"<figure>{drawn}<figcaption>{escape(caption)}</figcaption></figure>")
    parts += [f"<p>{escape(note)}</p>" for note in notes]
    parts += [
        "<h2>In simulation, on every test log</h2>",
        f"<p>Scenario {escape(result.scenario)}; {escape(result.source)}. Goodput accuracy is the "
        "share of frames that were answered right and within the deadline. The bound is what "
        "nobody can exceed, not even who knows how the link will be.</p>",
        table(columns, [[str(cell) for cell in row] for row in rows]),
        f"<p>Made by <code>{escape(command)}</code>.</p>",
    ]
    return document(title, "\n".join(parts))
