"""An answer's JSON, made a few values at a time.

A network may give a million values. `json` writes a list in one call, in which no other thread of
the process has a turn: the engine and the other clients' requests would stand still meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from controller.daemon.inference.answering import OutputTensor
from controller.daemon.inference.tensor_data import BYTES

PIECE = 4096
"""Values that are written at once: a millisecond or two."""


def json_object(fields: Mapping[str, Any], last: str, parts: list[str]) -> str:
    """`fields` as JSON, and behind them the field `last`: a list of `parts`, which are JSON."""
    inner = json.dumps(fields)[1:-1]
    return "".join(["{", inner, ", " if inner else "", json.dumps(last), ": [", *parts, "]}"])


def short_json(fields: Mapping[str, Any]) -> bytes:
    """A short answer, whose `outputs` may be long."""
    outputs: Mapping[str, Any] | None = fields.get("outputs")
    if outputs is None:
        return json.dumps(fields).encode()
    parts: list[str] = []
    for name, value in outputs.items():
        parts += [", " if parts else "", json.dumps(name), ": ", *nested(value)]
    rest = json.dumps({k: v for k, v in fields.items() if k != "outputs"})[1:]
    return "".join(['{"outputs": {', *parts, "}, ", rest]).encode()


def written(tensor: OutputTensor) -> list[str]:
    """A tensor's values row by row as JSON, with commas between them: parts to be joined."""
    found: list[str] = []
    for piece in _pieces(tensor):
        text = json.dumps(piece)
        found += [", ", text[1:-1]] if found else [text[1:-1]]
    return found


def nested(value: Any) -> list[str]:
    """Lists of lists as JSON: parts to be joined. What is no list is one part."""
    inner = _count(value[0]) if isinstance(value, list) and value else 1
    if not isinstance(value, list) or len(value) * inner <= PIECE:
        return [json.dumps(value)]
    step, found = PIECE // inner, ["["]
    for at in range(0, len(value), max(step, 1)):
        part = [json.dumps(value[at : at + step])[1:-1]] if step else nested(value[at])
        found += [", ", *part] if at else part
    return [*found, "]"]


def _count(value: Any) -> int:
    """Numbers in lists of lists that are alike."""
    if not isinstance(value, list):
        return 1
    return len(value) * _count(value[0]) if value else 1


def _pieces(tensor: OutputTensor) -> Iterator[list[Any]]:
    values = tensor.values if isinstance(tensor.values, list) else tensor.values.ravel()
    for at in range(0, len(values), PIECE):
        part = values[at : at + PIECE]
        plain: list[Any] = part if isinstance(part, list) else part.tolist()
        yield [v.decode() for v in plain] if tensor.datatype == BYTES else plain
