"""Checkpoints of training runs: whole or absent, and only ever taken up by the run they are of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from artefacts import ArtefactError, atomic_write

FORMAT_VERSION = 1


def save_checkpoint(
    path: Path, identity: Mapping[str, Any], parts: Mapping[str, Any], epoch: int
) -> None:
    """Write every part's state after `epoch` epochs; `identity` says which run this is."""
    state = {"format_version": FORMAT_VERSION, "identity": dict(identity), "epoch": epoch}
    with atomic_write(path, "wb") as stream:
        torch.save(state | {name: part.state_dict() for name, part in parts.items()}, stream)


def resume(path: Path, identity: Mapping[str, Any], parts: Mapping[str, Any]) -> int:
    """Take up the run in `path`; gives the epochs it has behind it (0 where there is none)."""
    if not path.exists():
        return 0
    try:
        # weights_only: torch's restricted reader, which builds tensors and plain data, no code
        state = torch.load(path, weights_only=True)
    except Exception as error:
        raise ArtefactError(
            path, found=f"an unreadable file ({type(error).__name__})", expected="a checkpoint"
        ) from None
    if state.get("identity") != identity:
        raise ArtefactError(
            path,
            field="identity",
            found=str(state.get("identity")),
            expected=f"{dict(identity)} (or remove the file to start anew)",
        )
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return int(state["epoch"])
