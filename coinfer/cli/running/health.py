"""`coinfer health edge|device`: does the daemon of a configuration file answer? For containers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Whether this machine's daemon answers: one line, exit code 0 or 1.", no_args_is_help=True
)
WaitOption = Annotated[float, typer.Option(min=0.1, max=60.0, help="For an answer.")]


@app.command()
def edge(
    config: Annotated[Path, typer.Option(help="The edge.toml that it runs with.")],
    certificate: Annotated[
        Path | None, typer.Option(help="A device's, to show (health.pem beside the edge's own).")
    ] = None,
    key: Annotated[Path | None, typer.Option(help="Of that certificate.")] = None,
    wait_s: WaitOption = 3.0,
) -> None:
    """Greet the edge as a device does, over TLS where it speaks that, and ping it."""
    from artefacts import UsageError
    from controller.daemon.configuration.checks import Credential, NotHealthy, check_edge

    credential = None
    if certificate is not None:
        credential = Credential(certificate, key or certificate.with_suffix(".key"))
    elif key is not None:
        raise UsageError("--key: found no --certificate, expected both")
    try:
        said = check_edge(config, credential, wait_s)
    except NotHealthy as error:
        _unhealthy(error)
    else:
        _healthy(said)


@app.command()
def device(
    config: Annotated[Path, typer.Option(help="The device.toml that it runs with.")],
    wait_s: WaitOption = 3.0,
) -> None:
    """Ask the device's daemon over HTTP, or its Unix socket, whether it is ready."""
    from controller.daemon.configuration.checks import NotHealthy, check_device

    try:
        said = check_device(config, wait_s)
    except NotHealthy as error:
        _unhealthy(error)
    else:
        _healthy(said)


def _healthy(said: str) -> None:
    from artefacts.printing import printable

    sys.stdout.write(f"{printable(said)}\n")


def _unhealthy(error: Exception) -> None:
    from artefacts.printing import printable, shortened

    sys.stderr.write(f"coinfer: {printable(shortened(str(error)))}\n")
    raise SystemExit(1)
