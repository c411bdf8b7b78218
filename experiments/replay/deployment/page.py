"""The page of a deployment: what was lost where nothing is as in training, and what is won back."""

from __future__ import annotations

import numpy as np

from artefacts.arrays import Floats
from experiments.evaluation.statistics import paired
from experiments.replay.deployment.loop import AFTER, BEFORE, PROFILED, RUNS, Figures, Run

SEED = 7
"""Of resampling."""
COMPARED = (
    ((AFTER, "learned"), (BEFORE, "learned")),
    ((AFTER, "learned"), (BEFORE, "robust")),
    ((AFTER, "learned"), (AFTER, "robust")),
    ((AFTER, "learned"), (BEFORE, "device-only")),
    ((AFTER, "robust"), (BEFORE, "robust")),
)


def page(found: Figures, command: str) -> str:
    """Markdown of everything that was found; `command` made it."""
    return "\n".join([*_about(found, command), *_means(found), *_logs(found), *_records(found)])


def _of(found: Figures, when: str, controller: str) -> list[Run]:
    return [run for run in found.runs if (run.when, run.controller) == (when, controller)]


def _goodput(found: Figures, when: str, controller: str) -> Floats:
    return np.array([run.goodput_accuracy for run in _of(found, when, controller)])


def _about(found: Figures, command: str) -> list[str]:
    plan = found.plan
    how = "a simulated device" if plan.simulated else "two real processes on this machine"
    return [
        "# A policy learns where it is deployed", "",
        f"`{command}` made this page, with {how}. The policy of `{plan.scenario}` is deployed on a "
        f"device that takes {plan.slowdown:g} times what its profile says, behind another link: "
        f"{found.source}, rates times {found.scale:.3g}. The device keeps records for "
        f"{plan.minutes:g} minutes. `coinfer train --from` makes a policy of them. Each row is of "
        f"{len(_of(found, *RUNS[0]))} other logs, {plan.seconds:g} s of each.", "",
    ]  # fmt: skip


def _means(found: Figures) -> list[str]:
    lines = ["## Before and after", "", "| | controller | right and in time | late |",
             "|---|---|---|---|"]  # fmt: skip
    for when, controller in RUNS:
        late = np.mean([run.late_share for run in _of(found, when, controller)])
        good = _goodput(found, when, controller).mean()
        lines.append(f"| {when} | {controller} | {100 * good:.2f} % | {100 * late:.2f} % |")
    profiled, before, after = (
        float(_goodput(found, when, "learned").mean()) for when in (PROFILED, BEFORE, AFTER)
    )
    lost, won = 100 * (profiled - before), 100 * (after - before)
    share = f", {100 * won / lost:.0f} % of it" if lost > 0 else ""
    lines += [
        "",
        f"Lost by the slower device: {lost:.2f} points. Won back by learning from records: "
        f"{won:+.2f} points{share}.",
        "",
        "Differences of right and in time, paired over logs (sign-flip test):",
        "",
        "| | mean | 95 % interval | p |",
        "|---|---|---|---|",
    ]
    for one, other in COMPARED:
        of = paired(_goodput(found, *one), _goodput(found, *other), SEED)
        low, high = of.interval95
        lines.append(
            f"| {one[1]} {one[0]} less {other[1]} {other[0]} | {100 * of.mean:+.2f} | "
            f"{100 * low:+.2f} to {100 * high:+.2f} | {of.p_value:.3f} |"
        )
    return [*lines, ""]


def _logs(found: Figures) -> list[str]:
    names = [f"{controller}, {when}" for when, controller in RUNS]
    lines = ["## Each log", "", "Right and in time (late), in percent.", "",
             "| log | " + " | ".join(names) + " |", "|---" * (1 + len(names)) + "|"]  # fmt: skip
    columns = [_of(found, *one) for one in RUNS]
    for row in zip(*columns, strict=True):
        cells = [f"{100 * r.goodput_accuracy:.2f} ({100 * r.late_share:.2f})" for r in row]
        lines.append(f"| {row[0].trace} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _records(found: Figures) -> list[str]:
    """What the records say, and the verdict of the training command."""
    lines = ["## What the training command says", ""]
    lines += [f"- {line}" for line in found.learnt.lines]
    lines += ["", "| held-back records | reward | right and in time | late |", "|---|---|---|---|"]
    for name, one in found.learnt.held_back.items():
        lines.append(
            f"| {name} | {one.reward:.4f} | {100 * one.goodput_accuracy:.2f} % | "
            f"{100 * one.late_share:.2f} % |"
        )
    lines += ["", *(f"- {said}" for said in found.learnt.verdict), ""]
    return lines
