"""The Open Inference Protocol, version 2, over REST, with the binary tensor extension.

Bytes in, requests out; answers in, bytes out: no sockets here. What a request may ask is decided in
`inference.open_inference`, which gRPC shares; here is what JSON and its binary tail are.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np

from artefacts import UsageError
from controller.daemon.http.browsers import JPEG
from controller.daemon.inference.open_inference import (
    ASKED,
    BINARY,
    BINARY_OUTPUT,
    CLASSIFICATION,
    INPUT,
    MOST_PICTURES,
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
from controller.daemon.inference.pictures import Pictures, file_kind

HEADER_LENGTH = "Inference-Header-Content-Length"
REQUEST = ("id", "parameters", "inputs", "outputs", "model_name", "model_version")
TENSOR = ("name", "shape", "datatype", "parameters", "data")
OUTPUT = ("name", "parameters")
BINARY_SIZE = "binary_data_size"

FIELD_BYTES = 16_384
"""Of JSON that a field beside a tensor's data may have."""
VALUE_BYTES = 64
"""Of JSON for each value of data: its own line and a share of its lists', all of them indented."""
PART_BYTES = 65_536
"""So much is read of data before others have their turn at the interpreter."""

Object = dict[str, msgspec.Raw]
_Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]
_NULL = msgspec.Raw(b"null")


class _Name:
    """A field's name. No two are equal: so an object keeps a name that stands in it twice."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class JsonData:
    """Contents as JSON: numbers, flat or nested as the shape is."""

    def __init__(self, text: msgspec.Raw) -> None:
        self._text = text

    def numbers(self, shape: Sequence[int]) -> Pictures:
        """Checked against the shape before anything is made of them, and read by the type alone."""
        count, text = math.prod(shape), bytes(self._text)
        # as many commas as there are values less one, however they are nested
        if len(text) > count * VALUE_BYTES or text.count(b",") != count - 1:
            raise _no_numbers(count, "another number of them")
        inner = text[1:].lstrip()[:1]
        try:
            read = _nested if text[:1] == inner == b"[" else _flat
            found = read(text, shape)
        except msgspec.ValidationError as error:
            raise _no_numbers(count, str(error).replace("`", "'")) from None
        except msgspec.DecodeError as error:
            raise _no_numbers(count, str(error)) from None
        return found.reshape(tuple(shape))

    def elements(self, count: int) -> list[bytes]:
        """Refused: a file is no text."""
        raise UsageError("inputs[0]: found BYTES as JSON, expected JPEG files as binary data")


def _flat(text: bytes, shape: Sequence[int]) -> Pictures:
    """One list. It is read in parts that end with a comma: each is a list of its own."""
    if not (text.startswith(b"[") and text.endswith(b"]")):
        msgspec.json.decode(text, type=list[_Byte])  # says what it is instead
        raise msgspec.DecodeError("it is no list")
    found, at, last = bytearray(), 1, len(text) - 1
    while at < last:
        stop = text.find(b",", at + PART_BYTES, last)
        stop = last if stop < 0 else stop
        found += bytes(msgspec.json.decode(b"[%b]" % text[at:stop], type=list[_Byte]))
        at = stop + 1
    if len(found) != math.prod(shape):
        raise msgspec.DecodeError(f"{len(found)} of them")
    return np.frombuffer(bytes(found), dtype=np.uint8)


def _nested(text: bytes, shape: Sequence[int]) -> Pictures:
    """Lists as deep as the shape, each as long as it says; one picture at a time."""
    # of a fixed length where a list could be empty, or go on for ever
    kind: Any = tuple[(_Byte,) * shape[-1]]  # type: ignore[misc]
    for _ in shape[1:-1]:
        kind = list[kind]
    pictures: Any = tuple[(msgspec.Raw,) * shape[0]]  # type: ignore[misc]
    whole = msgspec.json.decode(text, type=pictures)
    try:
        found = [np.array(msgspec.json.decode(one, type=kind), dtype=np.uint8) for one in whole]
    except msgspec.ValidationError:
        raise
    except ValueError:
        raise msgspec.DecodeError("rows of different lengths") from None
    for one in found:
        if one.shape != tuple(shape[1:]):
            raise msgspec.DecodeError(f"the shape {[len(found), *one.shape]}")
    return np.stack(found)


def _no_numbers(count: int, found: str) -> UsageError:
    return UsageError(
        f"inputs[0].data: found no {count} whole numbers from 0 to 255 ({found[:120]}), expected "
        "one a value"
    )


def most_json_bytes(expected: Expected) -> int:
    """How much JSON the largest request has that can be served."""
    height, width = expected.size
    return MOST_PICTURES * height * width * 3 * VALUE_BYTES + len(REQUEST) * FIELD_BYTES


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
        raise UsageError(f"infer request: found {kind}, expected JSON, or a JPEG file as {JPEG}")
    most = most_json_bytes(expected)
    if length > most:
        raise UsageError(
            f"infer request: found {length:,} bytes of JSON, expected at most {most:,}"
        )
    header = _object(memoryview(body)[:length], "infer request", REQUEST)
    _same_model(header, model)
    sent = SentRequest(
        inputs=[_tensor(_one(header), body[length:])],
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
    header["parameters"] = answer_parameters(answers, classes)
    head = json.dumps(header).encode()
    return head + tail, len(head) if tail else None


def _tensor(raw: msgspec.Raw, tail: bytes) -> SentTensor:
    given = _object(raw, "inputs[0]", TENSOR)
    parameters = _parameters(given, "parameters", (BINARY_SIZE,), "inputs[0].")
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
    elif not _is_null(listed):
        raise UsageError("inputs[0]: found data as JSON and as bytes, expected one of them")
    else:
        data = RawData(tail)
    return SentTensor(
        _value(given, "name"), _value(given, "datatype"), _value(given, "shape"), data
    )


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


def _one(header: Object) -> msgspec.Raw:
    """The only input; refuses several before the second is read."""
    raw = header.get("inputs", _NULL)
    if _is_null(raw):
        one_input(0)
    try:
        (found,) = msgspec.json.decode(raw, type=tuple[msgspec.Raw])
        return found
    except msgspec.ValidationError:
        start = bytes(memoryview(raw)[:64])
        if start[:1] != b"[":
            raise UsageError(f"inputs: found {_shown(raw)}, expected a list") from None
        number = "none" if start[1:].lstrip()[:1] == b"]" else "several"
        raise UsageError(f"inputs: found {number}, expected one, called '{INPUT}'") from None


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
