"""The Open Inference Protocol, version 2, over REST, with the binary tensor extension.

Bytes in, requests out; answers in, bytes out: no sockets here. (KServe, "Open Inference Protocol"
and "Binary tensor data extension".) One input, `picture`: UINT8 (N, H, W, 3), or BYTES (N) of JPEG
files. Outputs: `label` INT64 (N), `confidence` FP32 (N), `exit` INT32 (N, counted from 1).
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from artefacts import UsageError
from controller.daemon.pictures import Pictures, decode_jpeg

INPUT, OUTPUTS = "picture", {"label": "INT64", "confidence": "FP32", "exit": "INT32"}
DTYPES: dict[str, np.dtype[Any]] = {
    "INT64": np.dtype("<i8"),
    "FP32": np.dtype("<f4"),
    "INT32": np.dtype("<i4"),
}
HEADER_LENGTH = "Inference-Header-Content-Length"
EXTENSIONS = ("binary_tensor_data",)
MOST_PICTURES = 16


@dataclass(frozen=True, slots=True)
class InferRequest:
    """Pictures (N, H, W, 3), and how they are to be answered.

    `deadline_s` and `threshold` are None where the request leaves them to the device. `outputs`:
    what is wanted, and whether as raw bytes.
    """

    pictures: Pictures
    id: str
    deadline_s: float | None
    threshold: float | None
    outputs: tuple[tuple[str, bool], ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """One picture's answer; `exit` is 0-based."""

    label: int
    confidence: float
    exit: int
    plan: str
    where: str
    latency_s: float


def parse_infer(
    body: bytes, header_length: str | None, size: tuple[int, int], most_pixels: int
) -> InferRequest:
    """An infer request for pictures of `size` (height, width); refuses what is malformed."""
    length = len(body) if header_length is None else _number(header_length, len(body))
    try:
        header = json.loads(body[:length])
    except (ValueError, RecursionError) as error:
        raise UsageError(f"infer request: found no valid JSON ({error})") from None
    if not isinstance(header, dict):
        raise UsageError(f"infer request: found {type(header).__name__}, expected an object")
    inputs = header.get("inputs")
    if not (isinstance(inputs, list) and len(inputs) == 1 and isinstance(inputs[0], dict)):
        raise UsageError(f"inputs: found {_short(inputs)}, expected one, called '{INPUT}'")
    given = inputs[0]
    if given.get("name") != INPUT:
        raise UsageError(f"inputs[0].name: found {_short(given.get('name'))}, expected '{INPUT}'")
    pictures = _pictures(given, body[length:], size, most_pixels)
    parameters = _object(header.get("parameters"), "parameters")
    timeout = _positive(parameters, "timeout")
    deadline = _positive(parameters, "deadline_ms")
    seconds = None if timeout is None else timeout / 1e6
    return InferRequest(
        pictures,
        str(header.get("id", ""))[:256],
        seconds if deadline is None else deadline / 1e3,
        _positive(parameters, "threshold"),
        _wanted(header.get("outputs"), parameters),
    )


def build_answer(
    model: str, request: InferRequest, answers: Sequence[Answer]
) -> tuple[bytes, int | None]:
    """The response's body, and the length of its JSON part where raw bytes follow it."""
    columns: dict[str, list[Any]] = {
        "label": [a.label for a in answers],
        "confidence": [a.confidence for a in answers],
        "exit": [a.exit + 1 for a in answers],
    }
    outputs, tail = [], b""
    for name, binary in request.outputs:
        datatype = OUTPUTS[name]
        output: dict[str, Any] = {"name": name, "datatype": datatype, "shape": [len(answers)]}
        if binary:
            values: list[Any] = columns[name]
            raw = np.array(values, dtype=DTYPES[datatype]).tobytes()
            output["parameters"] = {"binary_data_size": len(raw)}
            tail += raw
        else:
            output["data"] = columns[name]
        outputs.append(output)
    first = answers[0]
    header: dict[str, Any] = {"model_name": model, "model_version": "1", "outputs": outputs}
    if request.id:
        header["id"] = request.id
    header["parameters"] = {
        "plan": first.plan,
        "where": first.where,
        "latency_ms": round(1e3 * max(a.latency_s for a in answers), 3),
    }
    head = json.dumps(header).encode()
    return head + tail, len(head) if tail else None


def metadata(model: str, size: tuple[int, int]) -> dict[str, Any]:
    """A model's metadata."""
    return {
        "name": model,
        "versions": ["1"],
        "platform": "coinfer",
        "inputs": [{"name": INPUT, "datatype": "UINT8", "shape": [-1, *size, 3]}],
        "outputs": [{"name": n, "datatype": d, "shape": [-1]} for n, d in OUTPUTS.items()],
    }


