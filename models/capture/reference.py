"""Torch's side of a verification: a module's scores, its program's values, and their rounding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from models.capture.comparison import difference
from models.capture.modules import answers, tensors_in

Seen = Callable[[str, Tensor], None]


class Reference(Protocol):
    """What a network must compute."""

    def exits(self, x: Tensor) -> list[Tensor]:
        """Scores of every exit for a batch."""

    def inside(self, x: Tensor, seen: Seen) -> None:
        """Call `seen` with every value on the way, by name."""

    def rounding(self, x: Tensor) -> tuple[list[float], dict[str, float]]:
        """What float32 makes of every exit's scores, and of every value by name: differences from
        the same in float64, as shares of the greatest magnitude.
        """


@dataclass(frozen=True, eq=False)
class ModuleReference:
    """A module, and the program that `torch.export` made of it (values inside, by name)."""

    module: nn.Module
    program: ExportedProgram

    def exits(self, x: Tensor) -> list[Tensor]:
        """The module's own scores."""
        return answers(self.module, x)

    def inside(self, x: Tensor, seen: Seen) -> None:
        """The program's values."""
        self._run(_Recorder(self.program.graph_module, seen), x)

    def rounding(self, x: Tensor) -> tuple[list[float], dict[str, float]]:
        """Of the program; nothing where it cannot be computed in float64."""
        plain: dict[str, Tensor] = {}
        found: dict[str, float] = {}
        given = self._run(_Recorder(self.program.graph_module, plain.__setitem__), x)

        def seen(name: str, value: Tensor) -> None:
            if name in plain:
                found[name] = difference(plain[name].numpy(force=True), value.numpy(force=True))

        try:
            exact = self._run(_Exact(self.program.graph_module, seen), x)
        except Exception:  # an operator that takes no float64, or types that do not go together
            return [], {}
        exits = [
            difference(a.numpy(force=True), b.numpy(force=True))
            for a, b in zip(given, exact, strict=True)
        ]
        return exits, found

    def _run(self, recorder: _Recorder, x: Tensor) -> list[Tensor]:
        """The program's outputs."""
        held: dict[str, Any] = {**self.program.state_dict, **self.program.constants}
        given = [
            x if item.kind is InputKind.USER_INPUT else held[str(item.target)]
            for item in self.program.graph_signature.input_specs
        ]
        with torch.inference_mode():
            return list(tensors_in(recorder.run(*given)))


class _Recorder(fx.Interpreter):
    """Runs a program and shows every tensor that it computes."""

    def __init__(self, program: fx.GraphModule, seen: Seen) -> None:
        super().__init__(program)
        self._seen = seen

    def run_node(self, n: fx.Node) -> Any:
        """One operation."""
        value = self.computed(n)
        if isinstance(value, Tensor):
            self._seen(n.name, value)
        return value

    def computed(self, n: fx.Node) -> Any:
        """What the operation gives."""
        return super().run_node(n)


class _Exact(_Recorder):
    """The same in float64."""

    def computed(self, n: fx.Node) -> Any:
        """What the operation gives for float64 numbers."""
        if n.target is torch.ops.aten._assert_tensor_metadata.default:
            return None
        return _wider(super().computed(n))

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        """With float64 where float32 is asked for."""
        wanted = {k: torch.float64 if v is torch.float32 else v for k, v in kwargs.items()}
        return super().call_function(target, args, wanted)


def _wider(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.double() if value.dtype is torch.float32 else value
    if isinstance(value, tuple | list):
        return type(value)(_wider(v) for v in value)
    return value
