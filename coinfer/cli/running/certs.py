"""`coinfer certs`: a private authority, and certificates for edges and devices."""

from __future__ import annotations

import datetime
import secrets
from pathlib import Path
from typing import Annotated

import typer

from coinfer.cli.console import console

app = typer.Typer(
    help="A private authority, and certificates for edges and devices.", no_args_is_help=True
)
Folder = Annotated[Path, typer.Option("--dir", help="Where the authority's files lie.")]
Name = Annotated[str, typer.Argument(help="Of the certificate and its two files.")]
Days = Annotated[int, typer.Option(min=1, max=3650, help="For which it is valid.")]


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


@app.command()
def init(folder: Folder = Path("certs")) -> None:
    """Make the authority: ca.pem goes to every edge and device, ca.key stays here."""
    from controller.daemon.configuration.certificates import make_authority

    console.print(f"written to {make_authority(folder, _now())}; keep ca.key where no device is")


@app.command()
def edge(
    name: Name,
    host: Annotated[list[str], typer.Option(help="Address or name that devices call it by.")],
    folder: Folder = Path("certs"),
    days: Days = 825,
) -> None:
    """A certificate for an edge server."""
    from controller.daemon.configuration.certificates import make_certificate

    console.print(f"written to {make_certificate(folder, 'edge', name, host, days, _now())}")


@app.command()
def device(name: Name, folder: Folder = Path("certs"), days: Days = 825) -> None:
    """A certificate for a device."""
    from controller.daemon.configuration.certificates import make_certificate

    console.print(f"written to {make_certificate(folder, 'device', name, [], days, _now())}")


@app.command()
def token(out: Annotated[Path, typer.Option(help="File to write it to.")]) -> None:
    """A shared token, for devices without certificates of their own (over TLS only)."""
    from controller.daemon.configuration.certificates import write_secret

    write_secret(out, secrets.token_urlsafe(32).encode() + b"\n")
    console.print(f"written to {out}")
