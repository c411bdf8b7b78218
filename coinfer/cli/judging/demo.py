"""`coinfer demo`: the whole path, in a few minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coinfer.cli.console import console, emit_json, print_table, progress_bar
from coinfer.cli.options import JsonOption


def demo(
    short: Annotated[bool, typer.Option("--short", help="The same path, less of it.")] = False,
    method: Annotated[str, typer.Option(help="Link: auto, cell, tc or relay.")] = "auto",
    out: Annotated[Path, typer.Option(help="Folder for page, policy, figures.")] = Path(
        "runs/demo"
    ),
    json: JsonOption = False,
) -> None:
    """Train a policy, run device and edge over a shaped link, compare with static Algorithm 1.

    Ends with one page, index.html, that shows what happened.
    """
    import torch
    from rich.progress import TaskID

    from artefacts.endings import orderly
    from experiments.demo import DemoArgs, DemoProgress, run_demo
    from experiments.evaluation.comparison import comparison_rows
    from experiments.learning.training_args import TrainReport
    from experiments.reporting.demo_page import sentence

    # the policy is small: a second thread waits longer for the first than it saves
    torch.set_num_threads(1)
    args = DemoArgs.short(out, method) if short else DemoArgs(out=out, method=method)
    with orderly(), progress_bar() as bar:
        steps: dict[str, TaskID] = {}

        def trained(now: TrainReport) -> None:
            if "train policy" not in steps:
                steps["train policy"] = bar.add_task("train policy", total=args.frames, note="")
            training = steps["train policy"]
            note = f"reward {now.reward:.4f}, {now.frames_per_s:,.0f} frames/s"
            bar.update(training, completed=min(now.frames, args.frames), note=note)

        def share(name: str, done: float) -> None:
            if name not in steps:
                steps[name] = bar.add_task(name, total=100, note="")
            bar.update(steps[name], completed=round(100 * done))

        result = run_demo(args, DemoProgress(console.print, trained, share))
    if json:
        emit_json(result)
        return
    console.print(sentence(result.comparison))
    columns, rows = comparison_rows(result.comparison)
    print_table(
        f"simulation: {result.comparison.scenario}, {result.comparison.source}, "
        f"{args.compared_frames} frames a trace",
        columns,
        rows,
    )
    console.print(f"page: {result.page}", soft_wrap=True)