def _pictures(
    given: dict[str, Any], tail: bytes, size: tuple[int, int], most_pixels: int
) -> Pictures:
    shape, datatype = given.get("shape"), given.get("datatype")
    whole = isinstance(shape, list) and bool(shape) and all(type(n) is int and n > 0 for n in shape)
    if not whole or not 1 <= shape[0] <= MOST_PICTURES:  # type: ignore[index]
        raise UsageError(
            f"inputs[0].shape: found {_short(shape)}, expected 1 to {MOST_PICTURES} pictures first"
        )
    assert isinstance(shape, list)
    parameters = _object(given.get("parameters"), "inputs[0].parameters")
    announced = parameters.get("binary_data_size")
    if announced is not None and announced != len(tail):
        raise UsageError(
            f"inputs[0].parameters.binary_data_size: found {_short(announced)}, expected the "
            f"{len(tail)} bytes behind the JSON"
        )
    raw = None if announced is None else tail
    if datatype == "UINT8":
        return _raw_pictures(given.get("data"), raw, shape, size)
    if datatype == "BYTES" and len(shape) <= 2 and math.prod(shape) == shape[0]:
        if raw is None:
            raise UsageError("inputs[0]: found BYTES as JSON, expected JPEG files as binary data")
        files = _strings(raw, shape[0])
        return np.stack([decode_jpeg(f, size, most_pixels) for f in files])
    raise UsageError(
        f"inputs[0].datatype: found {_short(datatype)}, expected UINT8 (N, H, W, 3) or BYTES (N)"
    )


def _raw_pictures(
    data: Any, raw: bytes | None, shape: list[int], size: tuple[int, int]
) -> Pictures:
    if tuple(shape[1:]) != (*size, 3):
        raise UsageError(f"inputs[0].shape: found {shape}, expected (N, {size[0]}, {size[1]}, 3)")
    if raw is not None:
        if len(raw) != math.prod(shape):
            raise UsageError(f"inputs[0]: found {len(raw)} bytes, expected {math.prod(shape)}")
        return np.frombuffer(raw, dtype=np.uint8).reshape(shape)
    try:
        found = np.array(data)
        if found.dtype.kind not in "iu":
            raise TypeError
        values = found.astype(np.int64).reshape(shape)
    except (TypeError, ValueError, OverflowError):
        raise UsageError(
            f"inputs[0].data: found no {math.prod(shape)} whole numbers, expected one a value"
        ) from None
    if values.min() < 0 or values.max() > 255:
        raise UsageError("inputs[0].data: found values beyond 0 to 255, expected UINT8")
    return values.astype(np.uint8)


def _strings(raw: bytes, count: int) -> list[bytes]:
    """Triton's BYTES: every element is its length (4 bytes, little-endian) and itself."""
    found, at = [], 0
    for _ in range(count):
        if at + 4 > len(raw):
            break
        (length,) = struct.unpack_from("<I", raw, at)
        found.append(raw[at + 4 : at + 4 + length])
        at += 4 + length
    if len(found) != count or at != len(raw):
        raise UsageError(
            f"inputs[0]: found {len(raw)} bytes that are not {count} elements of BYTES"
        )
    return found


def _wanted(outputs: Any, parameters: dict[str, Any]) -> tuple[tuple[str, bool], ...]:
    usual = parameters.get("binary_data_output") is True
    if not outputs:
        return tuple((name, usual) for name in OUTPUTS)
    if not isinstance(outputs, list) or not all(isinstance(o, dict) for o in outputs):
        raise UsageError(f"outputs: found {_short(outputs)}, expected a list of objects")
    found = []
    for output in outputs:
        name = output.get("name")
        if not isinstance(name, str) or name not in OUTPUTS:
            raise UsageError(f"outputs: found {_short(name)}, expected {', '.join(OUTPUTS)}")
        own = _object(output.get("parameters"), f"outputs '{name}'").get("binary_data", usual)
        found.append((name, own is True))
    return tuple(found)


def _object(value: Any, what: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UsageError(f"{what}: found {_short(value)}, expected an object")
    return value


def _positive(parameters: dict[str, Any], name: str) -> float | None:
    value = parameters.get(name)
    if value is None:
        return None
    try:
        number = float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        number = math.nan
    if isinstance(value, bool) or not 0 < number < math.inf:
        raise UsageError(f"parameters.{name}: found {_short(value)}, expected a number above 0")
    return number


def _number(text: str, most: int) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 12 and int(text) <= most):
        raise UsageError(f"{HEADER_LENGTH}: found '{text[:20]}', expected at most {most}")
    return int(text)


def _short(value: Any) -> str:
    return repr(value)[:60]
