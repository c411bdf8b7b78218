"""The Open Inference Protocol, version 2, over REST, with the binary tensor extension.

Bytes in, requests out; answers in, bytes out: no sockets here. What a request may ask is decided in
`inference.open_inference`, which gRPC shares; here is what JSON and its binary tail are.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from artefacts import UsageError
from controller.daemon.http.answer_json import json_object, written
from controller.daemon.http.browsers import JPEG
from controller.daemon.http.json_data import VALUE_BYTES, JsonData
from controller.daemon.inference.answering import Answer, answer_parameters, outputs_of
from controller.daemon.inference.open_inference import (
    ASKED,
    BINARY,
    BINARY_OUTPUT,
    CLASSIFICATION,
    Expected,
    InferRequest,
    SentRequest,
    asked_of,
    earliest,
    known,
    understand,
)
from controller.daemon.inference.pictures import file_kind
from controller.daemon.inference.samples import SentTensor, check_count
from controller.daemon.inference.signature import MOST_SAMPLES, Signature
from controller.daemon.inference.tensor_data import RawData, TensorData, short

HEADER_LENGTH = "Inference-Header-Content-Length"
REQUEST = ("id", "parameters", "inputs", "outputs", "model_name", "model_version")
TENSOR = ("name", "shape", "datatype", "parameters", "data")
OUTPUT = ("name", "parameters")
BINARY_SIZE = "binary_data_size"

FIELD_BYTES = 16_384
"""Of JSON that a field beside a tensor's data may have."""

Object = dict[str, msgspec.Raw]
_NULL = msgspec.Raw(b"null")


class _Name:
    """A field's name. No two are equal: so an object keeps a name that stands in it twice."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


def most_json_bytes(expected: Expected) -> int:
    """How much JSON the largest request has that can be served."""
    given = expected.signature
    fields = len(REQUEST) + len(TENSOR) * (len(given.inputs) - 1)
    sample = given.input_values * VALUE_BYTES + given.input_bytes
    return MOST_SAMPLES * sample + fields * FIELD_BYTES


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
    kind = file_kind(body)
    if kind is not None:
        other = f", or a JPEG file as {JPEG}" if expected.signature.takes_pictures else ""
        raise UsageError(f"infer request: found {kind}, expected JSON{other}")
    most = most_json_bytes(expected)
    if length > most:
        raise UsageError(
            f"infer request: found {length:,} bytes of JSON, expected at most {most:,}"
        )
    header = _object(memoryview(body)[:length], "infer request", REQUEST)
    _same_model(header, model)
    sent = SentRequest(
        inputs=_tensors(_inputs(header, expected.signature), body[length:]),
        id=_value(header, "id"),
        parameters=_parameters(header, "parameters", (*ASKED, BINARY_OUTPUT)),
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
    given: Signature,
) -> tuple[bytes, int | None]:
    """The response's body, and the length of its JSON part where raw bytes follow it.

    `model` and `version` are repeated, `given` says what the answers are.
    """
    outputs: list[str] = []
    tails: list[bytes] = []
    tensors = outputs_of(asked.outputs, answers, given)
    for wanted, tensor in zip(asked.outputs, tensors, strict=True):
        output: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(tensor.shape),
        }
        if wanted.binary:
            raw = tensor.raw()
            output["parameters"] = {BINARY_SIZE: len(raw)}
            tails.append(raw)
            outputs.append(json.dumps(output))
        else:
            outputs.append(json_object(output, "data", written(tensor)))
    header: dict[str, Any] = {"model_name": model, "model_version": version}
    if asked.id is not None:
        header["id"] = asked.id
    header["parameters"] = answer_parameters(answers, given)
    head = json_object(header, "outputs", [", ".join(outputs)]).encode()
    return b"".join([head, *tails]), len(head) if tails else None


def _tensors(inputs: Sequence[msgspec.Raw], tail: bytes) -> list[SentTensor]:
    """Inputs, and which part of the bytes behind the JSON is each one's: in their order."""
    found, at = [], 0
    for number, raw in enumerate(inputs):
        last = number + 1 == len(inputs)
        tensor, took = _tensor(raw, tail[at:], f"inputs[{number}]", last)
        found.append(tensor)
        at += took
    return found


def _tensor(raw: msgspec.Raw, tail: bytes, where: str, last: bool) -> tuple[SentTensor, int]:
    """An input, and how many bytes of the `tail` are its own: all, where it is the `last`."""
    given = _object(raw, where, TENSOR)
    parameters = _parameters(given, "parameters", (BINARY_SIZE,), f"{where}.")
    announced = parameters.get(BINARY_SIZE)
    listed = given.get("data", _NULL)
    data: TensorData
    took = 0
    if announced is None:
        if tail and last:
            raise UsageError(
                f"infer request: found {len(tail)} bytes behind the JSON, expected none without "
                f"{where}.parameters.{BINARY_SIZE}"
            )
        data = JsonData(listed, where)
    elif (
        type(announced) is not int
        or not 0 <= announced <= len(tail)
        or (last and announced != len(tail))
    ):
        raise UsageError(
            f"{where}.parameters.{BINARY_SIZE}: found {short(announced)}, expected the "
            f"{len(tail)} bytes behind the JSON"
        )
    elif not _is_null(listed):
        raise UsageError(f"{where}: found data as JSON and as bytes, expected one of them")
    else:
        took = announced
        data = RawData(tail[:took], where)
    name, datatype, shape = (_value(given, field) for field in ("name", "datatype", "shape"))
    return SentTensor(name, datatype, shape, data), took


