"""`coinfer plan`: one decision, explained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coinfer.cli.console import console, emit_json, print_table
from coinfer.cli.options import DeviceSecondOption, JsonOption, MegabyteOption, ScenarioOption
from coinfer.cli.quantities import LATENCY_UNITS, MEMORY_UNITS, bandwidth_mbps, quantity
from coinfer.cli.scenario import policy_of, prices_of, setting_of

if TYPE_CHECKING:
    from controller.scenarios import Setting
    from experiments.learning.explanation import Explanation
    from experiments.learning.policy_explanation import Moment

BandwidthOption = Annotated[
    float,
    typer.Option(parser=bandwidth_mbps, metavar="MBIT/S", help="A number of Mbit/s (2.5)."),
]
MaxLatencyOption = Annotated[
    str, typer.Option(help="As 100ms or 0.1s, instead of the scenario's deadline.")
]
MaxDeviceMemoryOption = Annotated[
    str, typer.Option(help="As 64MiB: weights, activations, picture, payload (not the runtime).")
]
OrderOption = Annotated[str, typer.Option(help="any, edge-first or device-first.")]
ExplainedPolicyOption = Annotated[
    Path | None, typer.Option(help="A policy's folder: explain its decision instead.")
]
ExplainOption = Annotated[
    bool, typer.Option("--explain", help="Of a policy (the scenario's own), at full length.")
]
AgeOption = Annotated[str, typer.Option(help="Of the last measurement (50ms; policy).")]
DeviceBacklogOption = Annotated[str, typer.Option(help="As 20ms (policy).")]
UplinkBacklogOption = Annotated[str, typer.Option(help="As 4KiB (policy).")]


def plan(
    scenario: ScenarioOption,
    bandwidth: BandwidthOption,
    max_latency: MaxLatencyOption = "",
    max_device_memory: MaxDeviceMemoryOption = "",
    order: OrderOption = "any",
    policy: ExplainedPolicyOption = None,
    explain: ExplainOption = False,
    age: AgeOption = "",
    device_backlog: DeviceBacklogOption = "",
    uplink_backlog: UplinkBacklogOption = "",
    device_second: DeviceSecondOption = None,
    megabyte: MegabyteOption = None,
    json: JsonOption = False,
) -> None:
    """One decision, explained: Algorithm 1's, or (--policy, --explain) a learned policy's."""
    from experiments.learning.explanation import explain_plan

    setting = setting_of(scenario, device_second, megabyte)
    prices = prices_of(device_second, megabyte)
    if policy is not None or explain:
        _refuse("with a policy, which was planned without, expected it for Algorithm 1 alone", {
            "--max-latency": max_latency, "--max-device-memory": max_device_memory,
            "--order": "" if order == "any" else order,
        })  # fmt: skip
        moment = _moment(bandwidth, age, device_backlog, uplink_backlog)
        _explain_policy(setting, policy_of(scenario, policy, prices), moment, json)
        return
    _refuse("for Algorithm 1, expected --policy or --explain with it", {
        "--age": age, "--device-backlog": device_backlog, "--uplink-backlog": uplink_backlog,
    })  # fmt: skip
    latency_s = quantity("--max-latency", max_latency, LATENCY_UNITS)
    memory = quantity("--max-device-memory", max_device_memory, MEMORY_UNITS)
    found = explain_plan(setting, bandwidth * 1e6, latency_s, order, memory)
    if json:
        emit_json(found)
        return
    _print_plan(f"{setting.scenario.name} at {bandwidth:g} Mbit/s", found)


def _refuse(why: str, given: dict[str, str]) -> None:
    """Refuse the first option that was given; `why` follows its value in the error."""
    from artefacts import UsageError

    for option, value in given.items():
        if value:
            raise UsageError(f"{option}: found '{value}' {why}")


def _moment(bandwidth_mbps: float, age: str, device_backlog: str, uplink_backlog: str) -> Moment:
    """What a policy is asked at, from the options as they were written."""
    from experiments.learning.policy_explanation import Moment

    return Moment(
        max(bandwidth_mbps * 1e6, 1.0),
        quantity("--age", age or "50ms", LATENCY_UNITS) or 0.0,
        quantity("--device-backlog", device_backlog, LATENCY_UNITS) or 0.0,
        round(quantity("--uplink-backlog", uplink_backlog, MEMORY_UNITS) or 0.0),
    )


def _print_plan(title: str, found: Explanation) -> None:
    other = found.kept_out
    if other is not None:
        console.print(
            f"right more often, in time, and not taken: {other.plan}, {100 * other.accuracy:.1f} % "
            f"for {100 * found.accuracy:.1f} %, {1000 * other.latency_s:.1f} ms: {other.why}"
        )
    print_table(f"{title}: {found.plan}", ["part", "ms"], [
        (name, f"{1000 * seconds:.1f}") for name, seconds in found.parts_s.items()
    ] + [("total", f"{1000 * found.latency_s:.1f}")])  # fmt: skip
    console.print(found.reason)
    console.print(
        f"accuracy {100 * found.accuracy:.1f} %, device memory {found.device_bytes / 2**20:.2f} MiB"
    )


def _explain_policy(setting: Setting, folder: Path | None, moment: Moment, as_json: bool) -> None:
    from experiments.evaluation.controllers import ControllerFactory
    from experiments.learning.policy_explanation import explain_policy

    factory = ControllerFactory(setting, policy_folder=folder)
    found = explain_policy(setting, factory.learned, moment, factory)
    if as_json:
        emit_json(found)
        return
    console.print(f"{setting.scenario.name}: {found.plan}, decided by {found.decided_by}")
    console.print(found.reason)
    print_table(
        "what was seen",
        ["feature", "normalised", "stands for"],
        [(name, f"{value:.3f}", found.stands_for[name]) for name, value in found.seen.items()],
    )
    print_table(
        "plans looked at",
        ["score", "by planning", "expected reward", "own answer in time", "plan"],
        [
            (
                f"{c.score:.2f}", f"{c.advantage:+.4f}", f"{c.described['reward']:.3f}",
                f"{c.described['own']:.2f}", c.plan,
            )
            for c in found.candidates
        ],
    )  # fmt: skip
    print_table("others would take", ["controller", "plan"], list(found.baselines.items()))
