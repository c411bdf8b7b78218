"""Checkpoints of training runs: whole or absent, and only ever taken up by the run they are of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from artefacts import ArtefactError, atomic_write, open_file
from artefacts.printing import apart

FORMAT_VERSION = 1


def save_checkpoint(
    path: Path, identity: Mapping[str, Any], parts: Mapping[str, Any], epoch: int
) -> None:
    """Write every part's state after `epoch` epochs; `identity` says which run this is.

    `path` is the file; `parts` are modules, optimisers and the like, by name.
    """
    state = {"format_version": FORMAT_VERSION, "identity": dict(identity), "epoch": epoch}
    with atomic_write(path, "wb") as stream:
        torch.save(state | {name: part.state_dict() for name, part in parts.items()}, stream)


def resume(path: Path, identity: Mapping[str, Any], parts: Mapping[str, Any]) -> int:
    """Take up the run in `path`; gives the epochs it has behind it (0 where there is none)."""
    if not path.exists():
        return 0
    with open_file(path, "a checkpoint"):
        pass  # torch would wait for a pipe
    try:
        # weights_only: torch's restricted reader, which builds tensors and plain data, no code
        state = torch.load(path, weights_only=True)
    except Exception as error:
        raise ArtefactError(
            path, found=f"an unreadable file ({type(error).__name__})", expected="a checkpoint"
        ) from None
    kept = state.get("identity")
    if kept != identity:
        kept = kept if isinstance(kept, dict) else {}
        key = _differing(kept, identity)
        now, then = identity.get(key), kept.get(key)
        if isinstance(now, Mapping) and isinstance(then, Mapping):
            key = _differing(then, now)
            now, then = now.get(key), then.get(key)
        found, expected = apart(str(then), str(now))
        raise ArtefactError(
            path,
            field="identity",
            found=f"{key} {found}",
            expected=f"{key} {expected} (or remove the file to start anew)",
        )
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return int(state["epoch"])


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """The first key, in the order of `other`, that both do not have alike."""
    return next(k for k in [*other, *one] if one.get(k) != other.get(k))
