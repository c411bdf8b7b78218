"""The Open Inference Protocol's messages over gRPC: bytes in, requests out; answers in, bytes out.

No sockets here. What a request may ask is decided in `inference.open_inference`, which REST
shares. The messages' descriptors lie in a pool of their own, so that another library with messages
of the same names may live in the process. Needs protobuf (extra `grpc`).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from artefacts import UsageError
from controller.daemon.grpc.typed_data import FIELDS, TypedData
from controller.daemon.inference.answering import (
    Answer,
    OutputTensor,
    answer_parameters,
    outputs_of,
)
from controller.daemon.inference.open_inference import (
    Expected,
    InferRequest,
    SentRequest,
    known,
    understand,
)
from controller.daemon.inference.samples import SentTensor, check_count
from controller.daemon.inference.signature import MOST_SAMPLES, Signature
from controller.daemon.inference.tensor_data import RawData, TensorData, short

DESCRIPTORS = Path(__file__).with_name("open_inference.binpb")
"""Compiled from `open_inference.proto` by `python -m controller.daemon.grpc.build`."""
PACKAGE = "inference"
BINARY_SIZE = "binary_data_size"
INPUTS_FIELD, CONTENTS_FIELD, RAW_FIELD = 5, 5, 7
"""Numbers of a request's inputs and raw contents, and of an input's contents."""
MOST_FIELDS = 1024
"""Of a request and its inputs in all, each repetition counted: 16 pictures are far fewer."""
FIELD_BYTES, BESIDE_BYTES = 16_384, 65_536
"""Of a field beside a tensor's data, and of all of them."""
BYTES_CONTENTS = 8
"""The number of the field of contents whose elements are of any length."""
LONGEST_VALUE = 10
"""Bytes that a packed value has at most."""


@functools.cache
def _pool() -> Any:
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file:
        pool.Add(file)
    return pool


@functools.cache
def message_class(name: str) -> Any:
    """The class of a message, as `ModelInferRequest`."""
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{PACKAGE}.{name}"))


def make(name: str, /, **fields: Any) -> bytes:
    """A message of these fields, serialised."""
    made: bytes = message_class(name)(**fields).SerializeToString()
    return made


def read(name: str, data: bytes) -> Any:
    """A message. Raises `UsageError` for bytes that are none."""
    try:
        return message_class(name).FromString(data)
    except message.DecodeError:
        raise UsageError(f"{name}: found {len(data)} bytes that are no such message") from None


def check_bounds(data: bytes, most_values: int | None = None) -> None:
    """Refuse a request of very many fields by `UsageError`, before any of them is made.

    Two bytes of a message can become an object of a hundred. Only tensors may be long, and of
    their values only what is packed, or a file each: of values those of `most_values` (None: any).
    """
    room = _Room()
    for number, start, stop in _fields(data, 0, len(data), "request", room):
        if number == INPUTS_FIELD:
            for inner, begin, end in _fields(data, start, stop, "inputs[0]", room):
                if inner == CONTENTS_FIELD:
                    for kind, low, high in _fields(data, begin, end, "inputs[0].contents", room):
                        if kind != BYTES_CONTENTS:
                            room.take_values(high - low, most_values)
                else:
                    room.take(end - begin, "inputs[0]")
        elif number != RAW_FIELD:
            room.take(stop - start, "request")


class _Room:
    """What a request may still hold."""

    def __init__(self) -> None:
        self.fields, self._beside, self._values = MOST_FIELDS, BESIDE_BYTES, 0

    def take_values(self, length: int, most: int | None) -> None:
        """Packed values: as long as as many of them could be, and no longer."""
        self._values += length
        if most is not None and self._values > LONGEST_VALUE * most:
            raise UsageError(
                f"inputs[0].contents: found {self._values:,} bytes of values, expected at most "
                f"{most:,} values"
            )

    def take(self, length: int, where: str) -> None:
        """A field beside data."""
        self._beside -= length
        if length > FIELD_BYTES:
            raise UsageError(
                f"{where}: found a field of {length:,} bytes, expected at most {FIELD_BYTES:,} "
                "beside data"
            )
        if self._beside < 0:
            raise UsageError(
                f"{where}: found fields of more than {BESIDE_BYTES:,} bytes in all beside data"
            )


