"""`coinfer bench wire|decide|edge|device`: what the runtime takes, as ratios of the same run."""

from __future__ import annotations

from typing import Annotated

import typer

from coinfer.cli.console import emit_json, print_table

JsonOption = Annotated[bool, typer.Option("--json", help="Figures as JSON.")]


def wire(
    repeats: Annotated[int, typer.Option(min=1, help="Round trips of every size.")] = 300,
    tls: Annotated[bool, typer.Option(help="The same over TLS too.")] = False,
    json: JsonOption = False,
) -> None:
    """Round trips through device link, edge and scheduler, against plain blocking sockets."""
    import datetime
    import tempfile
    from pathlib import Path

    from experiments.wire_bench import wire_rows

    if tls:
        from controller.daemon.certificates import make_authority, make_certificate
        from controller.runtime.secure import TlsFiles, client_security, server_security

        with tempfile.TemporaryDirectory(prefix="coinfer-") as name:
            folder, now = Path(name), datetime.datetime.now(datetime.UTC)
            authority = make_authority(folder, now)
            edge = make_certificate(folder, "edge", "edge", ["127.0.0.1"], 1, now)
            pi = make_certificate(folder, "device", "pi", [], 1, now)
            ends = [
                TlsFiles(str(authority), str(own), str(own.with_suffix(".key")))
                for own in (edge, pi)
            ]
            rows = wire_rows(repeats, security=(server_security(ends[0]), client_security(ends[1])))
    else:
        rows = wire_rows(repeats)
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


def decide(
    scenario: Annotated[str, typer.Option(help="A shipped name or a .toml file.")],
    decisions: Annotated[int, typer.Option(min=1, help="Of every controller.")] = 20_000,
    controllers: Annotated[
        str, typer.Option(help="Names separated by commas.")
    ] = "learned,robust,map,algorithm1-online",
    json: JsonOption = False,
) -> None:
    """How long a decision takes: measurement in, sensing, features, policy, plan out."""
    from controller.scenario import load_setting, read_scenario
    from experiments.controllers import ControllerFactory, chosen_names
    from experiments.decide_bench import decide_row

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
    from experiments.edge_bench import edge_figures

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
    scenario: Annotated[str, typer.Option(help="A shipped name or a .toml file.")],
    idle_s: Annotated[float, typer.Option(min=0.5, help="How long it idles.")] = 10.0,
    answers: Annotated[int, typer.Option(min=1, help="Asked after that.")] = 200,
    json: JsonOption = False,
) -> None:
    """The daemon as a process: time to its first answer, memory, what it burns when idle."""
    from experiments.device_bench import device_figures

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
