"""`coinfer replay`: a trace on a real link between two real processes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coinfer.cli.console import console, emit_json, print_table, progress_bar
from coinfer.cli.options import (
    TRACE_FILE,
    AsDaemonOption,
    ControllerOption,
    DataOption,
    DeviceSecondOption,
    JsonOption,
    MegabyteOption,
    PolicyOption,
    ScenarioOption,
)
from coinfer.cli.scenario import controller_of, policy_of, prices_of, setting_of
from coinfer.cli.trace_files import OwnScaleOption, one_trace, scale_of

if TYPE_CHECKING:
    from controller.scenarios import Setting
    from experiments.replay.audit import Audit
    from experiments.replay.session import ReplayResult
    from traces.trace import BandwidthTrace


def replay(
    scenario: ScenarioOption,
    trace: Annotated[Path, typer.Option(help=TRACE_FILE)],
    down: Annotated[
        Path | None, typer.Option(help="What the real link carries down (--trace both ways).")
    ] = None,
    scale: OwnScaleOption = None,
    controller: ControllerOption = "",
    policy: PolicyOption = None,
    start_s: Annotated[float, typer.Option(min=0.0, help="Begin of the part replayed.")] = 0.0,
    seconds: Annotated[float | None, typer.Option(min=1.0, help="Length (to the end).")] = None,
    method: Annotated[str, typer.Option(help="auto, cell, tc or relay.")] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Of pictures and simulation.")] = 1,
    as_daemon: AsDaemonOption = False,
    audit: Annotated[
        bool, typer.Option("--audit", help="Hold the simulator against every frame of the run.")
    ] = False,
    audit_picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the audit as a picture (SVG).")
    ] = None,
    data: DataOption = None,
    device_second: DeviceSecondOption = None,
    megabyte: MegabyteOption = None,
    json: JsonOption = False,
) -> None:
    """Replay a trace on a real link between two real processes, beside the prediction."""
    from experiments.replay.session import ReplayArgs, run_replay

    setting = setting_of(scenario, device_second, megabyte)
    prices = prices_of(device_second, megabyte)
    policy = policy_of(scenario, policy, prices)
    controller = controller_of(controller, scenario, policy, prices)
    part, back = _parts(setting, scale, trace, down, start_s, seconds)
    with progress_bar() as bar:
        task = bar.add_task(f"replay {part.name}", total=round(part.duration_s), note=controller)
        replayed = run_replay(
            setting,
            part,
            ReplayArgs(
                scenario, controller, policy, method, seed, as_daemon, back, data, prices=prices
            ),
            console.print,
            lambda share: bar.update(task, completed=round(share * part.duration_s)),
        )
    result = replayed.result
    audited = None
    if audit or audit_picture is not None:
        from experiments.replay.audit import audit as audit_run

        audited = audit_run(setting, part, replayed.record, seed)
        if audit_picture is not None:
            _draw(audited, audit_picture)
    _say_pictures(result)
    if json:
        emit_json({"replay": result, "audit": audited} if audited else result)
        return
    _print_replay(f"{controller} on {scenario}, {part.duration_s:.0f} s of {part.name}", result)
    if audited is not None:
        _print_audit(audited)


def _say_pictures(result: ReplayResult) -> None:
    if not result.same_pictures:
        console.print(
            "measured and predicted are of different pictures: --data takes those that the network "
            f"was judged on ({result.predicted_pictures}). The bound is of those, so there is no "
            "measured share of it"
        )
    if result.another_judge:
        console.print(
            f"{result.another_judge}. Their accuracies are not to be compared, and there is no "
            "measured share of the bound"
        )


def _print_replay(title: str, result: ReplayResult) -> None:
    from experiments.replay.session import replay_rows

    print_table(
        f"{title}, link by {result.link.method}",
        ["figure", "measured", "predicted"],
        replay_rows(result),
    )
    console.print(
        "measured are single answers to pictures; predicted rewards take every answer's accuracy "
        "in their place, and predicted goodput accuracy draws the pictures anew"
    )


def _print_audit(audited: Audit) -> None:
    from experiments.replay.audit import bar_rows, stage_rows

    print_table(
        f"the same plans in the simulator: {audited.compared} frames that the edge answered",
        ["stage", "frames", "measured", "predicted", "median difference", "95th percentile"],
        stage_rows(audited),
    )
    print_table("what the prediction is held to", ["figure", "found", ""], bar_rows(audited))


def _parts(
    setting: Setting,
    scale: float | None,
    trace: Path,
    down: Path | None,
    start_s: float,
    seconds: float | None,
) -> tuple[BandwidthTrace, BandwidthTrace | None]:
    """What is replayed of either trace, its rates times `scale`."""
    whole, back = one_trace(trace), None if down is None else one_trace(down)
    factor = scale_of(setting, scale)  # said once the files could be read
    end = whole.duration_s if seconds is None else min(start_s + seconds, whole.duration_s)
    part = whole.scale(factor).slice(start_s, end)
    return part, None if back is None else back.scale(factor).slice(start_s, end)


def _draw(audited: Audit, path: Path) -> None:
    from artefacts import atomic_write
    from experiments.reporting.audit_picture import audit_figure
    from experiments.reporting.drawing import svg_bytes

    with atomic_write(path, "wb") as stream:
        stream.write(svg_bytes(audit_figure(audited), path.name))
