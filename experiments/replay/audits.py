"""Audits of many real runs as one page: `python -m experiments.replay.audits --out FOLDER`.

Replays the first seconds of test logs between two real processes, with each of several controllers,
as the daemon treats frames; the simulator predicts every frame by the plans that ran
(`experiments.replay.audit`). Each run is kept in the folder as it ends, and an interrupted command
goes on behind the last one. A run is kept as it was measured, for its scenario and its policy; what
the simulator says of it is worked out whenever it is read. `--page FILE` writes the tables as
Markdown.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from artefacts import CoinferError, atomic_write, digest_bytes
from controller.policies.network import policy_folder, read_card
from controller.registry import find_controller
from controller.scenarios import Setting, load_setting, read_scenario
from controller.scenarios.world import read_world
from experiments.arguments import LineParser, above_0, count
from experiments.replay.audit import Audit, audit, bar_rows, stage_rows
from experiments.replay.device_run import read_run
from experiments.replay.session import ReplayArgs, run_replay

SCENARIOS = ("lte-mobilenet", "3g-mobilenet")
CONTROLLERS = ("robust", "learned", "algorithm1-online")
LOGS, SECONDS, SEED = 3, 60.0, 1


class Plan(msgspec.Struct, frozen=True):
    """Which runs: every controller on the first `logs` test logs of every scenario."""

    scenarios: tuple[str, ...]
    controllers: tuple[str, ...]
    logs: int
    seconds: float
    method: str
    world: Path | None = None
    """What this machine takes beyond the profiles that it keeps to (the scenario's own)."""


def audits(plan: Plan, folder: Path) -> Iterator[tuple[str, Audit]]:
    """Every run's audit with its key; the run is made where it is not kept yet."""
    for name in plan.scenarios:
        setting = load_setting(read_scenario(name))
        here = _here(setting, plan.world)
        for number, trace in enumerate(setting.traces("test").traces[: plan.logs]):
            part = trace.slice(0.0, min(plan.seconds, trace.duration_s))
            for controller in plan.controllers:
                key = f"{setting.scenario.name}-{number + 1}-{controller}-{plan.seconds:g}s"
                made_of = _digest(setting, name, controller)
                path = folder / f"{key}-{plan.method}-{made_of[:8]}.json"
                if not path.exists():
                    args = ReplayArgs(name, controller, None, plan.method, SEED, as_daemon=True)
                    run_replay(setting, part, args, lambda note: None).record.save(path)
                yield key, audit(here, part, read_run(path), SEED, rows=False)


def _digest(setting: Setting, name: str, controller: str) -> str:
    """Of what a run is made of: the scenario, and the policy where the controller has one."""
    parts, own = [setting.digest], policy_folder(name, setting.scenario.name)
    if own is not None and "policy" in find_controller(controller).needs:
        parts.append(read_card(own).weights_digest)
    return digest_bytes(" ".join(parts).encode())


def _here(setting: Setting, world: Path | None) -> Setting:
    """The scenario on this machine, which stands in for the scenario's."""
    if world is None:
        return setting
    found = read_world(world)
    own = setting.scenario.world
    return setting.in_world(msgspec.structs.replace(own, device=found.device, edge=found.edge))


def page(plan: Plan, found: Sequence[tuple[str, Audit]], command: str) -> str:
    """Tables of all runs: what the prediction is held to, stages, and the order of controllers."""
    lines = [
        "# The simulator against real runs", "",
        f"`{command}` made this page. Every run is {plan.seconds:g} s of a test log between two "
        f"processes on this machine, over the link `{plan.method}`. The simulator is given the "
        f"plans that were executed, and predicts every frame.{_of_world(plan.world)}", "",
        "## What the prediction is held to", "",
        "| scenario | log | controller | frames | median error | 95th percentile | alike | "
        "measured | predicted |",
        "|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for _, one in found:
        lines.append(
            f"| {one.scenario} | {one.trace} | {one.controller} | {one.frames} | "
            f"{100 * one.median_error:.1f} % | {100 * one.p95_error:.1f} % | "
            f"{100 * one.agreement:.2f} % | {100 * one.goodput_accuracy:.2f} % | "
            f"{100 * one.predicted_goodput_accuracy:.2f} % |"
        )
    held = {bar: sum(one.held[bar] for _, one in found) for bar in found[0][1].held}
    kept = ", ".join(f"{bar} in {number} of {len(found)} runs" for bar, number in held.items())
    lines += ["", f"Bars held: {kept}.", ""]
    lines += [f"{row[0]}: {row[2].partition('(')[2].rstrip(')')}." for row in bar_rows(found[0][1])]
    lines += [
        "",
        "## Stages",
        "",
        "Means over frames that the edge answered, and the difference.",
        "",
    ]
    for scenario in plan.scenarios:
        lines += _stages(scenario, [one for _, one in found if one.scenario == scenario])
    lines += ["## Order of the controllers", ""]
    for scenario in plan.scenarios:
        lines += _order(scenario, [one for _, one in found if one.scenario == scenario])
    return "\n".join(lines).rstrip() + "\n"


def _of_world(path: Path | None) -> str:
    """What the machine that stands in takes beyond profiles, as a sentence."""
    if path is None:
        return ""
    world = read_world(path)
    ends = (("device", world.device), ("edge", world.edge))
    parts = [f"{1e3 * (e.overhead_s + e.jitter_s):.2f} ms on the {name}" for name, e in ends]
    return (
        f" Beyond profiles a frame takes {' and '.join(parts)} here (`coinfer calibrate --pace`): "
        "this machine keeps the profiles' times, not their machines' overheads."
    )


def _stages(scenario: str, found: Sequence[Audit]) -> list[str]:
    lines = [f"### {scenario}", "", "| controller | stage | frames | measured | predicted | median "
             "difference | 95th percentile |", "|---|---|---|---|---|---|---|"]  # fmt: skip
    for one in found:
        for row in stage_rows(one):
            lines.append("| " + " | ".join((one.controller, *row)) + " |")
    return [*lines, ""]


def _order(scenario: str, found: Sequence[Audit]) -> list[str]:
    names = list(dict.fromkeys(one.controller for one in found))
    if not names:
        return []
    rows = []
    for name in names:
        mine = [one for one in found if one.controller == name]
        measured = float(np.mean([one.goodput_accuracy for one in mine]))
        predicted = float(np.mean([one.predicted_goodput_accuracy for one in mine]))
        rows.append((name, measured, predicted))
    rows.sort(key=lambda row: -row[1])
    lines = [f"### {scenario}", "", "| controller | measured | predicted |", "|---|---|---|"]
    lines += [f"| {name} | {100 * m:.2f} % | {100 * p:.2f} % |" for name, m, p in rows]
    return [*lines, ""]


def main(argv: list[str] | None = None) -> int:
    """The command."""
    parser = LineParser(
        prog="python -m experiments.replay.audits", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--out", type=Path, default=Path("runs/audits"), help="folder of the runs")
    parser.add_argument("--page", type=Path, help="Markdown file to write")
    parser.add_argument("--scenarios", default=",".join(SCENARIOS), help="names or files")
    parser.add_argument("--controllers", default=",".join(CONTROLLERS), help="names")
    parser.add_argument("--logs", type=count, default=LOGS, help="the first so many test logs")
    parser.add_argument("--seconds", type=above_0, default=SECONDS, help="of every log")
    parser.add_argument("--method", default="auto", help="as of coinfer replay")
    parser.add_argument(
        "--world", type=Path, help="[world] of this machine (coinfer calibrate --pace)"
    )
    args = parser.parse_args(argv)
    plan = Plan(
        tuple(args.scenarios.split(",")), tuple(args.controllers.split(",")), args.logs,
        args.seconds, args.method, args.world,
    )  # fmt: skip
    total = len(plan.scenarios) * len(plan.controllers) * plan.logs
    found: list[tuple[str, Audit]] = []
    try:
        for key, one in audits(plan, args.out):
            found.append((key, one))
            left_s = (total - len(found)) * plan.seconds
            held = sum(one.held.values())
            print(f"{key}: {held} of {len(one.held)} bars held; {left_s:.0f} s left", flush=True)
    except CoinferError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print(f"interrupted; {len(found)} of {total} runs are kept in {args.out}", file=sys.stderr)
        return 130
    if args.page is not None:
        said = sys.argv[1:] if argv is None else argv
        command = shlex.join(["python", "-m", "experiments.replay.audits", *said])
        with atomic_write(args.page) as stream:
            stream.write(page(plan, found, command))
    return 0


if __name__ == "__main__":
    sys.exit(main())
