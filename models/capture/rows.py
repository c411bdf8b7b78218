"""A user's module as one that takes one float32 array and gives one float32 row an exit.

Whatever a module takes (token ids and their mask, several tensors) is taken apart from one array,
and whatever it gives (several tensors, a mapping) is laid end to end, inside the network that is
exported. Layers, codecs and executors then know arrays alone; `models.facts.preprocessing` and
`models.facts.answers` say what they mean.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from artefacts import UsageError
from models.capture.modules import evaluated, staying, tensors_in
from models.codecs.tensors import NamedTensor
from models.facts.preprocessing import NUMPY_TYPES, Preprocessing, TensorInput, TokenInput

MASK = "attention_mask"
"""A parameter of this name is given which token ids are no padding."""


class RowModule(nn.Module):
    """`module` between one array (N, ...) float32 and rows (N, V) float32.

    A module with `exit_count` gives a list of so many answers, one an exit; this one gives a list
    of rows then. `outputs` names what is taken of a mapping (empty: every tensor, in its order).
    """

    def __init__(
        self, module: nn.Module, preprocessing: Preprocessing, outputs: Sequence[str] = ()
    ) -> None:
        super().__init__()
        self.module, self._preprocessing, self._outputs = module, preprocessing, tuple(outputs)
        self.exit_count = own_exits(module)
        parameters = inspect.signature(module.forward).parameters
        self._masked = isinstance(preprocessing, TokenInput) and MASK in parameters
        self._named = isinstance(preprocessing, TensorInput) and all(
            t.name in parameters for t in preprocessing.tensors
        )

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Rows (N, V) of the only answer, or a list of them."""
        found = self._ask(x)
        if not self.exit_count:
            return self._row(found)
        exits = list(found.values()) if isinstance(found, Mapping) else list(found)
        if len(exits) != self.exit_count:
            raise UsageError(
                f"exit_count: found {self.exit_count}, and {len(exits)} answers, expected as many"
            )
        return [self._row(one) for one in exits]

    def _ask(self, x: Tensor) -> Any:
        kind = self._preprocessing
        if isinstance(kind, TokenInput):
            # whatever crosses a link, no id is looked up that the vocabulary has not
            ids = x.clamp(0, kind.vocabulary - 1).to(torch.int64)
            if self._masked:
                return self.module(ids, **{MASK: (ids != kind.padding).to(torch.int64)})
            return self.module(ids)
        if not isinstance(kind, TensorInput) or kind.alone:
            return self.module(x)
        parts = torch.split(x, [t.values for t in kind.tensors], dim=1)
        given = [_typed(part, t) for part, t in zip(parts, kind.tensors, strict=True)]
        if self._named:
            return self.module(**{t.name: v for t, v in zip(kind.tensors, given, strict=True)})
        return self.module(*given)

    def _row(self, answer: Any) -> Tensor:
        if self._outputs:
            answer = [_named(answer, name) for name in self._outputs]
        parts = [one.to(torch.float32).flatten(1) for one in tensors_in(answer)]
        if not parts:
            raise UsageError("model: found no tensor in its output, expected one or more")
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def as_rows(
    module: nn.Module, preprocessing: Preprocessing, x: Tensor, outputs: Sequence[str] = ()
) -> nn.Module:
    """`module` as one that gives rows (N, V) float32 for a batch `x` (N, ...), itself if it does.

    A module that gives a row for one array already keeps the names of its parts. `preprocessing`
    says what it takes, `outputs` what is taken of a mapping (empty: everything).
    """
    made = RowModule(module, preprocessing, outputs)
    apart = isinstance(preprocessing, TokenInput) or (
        isinstance(preprocessing, TensorInput) and not preprocessing.alone
    )
    if outputs or apart or made.exit_count:
        return made
    try:
        eager = torch.compiler.set_stance("force_eager")
        with evaluated(module), torch.inference_mode(), eager, staying():
            found = module(x)
    except Exception:  # whatever the user's module raises: who asks it next says so
        return made
    plain = isinstance(found, Tensor) and found.dim() == 2 and found.dtype == torch.float32
    return module if plain else made


def own_exits(module: nn.Module) -> int:
    """How many exits a module says it has itself (0: it gives one answer)."""
    count = getattr(module, "exit_count", 0)
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise UsageError(f"exit_count: found {count!r}, expected how many answers it gives")
    return count


def output_tensors(
    module: nn.Module, x: Tensor, preprocessing: Preprocessing, outputs: Sequence[str] = ()
) -> tuple[NamedTensor, ...]:
    """Names, types and shapes of what a module answers (of its last exit) to a batch `x`.

    `module` takes what `preprocessing` says; `outputs` names what is taken of a mapping.
    """
    rows = RowModule(module, preprocessing, outputs)
    with torch.inference_mode():
        found = rows._ask(x)
    if rows.exit_count:
        found = (list(found.values()) if isinstance(found, Mapping) else list(found))[-1]
    if rows._outputs:
        pairs = [(name, _named(found, name)) for name in rows._outputs]
    elif isinstance(found, Mapping):
        pairs = [(str(k), v) for k, v in found.items() if isinstance(v, Tensor)]
    else:
        made = list(tensors_in(found))
        pairs = [(f"output {k + 1}" if len(made) > 1 else "output", v) for k, v in enumerate(made)]
    return tuple(NamedTensor(name, "FP32", tuple(v.shape[1:])) for name, v in pairs)


def _typed(part: Tensor, tensor: NamedTensor) -> Tensor:
    shaped = part.reshape(-1, *tensor.shape)
    kind = torch.from_numpy(_empty(tensor)).dtype
    return shaped if kind is torch.float32 else shaped.to(kind)


def _empty(tensor: NamedTensor) -> Any:
    import numpy as np

    return np.zeros(0, dtype=NUMPY_TYPES[tensor.datatype])


def _named(answer: Any, name: str) -> Any:
    if isinstance(answer, Mapping) and name in answer:
        return answer[name]
    found = getattr(answer, name, None)
    if found is None:
        known = ", ".join(map(str, answer)) if isinstance(answer, Mapping) else "no names at all"
        raise UsageError(f"--outputs: found '{name}', expected names of what it gives ({known})")
    return found
