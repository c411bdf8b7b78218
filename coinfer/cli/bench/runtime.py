"""`coinfer bench wire|decide|edge|device`: what the runtime takes, as ratios of the same run."""

from __future__ import annotations

from typing import Annotated

import typer

from coinfer.cli.console import console, emit_json, print_table
from coinfer.cli.options import JsonOption, ScenarioOption


def wire(
    repeats: Annotated[int, typer.Option(min=1, help="Round trips of every size.")] = 300,
    tls: Annotated[bool, typer.Option(help="The same over TLS too.")] = False,
    rivals: Annotated[bool, typer.Option(help="gRPC and torch's RPC too.")] = False,
    shaped: Annotated[
        bool, typer.Option(help="On a link of known rate and delay instead (root, tc).")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Round trips through device link, edge and scheduler, against plain blocking sockets.

    With --shaped: time to answer on a link of known rate and delay, warm, cold and after a silence.
    """
    if shaped:
        _shaped(max(repeats // 10, 3), json)
        return
    from experiments.benches.wire import lacking, wire_rows

    if rivals and lacking():
        console.print(f"left out, not installed: {', '.join(lacking())}")
    rows = wire_rows(repeats, tls=tls, rivals=rivals)
    if json:
        emit_json({"rows": rows})
        return
    print_table(
        f"round trips on loopback, {repeats} of each size in turn",
        ["bytes", "path", "median us", "p95 us", "of blocking sockets"],
        [
            (
                f"{r.size_bytes:,}",
                r.path,
                f"{r.median_us:.0f}",
                f"{r.p95_us:.0f}",
                f"{r.ratio:.2f}",
            )
            for r in rows
        ],
    )


def _shaped(repeats: int, json: bool) -> None:
    from experiments.benches.shaped import shaped_rows

    rows = shaped_rows(repeats)
    if json:
        emit_json({"rows": rows})
        return
    print_table(
        "time to answer on a shaped link",
        ["RTT ms", "Mbit/s", "bytes", "connection", "median ms", "of bytes/rate + RTT",
         "of the model", "rate believed / true"],
        [
            (
                f"{1e3 * r.rtt_s:.0f}",
                f"{r.rate_bps / 1e6:g}",
                f"{r.size_bytes:,}",
                r.case,
                f"{1e3 * r.measured_s:.1f}",
                f"{r.of_ideal:.3f}",
                f"{r.of_model:.3f}",
                f"{r.believed_of_rate:.2f}",
            )
            for r in rows
        ],
    )  # fmt: skip


def decide(
    scenario: ScenarioOption,
    decisions: Annotated[int, typer.Option(min=1, help="Of every controller.")] = 20_000,
    controllers: Annotated[
        str, typer.Option(help="Names separated by commas.")
    ] = "learned,robust,map,algorithm1-online",
    json: JsonOption = False,
) -> None:
    """How long a decision takes: measurement in, sensing, features, policy, plan out."""
    from controller.scenarios import load_setting, read_scenario
    from experiments.benches.decide import decide_row
    from experiments.evaluation.controllers import ControllerFactory, chosen_names

    setting = load_setting(read_scenario(scenario))
    factory = ControllerFactory(setting)
    frames = setting.scenario.frames
    interval_s = 0.05 if setting.closed_loop else setting.interval_s
    rows = [
        decide_row(factory.maker(name, ())(0), frames.deadline_s, interval_s, decisions)
        for name in chosen_names(controllers)
    ]
    if json:
        emit_json({"scenario": scenario, "rows": rows})
        return
    print_table(
        f"{scenario}: {decisions:,} decisions each",
        ["controller", "median us", "p95 us", "of a 64 x 64 product", "grown KiB"],
        [
            (
                r.controller,
                f"{r.median_us:.1f}",
                f"{r.p95_us:.1f}",
                f"{r.ratio:.1f}",
                r.grown_bytes // 1024,
            )
            for r in rows
        ],
    )


def edge(
    model: Annotated[str, typer.Option(help="A shipped name or a folder.")] = "mobilenetv2",
    devices: Annotated[
        int, typer.Option(min=1, help="Connections, one request under way each.")
    ] = 32,
    seconds: Annotated[float, typer.Option(min=0.5, help="Of load.")] = 10.0,
    deadline_ms: Annotated[float, typer.Option(min=1.0, help="Of every request.")] = 100.0,
    json: JsonOption = False,
) -> None:
    """The edge under many devices, against one loop at its best batch size."""
    from experiments.benches.edge import edge_figures

    found = edge_figures(model, devices, seconds, deadline_ms / 1e3)
    if json:
        emit_json(found)
        return
    print_table(
        f"{model}: {devices} devices, whole pictures as JPEG, one computing thread",
        ["figure", "value"],
        [
            ("one loop", f"{found.loop_per_s:.0f} a second at batch {found.loop_batch}"),
            ("edge", f"{found.edge_per_s:.0f} a second"),
            ("of the loop", f"{found.ratio:.2f}"),
            ("latency, median and p99", f"{1e3 * found.p50_s:.1f}, {1e3 * found.p99_s:.1f} ms"),
            ("refused", f"{100 * found.refused_share:.2f} %"),
            ("answered late", f"{100 * found.late_share:.2f} %"),
        ],
    )


def device(
    scenario: ScenarioOption,
    idle_s: Annotated[float, typer.Option(min=0.5, help="How long it idles.")] = 10.0,
    answers: Annotated[int, typer.Option(min=1, help="Asked after that.")] = 200,
    json: JsonOption = False,
) -> None:
    """The daemon as a process: time to its first answer, memory, what it burns when idle."""
    from experiments.benches.device import device_figures

    found = device_figures(scenario, idle_s, answers)
    if json:
        emit_json(found)
        return
    print_table(
        f"{scenario}: a device daemon without an edge",
        ["figure", "value"],
        [
            ("first answer after", f"{found.first_answer_s:.2f} s"),
            ("of which Python, numpy and ONNX Runtime", f"{found.python_s:.2f} s"),
            ("resident memory", f"{found.resident_mib:.0f} MiB"),
            ("idle, share of a core", f"{100 * found.idle_cpu_share:.2f} %"),
            (f"median of {found.answers} answers", f"{found.median_ms:.2f} ms"),
        ],
    )