def _output(raw: msgspec.Raw, number: int) -> tuple[Any, dict[str, Any]]:
    where = f"outputs[{number}]"
    given = _object(raw, where, OUTPUT)
    name = _value(given, "name")
    inside = f"outputs {name!r}" if isinstance(name, str) else where
    return name, _parameters(given, "parameters", (BINARY, CLASSIFICATION), where + ".", inside)


def _same_model(header: Object, model: tuple[str, str] | None) -> None:
    for field, expected in zip(("model_name", "model_version"), model or (), strict=False):
        found = _value(header, field)
        if found not in (None, "", expected):
            raise UsageError(f"{field}: found {short(found)}, expected '{expected}'")


def _decode(raw: bytes | memoryview | msgspec.Raw, kind: Any, what: str, **more: Any) -> Any:
    try:
        return msgspec.json.decode(raw, type=kind, **more)
    except msgspec.ValidationError:
        expected = "a list" if kind == list[msgspec.Raw] else "an object"
        raise UsageError(f"{what}: found {_shown(raw)}, expected {expected}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{what}: found no valid JSON ({error})") from None


def _object(raw: memoryview | msgspec.Raw, what: str, names: Sequence[str]) -> Object:
    """An object's fields, none of them read yet.

    Refuses a name that nobody reads, or that stands there twice, as soon as it is met.
    """
    seen: set[str] = set()

    def name_of(kind: type, text: str) -> _Name:
        known(what, (text,), names)
        if text in seen:
            raise UsageError(f"{what}: found '{text}' twice, expected it once")
        seen.add(text)
        return _Name(text)

    found = _decode(raw, dict[_Name, msgspec.Raw], what, dec_hook=name_of)
    return {name.text: value for name, value in found.items()}


def _inputs(header: Object, wanted: Signature) -> Sequence[msgspec.Raw]:
    """As many inputs as the network has; refuses another number before one is read."""
    raw = header.get("inputs", _NULL)
    if _is_null(raw):
        check_count(0, wanted)
    names = [t.name for t in wanted.inputs]
    kind: Any = tuple[(msgspec.Raw,) * len(names)]  # type: ignore[misc]
    try:
        found: Sequence[msgspec.Raw] = msgspec.json.decode(raw, type=kind)
        return found
    except msgspec.ValidationError:
        start = bytes(memoryview(raw)[:64])
        if start[:1] != b"[":
            raise UsageError(f"inputs: found {_shown(raw)}, expected a list") from None
        number = "none" if start[1:].lstrip()[:1] == b"]" else "several"
        if len(names) > 1:
            number = "none" if number == "none" else "another number"
            expected = f"{len(names)}: {', '.join(names)}"
        else:
            expected = f"one, called '{names[0]}'"
        raise UsageError(f"inputs: found {number}, expected {expected}") from None


def _value(given: Object, name: str) -> Any:
    """A field of any kind; None where it is missing or null."""
    return _decode(_small(given.get(name, _NULL), name), Any, name)


def _list(given: Object, name: str) -> list[msgspec.Raw]:
    raw = _small(given.get(name, _NULL), name)
    if _is_null(raw):
        return []
    found: list[msgspec.Raw] = _decode(raw, list[msgspec.Raw], name)
    return found


def _parameters(
    given: Object, name: str, names: Sequence[str], where: str = "", inside: str | None = None
) -> dict[str, Any]:
    """Values by name. `inside`: what a refusal of one of them calls them all."""
    raw = _small(given.get(name, _NULL), where + name)
    if _is_null(raw):
        return {}
    if bytes(raw)[:1] != b"{":
        raise UsageError(f"{where}{name}: found {_shown(raw)}, expected an object")
    inside = where + name if inside is None else inside
    found = _object(raw, inside, names)
    return {key: _decode(value, Any, f"{inside}.{key}") for key, value in found.items()}


def _small(raw: msgspec.Raw, what: str) -> msgspec.Raw:
    """A field that cannot be long; so nothing that is made of it is."""
    length = memoryview(raw).nbytes
    if length > FIELD_BYTES:
        raise UsageError(
            f"{what}: found {length:,} bytes of JSON, expected at most {FIELD_BYTES:,}"
        )
    return raw


def _is_null(raw: msgspec.Raw) -> bool:
    return bytes(memoryview(raw)[:5]) == b"null"


def _shown(raw: bytes | memoryview | msgspec.Raw) -> str:
    return repr(bytes(memoryview(raw)[:57]).decode(errors="replace"))[1:-1]


def _number(text: str, most: int) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 12 and int(text) <= most):
        raise UsageError(f"{HEADER_LENGTH}: found '{text[:20]}', expected at most {most}")
    return int(text)
