"""`coinfer calibrate`: what a device and an edge take beyond their profiles, measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coinfer.cli.console import console, emit_json, print_table, progress_bar
from coinfer.cli.options import (
    EdgeAddressOption,
    ExecutorOption,
    JsonOption,
    PaceOption,
    RecordsOption,
    ScenarioOption,
)
from coinfer.cli.running.runtime import edge_address_of
from coinfer.cli.scenario import setting_of

if TYPE_CHECKING:
    from controller.scenarios import Setting
    from experiments.learning.calibration import Calibration

OTHER_MACHINE = 1.5
"""A machine that takes so many times the profile's times, or its inverse, is another one."""


def calibrate(
    scenario: ScenarioOption,
    out: Annotated[Path, typer.Option(help="TOML file to write: `[world]` of a scenario.")],
    edge_address: EdgeAddressOption = "127.0.0.1:7700",
    minutes: Annotated[float, typer.Option(min=0.05, max=600.0, help="How long to measure.")] = 2.0,
    executor: ExecutorOption = "onnx",
    pace: PaceOption = False,
    seed: Annotated[int, typer.Option(min=0, help="Of pictures and plans.")] = 1,
    records: RecordsOption = None,
    json: JsonOption = False,
) -> None:
    """Measure on this device and its edge what a simulated world needs; Ctrl-C fits what there is.

    Frames are answered by plans that leave both machines time to spare. What is written takes the
    place of `[world]` in the scenario's file; what minutes cannot measure stays as it is there.
    """
    import numpy as np

    from artefacts import UsageError, atomic_write, ready_file
    from experiments.learning.calibration import AlternatingController, world_text
    from experiments.learning.calibration import calibrate as fit
    from experiments.replay.device_run import DeviceRun, run_loop

    for path in (out, records):
        if path is not None:
            ready_file(path)
    setting = setting_of(scenario)
    if setting.closed_loop:
        raise UsageError(
            f"scenario '{setting.scenario.name}': found a closed loop, expected a frame stream"
        )
    address = edge_address_of(edge_address)
    controller = AlternatingController(setting, np.random.default_rng(seed))
    run = DeviceRun(
        scenario, address, controller.name, None, executor, pace, None, 60.0 * minutes, None, seed,
        interval_s=controller.interval_s, needs_edge=True,
    )  # fmt: skip
    with progress_bar() as bar:
        task = bar.add_task("calibrate", total=round(60.0 * minutes), note="seconds")
        outcome = run_loop(
            setting, run, controller, console.print,
            lambda at_s: bar.update(task, completed=round(at_s)),
        )  # fmt: skip
    if records is not None:
        outcome.save(records)
    found = fit(setting, outcome.frames)
    for line in other_machines(setting, found):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    with atomic_write(out) as stream:
        stream.write(world_text(found, scenario))
    if json:
        emit_json(found)
        return
    _show(found, f"{found.frames} frames of {scenario}; kept in {out}")


def other_machines(setting: Setting, found: Calibration) -> list[str]:
    """A line for each end whose profile is of another machine, and how one of it is measured.

    `found` is what was measured on the scenario of `setting`.
    """
    scenario = setting.scenario
    ends = (
        ("device", scenario.device_profile, found.device_ratio),
        ("edge", scenario.edge_profile, found.edge_ratio),
    )
    return [
        f"profile '{profile}' is of another machine than this {end}, which takes {ratio:.3g} of "
        "its times; nothing of that is written. Measure one here (coinfer profile --model "
        f"{scenario.network} --executor onnxruntime --grid 0 --out {end}.json) and name it as "
        f"{end}_profile in the scenario; --pace keeps the profile's times"
        for end, profile, ratio in ends
        if not 1 / OTHER_MACHINE < ratio < OTHER_MACHINE
    ]


def _show(found: Calibration, title: str) -> None:
    device, edge = found.world.device, found.world.edge
    print_table(
        title,
        ["figure", "device", "edge"],
        [
            ("frames that it rests on", f"{found.idle_frames}", f"{found.edge_frames}"),
            ("computing, over the profile's", *_two(found.device_ratio, found.edge_ratio)),
            ("every frame waits", _ms(device.overhead_s), _ms(edge.overhead_s)),
            ("and on average beyond", _ms(device.jitter_s), _ms(edge.jitter_s)),
            ("a slower state", _state(device.shared), _state(edge.shared)),
            ("others take", "", _share(0.0 if edge.load is None else edge.load.share)),
            ("round trip", "" if found.rtt_s is None else _ms(found.rtt_s), ""),
        ],
    )


def _two(one: float, other: float) -> tuple[str, str]:
    return f"{one:.3f}", f"{other:.3f}"


def _share(share: float) -> str:
    return f"{100 * share:.1f} %" if share else "nothing"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.2f} ms"


def _state(state: object) -> str:
    from controller.scenarios.world import StateSection

    if not isinstance(state, StateSection):
        return "none"
    return f"{state.factor:g} times for {state.mean_s:g} s every {state.every_s:g} s"
