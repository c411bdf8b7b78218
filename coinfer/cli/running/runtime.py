"""`coinfer edge` and `coinfer device`: the two processes of a split."""

from __future__ import annotations

import contextlib
import queue
import signal
from pathlib import Path
from typing import Annotated

import typer

from coinfer.cli.console import console, emit_json, print_table
from coinfer.cli.options import (
    AsDaemonOption,
    ControllerOption,
    DataOption,
    DeviceSecondOption,
    EdgeAddressOption,
    ExecutorOption,
    JsonOption,
    KeepOption,
    MegabyteOption,
    PaceOption,
    PolicyOption,
    RecordsOption,
    ScenarioOption,
    SlowdownOption,
)
from coinfer.cli.scenario import controller_of, policy_of, prices_of


def edge(
    model: Annotated[str, typer.Option(help="Shipped model or folder.")] = "alexnet",
    host: Annotated[str, typer.Option(help="Address: loopback or a test namespace.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free port.")] = 7700,
    executor: ExecutorOption = "onnx",
    pace: Annotated[
        str | None, typer.Option(help="Profile whose times are kept (emulates that machine).")
    ] = None,
    port_file: Annotated[Path | None, typer.Option(help="File to write the port to.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="edge.toml: models, TLS, limits; instead of the others.")
    ] = None,
) -> None:
    """Serve a model's layer intervals over TCP until interrupted."""
    from artefacts import ready_file

    if port_file is not None:
        ready_file(port_file)
    if config is None:
        _plain_edge(model, host, port, executor, pace, port_file)
        return
    from controller.daemon.edge_main import run_edge

    run_edge(config, lambda where: _write(port_file, where.rpartition(":")[2]))


def _plain_edge(
    model: str, host: str, port: int, executor: str, pace: str | None, port_file: Path | None
) -> None:
    """Serve one model, as the options say, until SIGTERM, SIGINT or SIGHUP."""
    from artefacts import UsageError
    from artefacts.endings import raise_if_ended
    from controller.edge.server import EdgeServer
    from controller.link.addresses import join_address
    from controller.scenarios import load_profile
    from models.facts.cards import load_model
    from models.networks.torch_executor import any_executor

    loaded = load_model(model)
    profile = None if pace is None else load_profile(pace, loaded)
    compute = any_executor(executor, loaded, pace=profile)
    try:
        server = EdgeServer(loaded, compute, host, port)
    except OSError as error:
        raise UsageError(
            f"edge: cannot listen on {join_address(host, port)} ({error.strerror})"
        ) from None
    # a queue that may be put to while it is asked: an event's lock would be taken twice
    stopped: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # of nohup
            signal.signal(number, lambda received, frame: stopped.put(received))
    raise_if_ended()
    server.start()
    paced = f", paced as '{pace}'" if pace else ""
    _log(f"edge: {loaded.spec.name} {loaded.digest[:12]} on {server.address}{paced}")
    _write(port_file, str(server.port))
    ended = False
    while not ended:
        with contextlib.suppress(queue.Empty):
            ended = stopped.get(timeout=1.0) > 0
        while server.errors:
            _log(f"edge: {server.errors.popleft()}")
    server.close()
    _log(f"edge: {server.served} requests served")
    _flush_log()


def _log(line: str) -> None:
    """Say something; no edge ends or waits for a log that has no room or no reader."""
    from artefacts import printable
    from controller.daemon.monitoring.log import error_writer

    writer = error_writer()
    if writer is not None:
        writer.put(printable(line).encode("utf-8", "backslashreplace") + b"\n")
        return
    with contextlib.suppress(OSError):
        console.print(line)


def _flush_log() -> None:
    from controller.daemon.monitoring.log import error_writer

    if (writer := error_writer()) is not None:
        writer.flush()


def _write(path: Path | None, text: str) -> None:
    """Write what others wait for, where they named a file."""
    from artefacts import atomic_write

    if path is not None:
        with atomic_write(path) as stream:
            stream.write(text)


def device(
    scenario: ScenarioOption = "",
    config: Annotated[
        Path | None, typer.Option(help="device.toml: run as a daemon, until SIGTERM.")
    ] = None,
    edge_address: EdgeAddressOption = "127.0.0.1:7700",
    controller: ControllerOption = "",
    policy: PolicyOption = None,
    executor: ExecutorOption = "onnx",
    pace: PaceOption = True,
    slowdown: SlowdownOption = 1.0,
    frames: Annotated[int | None, typer.Option(min=1, help="Stop after so many frames.")] = None,
    duration_s: Annotated[float | None, typer.Option(min=0.1, help="Stop after so long.")] = None,
    ready_file: Annotated[Path | None, typer.Option(hidden=True)] = None,
    seed: Annotated[int, typer.Option(min=0, help="Order of the pictures.")] = 1,
    as_daemon: AsDaemonOption = False,
    data: DataOption = None,
    records: RecordsOption = None,
    keep: KeepOption = None,
    device_second: DeviceSecondOption = None,
    megabyte: MegabyteOption = None,
    json: JsonOption = False,
) -> None:
    """Run the frame loop over pictures, or with --config the daemon that answers over HTTP."""
    from artefacts import UsageError
    from artefacts import ready_file as tried

    for path in (ready_file, records):
        if path is not None:
            tried(path)
    if config is not None:
        _daemon(config, ready_file)
        return
    if not scenario:
        raise UsageError("device: found neither --config nor --scenario, expected one of them")
    from experiments.replay.device_run import DeviceRun, run_device, run_figures

    prices = prices_of(device_second, megabyte)
    policy = policy_of(scenario, policy, prices)
    controller = controller_of(controller, scenario, policy, prices)
    frames = 100 if frames is None and duration_s is None else frames
    outcome = run_device(
        DeviceRun(
            scenario, edge_address_of(edge_address), controller, policy, executor, pace, frames,
            duration_s, None if ready_file is None else lambda: _agreed_start(ready_file), seed,
            as_daemon, data=data, slowdown=slowdown, keep=keep, prices=prices,
        ),
        console.print,
    )  # fmt: skip
    if records is not None:
        outcome.save(records)
    figures = run_figures(outcome)
    if json:
        emit_json(figures)
        return
    print_table(
        f"{controller} on {scenario}: {outcome.pictures}",
        ["figure", "value"],
        [(k, v if isinstance(v, str) else f"{v:.4g}") for k, v in figures.items()],
    )


def edge_address_of(text: str) -> tuple[str, int]:
    """Host and port of `--edge`."""
    from artefacts import UsageError
    from controller.link.addresses import split_address

    try:
        return split_address(text)
    except UsageError as error:
        raise UsageError(f"--edge: {error}") from None


def _daemon(config: Path, ready_file: Path | None) -> None:
    from coinfer import __version__
    from controller.daemon.main import Daemon

    Daemon(config, __version__).run(lambda where: _write(ready_file, "\n".join(where)))


def _agreed_start(ready_file: Path) -> float:
    """Say that all is loaded, then hear on standard input when to begin (monotonic seconds)."""
    import sys

    from artefacts import UsageError

    _write(ready_file, "ready")
    line = sys.stdin.readline().strip()
    try:
        return float(line)
    except ValueError:
        raise UsageError(f"standard input: found '{line[:40]}', expected a moment") from None