def _fields(
    data: bytes, at: int, end: int, where: str, room: _Room
) -> Iterator[tuple[int, int, int]]:
    """(number, start, stop) of every field's value (Protocol Buffers, "Encoding")."""
    while at < end:
        room.fields -= 1
        if room.fields < 0:
            raise UsageError(f"{where}: found more than {MOST_FIELDS} fields, expected fewer")
        tag, at = _varint(data, at, end)
        kind, length = tag & 7, 0
        if kind == 2:
            length, at = _varint(data, at, end)
        elif kind == 0:
            _, stop = _varint(data, at, end)
            length = stop - at
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:  # groups, of which these messages have none
            raise UsageError(f"{where}: found bytes that are no such message")
        if at + length > end:
            raise UsageError(f"{where}: found bytes that are no such message")
        yield tag >> 3, at, at + length
        at += length


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """A number, and where the next one begins."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise UsageError("request: found bytes that are no such message")


def most_values(expected: Expected) -> int:
    """How many values the largest request has that can be served."""
    return MOST_SAMPLES * expected.signature.input_values


def parse_infer(sent: Any, expected: Expected) -> InferRequest:
    """A `ModelInferRequest`; refuses what is malformed, unknown or not served by `UsageError`."""
    check_count(len(sent.inputs), expected.signature)
    raw = sent.raw_input_contents
    if raw:
        _check_raw(sent.inputs, len(raw))
    request = SentRequest(
        inputs=[_tensor(g, raw, k) for k, g in enumerate(sent.inputs)],
        id=sent.id or None,
        parameters=_parameters(sent.parameters),
        outputs=[(o.name, _parameters(o.parameters)) for o in sent.outputs],
        binary=bool(raw),
    )
    asked = understand(request, expected)
    if len({wanted.binary for wanted in asked.outputs}) > 1:
        raise UsageError("outputs: found raw and typed ones, expected all of them alike over gRPC")
    return asked


def _check_raw(inputs: Sequence[Any], count: int) -> None:
    """Refuse `count` raw contents that are not one an input, or that stand beside typed ones."""
    for number, given in enumerate(inputs):
        if given.HasField("contents"):
            raise UsageError(
                f"inputs[{number}]: found contents and raw_input_contents, expected one of them"
            )
    if count != len(inputs):
        raise UsageError(f"raw_input_contents: found {count}, expected one an input")


def _tensor(given: Any, raws: Sequence[bytes], number: int) -> SentTensor:
    where, parameters = f"inputs[{number}]", _parameters(given.parameters)
    known(f"{where}.parameters", parameters, (BINARY_SIZE,))
    data: TensorData = TypedData(given.contents, where)
    if raws:
        data = RawData(raws[number], where)
    size = parameters.get(BINARY_SIZE)
    if size is not None and (not raws or size != len(raws[number])):
        raise UsageError(
            f"{where}.parameters.{BINARY_SIZE}: found {short(size)}, expected the size of "
            "raw_input_contents"
        )
    return SentTensor(given.name, given.datatype, list(given.shape), data)


def build_answer(
    model: str,
    version: str,
    asked: InferRequest,
    answers: Sequence[Answer],
    given: Signature,
) -> bytes:
    """A `ModelInferResponse`, serialised. Its outputs are raw or typed as the request wants, raw
    where one is of a datatype that has no typed contents (FP16).

    `model` and `version` are repeated, `given` says what the answers are.
    """
    tensors = outputs_of(asked.outputs, answers, given)
    raw = asked.outputs[0].binary or any(t.datatype not in FIELDS for t in tensors)
    return make(
        "ModelInferResponse",
        model_name=model,
        model_version=version,
        id=asked.id or "",
        parameters={name: _parameter(v) for name, v in answer_parameters(answers, given).items()},
        outputs=[_output(tensor, raw) for tensor in tensors],
        raw_output_contents=[tensor.raw() for tensor in tensors] if raw else [],
    )


def _output(tensor: OutputTensor, raw: bool) -> dict[str, Any]:
    made: dict[str, Any] = {
        "name": tensor.name,
        "datatype": tensor.datatype,
        "shape": tensor.shape,
    }
    if not raw:
        made["contents"] = {FIELDS[tensor.datatype]: tensor.flat()}
    return made


def _parameter(value: str | float) -> dict[str, Any]:
    return {"string_param": value} if isinstance(value, str) else {"double_param": value}


def _parameters(found: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as Python's values; one without a value is refused."""
    values: dict[str, Any] = {}
    for name, parameter in found.items():
        kind = parameter.WhichOneof("parameter_choice")
        if kind is None:
            raise UsageError(f"parameters.{name[:40]!r}: found no value, expected one")
        values[name] = getattr(parameter, kind)
    return values
