"""How commands speak: tables and JSON on standard output, progress on standard error.

Every console of the product is made here and prints text. rich would otherwise take brackets for
markup and `:names:` for pictures, and what is printed holds names, paths and bytes from outside.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console, JustifyMethod
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from artefacts.documents import encode_json
from artefacts.printing import printable

SHORT_S = 5.0
"""What takes no longer than that needs no estimate."""


class PlainConsole(Console):
    """rich's console for text: no markup, nothing that a terminal obeys, no line that is broken."""

    def __init__(self, *, stderr: bool = False, width: int | None = None) -> None:
        super().__init__(stderr=stderr, width=width, markup=False, emoji=False, highlight=False)

    def print(self, *objects: Any, **options: Any) -> None:
        """See `rich.console.Console.print`."""
        if all(isinstance(thing, str) for thing in objects):
            options.setdefault("soft_wrap", True)
        shown = [printable(thing, "\n") if isinstance(thing, str) else thing for thing in objects]
        super().print(*shown, **options)


console = PlainConsole(stderr=True)
"""Progress and remarks; standard output stays clean for figures."""


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on standard output; numbers are right-aligned by the caller's formatting.

    Its title is a line of its own, however narrow the table is: programs read it, too.
    """
    table = Table()
    for i, column in enumerate(columns):
        justify: JustifyMethod = "left" if i == 0 else "right"
        table.add_column(printable(column, "\n"), justify=justify, overflow="fold")
    for row in rows:
        table.add_row(*(printable(str(cell), "\n") for cell in row))
    width = None if sys.stdout.isatty() else 160
    shown = PlainConsole(width=width)
    shown.print(title)
    shown.print(table)


def emit_json(value: Any) -> None:
    """One JSON document on standard output; numpy scalars are numbers, names are printable."""
    encoded = encode_json(value, _plain)
    sys.stdout.write(msgspec.json.format(encoded, indent=1).decode() + "\n")


class _Progress(Progress):
    """rich's bars; where nobody watches (a log, CI) a line at every tenth of a task instead.

    A task that is given another description is another stage: it begins anew, and is a line.
    """

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """See `rich.progress.Progress.update`."""
        task = self._tasks[task_id]
        stage = changes.get("description")
        if stage is not None and stage != task.description:
            self.reset(task_id)
            task.total = None
            task.fields.update(shown=-1, begun=None)
            if not self.console.is_terminal:
                self.console.print(stage)
        super().update(task_id, **changes)
        if self.console.is_terminal or not task.total:
            return
        if task.fields.get("begun") is None:
            task.fields["begun"] = (self.get_time(), task.completed)
        tenth = int(task.percentage // 10)
        if tenth > task.fields.get("shown", -1):
            task.fields["shown"] = tenth
            said = (f"{task.description}: {10 * tenth} %", self._left(task), task.fields["note"])
            self.console.print(", ".join(part for part in said if part))

    def _left(self, task: Task) -> str:
        """How long the rest of a task takes at the pace that it has had; '' where nobody knows."""
        since_s, before = task.fields["begun"]
        done, passed_s = task.completed - before, self.get_time() - since_s
        if done <= 0 or task.total is None or task.completed >= task.total:
            return ""
        left_s = passed_s * (task.total - task.completed) / done
        if left_s < SHORT_S:
            return ""
        return f"{left_s / 60:.0f} min left" if left_s >= 90 else f"{left_s:.0f} s left"


def progress_bar(clock: Callable[[], float] = time.monotonic) -> Progress:
    """A progress bar on standard error; every task has a field `note`, `clock` gives seconds."""
    return _Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=console,
        # the lines say it all
        disable=not console.is_terminal,
        get_time=clock,
    )


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"cannot write {type(value).__name__} as JSON")


def say_interrupted(kept: Path) -> None:
    """What an interrupted run leaves: where it goes on, or that nothing was kept yet."""
    if kept.exists():
        console.print(f"interrupted: the same command goes on from {kept}")
    else:
        console.print("interrupted before anything was kept: the same command begins anew")
