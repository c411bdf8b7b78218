"""The Open Inference Protocol, version 2, over REST, with the binary tensor extension.

Bytes in, requests out; answers in, bytes out: no sockets here. What a request may ask is decided in
`controller.daemon.inference`, which gRPC shares; here is what JSON and its binary tail are.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np

from artefacts import UsageError
from controller.daemon.inference import (
    ASKED,
    Answer,
    Expected,
    InferRequest,
    RawData,
    SentRequest,
    SentTensor,
    TensorData,
    answer_parameters,
    asked_of,
    earliest,
    known,
    one_input,
    outputs_of,
    short,
    understand,
)
from controller.daemon.pictures import Pictures

HEADER_LENGTH = "Inference-Header-Content-Length"
REQUEST = ("id", "parameters", "inputs", "outputs", "model_name", "model_version")
TENSOR = ("name", "shape", "datatype", "parameters", "data")
OUTPUT = ("name", "parameters")
BINARY_SIZE = "binary_data_size"

Object = dict[str, msgspec.Raw]
_Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]
NESTED = re.compile(rb"\s*\[\s*\[")
_NULL = msgspec.Raw(b"null")


class JsonData:
    """Contents as JSON: numbers, flat or nested as the shape is."""

    def __init__(self, text: msgspec.Raw) -> None:
        self._text = text

    def numbers(self, shape: Sequence[int]) -> Pictures:
        """Checked against the shape and the type before an array is made."""
        count, text = math.prod(shape), bytes(self._text)
        # as many commas as there are values less one, however they are nested
        if text.count(b",") != count - 1:
            raise _no_numbers(count, "another number of them")
        nested = NESTED.match(text) is not None
        kind: Any = _Byte
        for _ in shape if nested else (0,):
            kind = list[kind]
        try:
            found = np.array(msgspec.json.decode(text, type=kind), dtype=np.uint8)
        except msgspec.ValidationError as error:
            raise _no_numbers(count, str(error).replace("`", "'")) from None
        except ValueError:
            raise _no_numbers(count, "rows of different lengths") from None
        if nested and found.shape != tuple(shape):
            raise _no_numbers(count, f"the shape {list(found.shape)}")
        return found.reshape(tuple(shape))

    def elements(self, count: int) -> list[bytes]:
        """Refused: a file is no text."""
        raise UsageError("inputs[0]: found BYTES as JSON, expected JPEG files as binary data")


def _no_numbers(count: int, found: str) -> UsageError:
    return UsageError(
        f"inputs[0].data: found no {count} whole numbers from 0 to 255 ({found[:120]}), expected "
        "one a value"
    )


def parse_infer(
    body: bytes,
    header_length: str | None,
    expected: Expected,
    model: tuple[str, str] | None = None,
    query: Mapping[str, float] | None = None,
) -> InferRequest:
    """An infer request; refuses what is malformed, unknown or not served by `UsageError`.

    `model`: name and version that a body may repeat. `query`: the URL's parameters, in the units of
    the body's; of two deadlines the earlier counts, of two thresholds none.
    """
    length = len(body) if header_length is None else _number(header_length, len(body))
    header = _decode(body[:length], Object, "infer request")
    known("infer request", header, REQUEST)
    _same_model(header, model)
    inputs = _list(header, "inputs")
    one_input(len(inputs))
    sent = SentRequest(
        inputs=[_tensor(inputs[0], body[length:])],
        id=_value(header, "id"),
        parameters=_parameters(header, "parameters"),
        outputs=[_output(raw, k) for k, raw in enumerate(_list(header, "outputs"))],
    )
    return with_query(understand(sent, expected), query or {}, expected)


def with_query(asked: InferRequest, query: Mapping[str, float], expected: Expected) -> InferRequest:
    """A request that its URL's parameters ask more of."""
    deadline_s, threshold = asked_of(query, expected)
    if threshold is not None and asked.threshold not in (None, threshold):
        raise UsageError(
            f"threshold: found {threshold:g} in the query and {asked.threshold:g} in the body, "
            "expected one"
        )
    return dataclasses.replace(
        asked,
        deadline_s=earliest(asked.deadline_s, deadline_s),
        threshold=asked.threshold if threshold is None else threshold,
    )


