"""How sure an exit is, by a function of the author's, as part of the network.

The function is traced with the network: what runs on a device computes it as any other layer, and
needs no torch for it. Every row ends with it then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from artefacts import UsageError
from models.capture.modules import answers

Confidence = Callable[[Tensor], Tensor]
"""Of rows (N, V): how sure each is, (N,), within 0 and 1."""


class ConfidentRows(nn.Module):
    """`module`, whose rows (N, V) get one more value each, within 0 and 1: (N, V + 1).

    A module that gives a list of rows, one an exit, gives a list here too.
    """

    def __init__(self, module: nn.Module, confidence: Confidence) -> None:
        super().__init__()
        self.module, self._confidence = module, confidence
        self.exit_count = getattr(module, "exit_count", 0)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Rows of inputs (N, ...)."""
        found = self.module(x)
        if isinstance(found, list | tuple):
            return [self._with(row) for row in found]
        return self._with(found)

    def _with(self, rows: Tensor) -> Tensor:
        # a copy: the function may compute in place
        sure = self._confidence(rows.clone()).reshape(-1, 1).to(torch.float32)
        return torch.cat([rows, sure.clamp(0.0, 1.0)], dim=1)


def confident(module: nn.Module, confidence: Confidence | None, x: Tensor) -> nn.Module:
    """`module` whose rows end with a confidence (None: as it is), tried on a batch `x` (N, ...)."""
    if confidence is None:
        return module
    for rows in answers(module, x):
        check_confidence(confidence, rows)
    return ConfidentRows(module, confidence)


def check_confidence(confidence: Confidence, rows: Tensor) -> None:
    """Refuse a function that does not give one finite number for each of `rows` (N, V)."""
    try:
        with torch.inference_mode():
            found: Any = confidence(rows.clone())
    except (Exception, SystemExit) as error:  # whatever the user's function raises
        said = str(error).splitlines()[0][:200] if str(error) else ""
        raise UsageError(
            f"--confidence: failed on rows {tuple(rows.shape)}: {type(error).__name__}: {said}"
        ) from None
    if not isinstance(found, Tensor) or found.shape not in ((len(rows),), (len(rows), 1)):
        shape = f"{tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise UsageError(
            f"--confidence: found {shape} for rows {tuple(rows.shape)}, expected a tensor "
            f"({len(rows)},) within 0 and 1"
        )
    if not bool(torch.isfinite(found.float()).all()):
        raise UsageError("--confidence: found numbers that are not finite, expected 0 to 1")
