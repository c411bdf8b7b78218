"""`coinfer weights`: puts a shipped network's weights together with those that a package brings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coinfer.cli.console import console, emit_json
from coinfer.cli.options import JsonOption

if TYPE_CHECKING:
    from models.facts.cards import State


def weights(
    name: Annotated[str, typer.Argument(help="A shipped network whose weights are a package's.")],
    file: Annotated[
        Path | None,
        typer.Option("--from", help="Weights that this command has made on another machine."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Put together a shipped network's weights with those that a package of their own brings.

    They are kept in the cache folder, checked against the network's digest. That needs torch, and
    the package. A device has neither: take the file that this command names there, with --from.
    """
    from artefacts import UsageError
    from models.facts.cards import keep_weights, model_folder, read_card
    from models.facts.packaged import read_source

    folder = model_folder(name)
    if read_source(folder) is None:
        raise UsageError(f"'{name}': found a network with its weights, expected one without")
    path = keep_weights(folder, _put_together(folder) if file is None else file)
    if json:
        emit_json({"name": name, "digest": read_card(folder).digest, "file": str(path)})
        return
    console.print(f"{name}: {path.stat().st_size / 1e6:.1f} MB of weights, kept as {path}")


def _put_together(folder: Path) -> State:
    from models.networks.published import put_together

    return put_together(folder)
