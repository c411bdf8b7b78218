"""How commands of learning show how far they are, end early, and say their figures."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coinfer.cli.console import console, emit_json, print_table

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from experiments.learning.training_args import TrainReport


def say(title: str, figures: dict[str, Any], json: bool) -> None:
    """Figures as a table, or as JSON."""
    if json:
        emit_json(figures)
    else:
        print_table(title, ["figure", "value"], list(figures.items()))


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Ctrl-C is remembered, not raised: gives a function that says whether it came.

    A second one is raised: planning and judging do not ask.
    """
    came: list[int] = []

    def remember(number: int, frame: object) -> None:
        came.append(number)
        if len(came) > 1:
            raise KeyboardInterrupt
        console.print("stopping: the best policy so far is kept (once more: at once)")

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield lambda: bool(came)
    finally:
        signal.signal(signal.SIGINT, before)


@dataclass(frozen=True, slots=True)
class Bars:
    """What reports of training, of planning and of judging move."""

    report: Callable[[TrainReport], None]
    planning: Callable[[float], None]
    judging: Callable[[str, float], None]


def bars(bar: Progress, name: str, frames: int) -> Bars:
    """A bar for the frames of a training called `name`, and one for what is done between them."""
    task: TaskID = bar.add_task(name, total=max(frames, 1), note="")
    warm: TaskID = bar.add_task("planning", total=100, note="values of the queue's states")

    def report(now: TrainReport) -> None:
        best = "" if now.validation is None else f", best on validation {now.validation:.4f}"
        note = f"reward {now.reward:.4f}{best}, {now.frames_per_s:,.0f} frames/s"
        bar.update(task, completed=min(now.frames, frames), note=note)

    def judging(what: str, share: float) -> None:
        bar.update(warm, description=what, total=100, completed=round(100 * share), note="")

    return Bars(report, lambda share: bar.update(warm, completed=round(100 * share)), judging)