def read_query(pairs: Sequence[tuple[str, str]]) -> dict[str, float]:
    """A URL's parameters, each a number above 0; refuses unknown and repeated ones."""
    found: dict[str, float] = {}
    for name, text in pairs:
        known("query", {name: text}, ASKED)
        if name in found:
            raise UsageError(f"query: found '{name}' twice, expected it once")
        try:
            found[name] = float(text)
        except ValueError:
            found[name] = math.nan
        if not 0 < found[name] < math.inf:
            raise UsageError(f"{name}: found '{text[:40]}', expected a number above 0")
    return found


def build_answer(
    model: str,
    version: str,
    asked: InferRequest,
    answers: Sequence[Answer],
    classes: Sequence[str] = (),
) -> tuple[bytes, int | None]:
    """The response's body, and the length of its JSON part where raw bytes follow it."""
    outputs, tail = [], b""
    for wanted, tensor in zip(asked.outputs, outputs_of(asked, answers, classes), strict=True):
        output: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(tensor.shape),
        }
        if wanted.binary:
            raw = tensor.raw()
            output["parameters"] = {BINARY_SIZE: len(raw)}
            tail += raw
        else:
            text = tensor.datatype == "BYTES"
            output["data"] = [v.decode() for v in tensor.values] if text else tensor.values
        outputs.append(output)
    header: dict[str, Any] = {"model_name": model, "model_version": version, "outputs": outputs}
    if asked.id is not None:
        header["id"] = asked.id
    header["parameters"] = answer_parameters(answers)
    head = json.dumps(header).encode()
    return head + tail, len(head) if tail else None


def _tensor(raw: msgspec.Raw, tail: bytes) -> SentTensor:
    given = _decode(raw, Object, "inputs[0]")
    known("inputs[0]", given, TENSOR)
    parameters = _parameters(given, "parameters", "inputs[0].")
    known("inputs[0].parameters", parameters, (BINARY_SIZE,))
    announced = parameters.get(BINARY_SIZE)
    listed = given.get("data", _NULL)
    data: TensorData
    if announced is None:
        if tail:
            raise UsageError(
                f"infer request: found {len(tail)} bytes behind the JSON, expected none without "
                f"inputs[0].parameters.{BINARY_SIZE}"
            )
        data = JsonData(listed)
    elif type(announced) is not int or announced != len(tail):
        raise UsageError(
            f"inputs[0].parameters.{BINARY_SIZE}: found {short(announced)}, expected the "
            f"{len(tail)} bytes behind the JSON"
        )
    elif bytes(listed).strip() != b"null":
        raise UsageError("inputs[0]: found data as JSON and as bytes, expected one of them")
    else:
        data = RawData(tail)
    return SentTensor(
        _value(given, "name"), _value(given, "datatype"), _value(given, "shape"), data
    )


def _output(raw: msgspec.Raw, number: int) -> tuple[Any, dict[str, Any]]:
    given = _decode(raw, Object, f"outputs[{number}]")
    known(f"outputs[{number}]", given, OUTPUT)
    return _value(given, "name"), _parameters(given, "parameters", f"outputs[{number}].")


def _same_model(header: Object, model: tuple[str, str] | None) -> None:
    for field, expected in zip(("model_name", "model_version"), model or (), strict=False):
        found = _value(header, field)
        if found not in (None, "", expected):
            raise UsageError(f"{field}: found {short(found)}, expected '{expected}'")


def _decode(raw: bytes | msgspec.Raw, kind: Any, what: str) -> Any:
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError:
        expected = "a list" if kind == list[msgspec.Raw] else "an object"
        raise UsageError(f"{what}: found {_shown(raw)}, expected {expected}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{what}: found no valid JSON ({error})") from None


def _value(given: Object, name: str) -> Any:
    """A field of any kind; None where it is missing or null."""
    return _decode(given.get(name, _NULL), Any, name)


def _list(given: Object, name: str) -> list[msgspec.Raw]:
    raw = given.get(name, _NULL)
    if bytes(raw).strip() == b"null":
        return []
    found: list[msgspec.Raw] = _decode(raw, list[msgspec.Raw], name)
    return found


def _parameters(given: Object, name: str, where: str = "") -> dict[str, Any]:
    value = _value(given, name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UsageError(f"{where}{name}: found {short(value)}, expected an object")
    return value


def _shown(raw: bytes | msgspec.Raw) -> str:
    return repr(bytes(raw)[:57].decode(errors="replace"))[1:-1]


def _number(text: str, most: int) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 12 and int(text) <= most):
        raise UsageError(f"{HEADER_LENGTH}: found '{text[:20]}', expected at most {most}")
    return int(text)
