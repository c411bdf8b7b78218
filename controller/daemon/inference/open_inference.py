"""The Open Inference Protocol (version 2) as REST and gRPC share it: requests, answers, refusals.

Knows neither JSON nor protobuf nor sockets. Each of the two ways in hands over a `SentRequest`;
what is asked and what is refused is decided here, once. One input, `picture`: UINT8 (N, H, W, 3),
or BYTES (N) of JPEG files. Outputs: `label` INT64 (N), `confidence` FP32 (N), `exit` INT32 (N,
counted from 1); `confidence` also as a classification. (KServe, "Open Inference Protocol"; Triton,
"Binary Tensor Data", "Classification" and "Parameters" extensions.)
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from artefacts import UsageError
from controller.daemon.inference.pictures import JpegFiles, Pictures

INPUT, OUTPUTS = "picture", {"label": "INT64", "confidence": "FP32", "exit": "INT32"}
DTYPES: dict[str, np.dtype[Any]] = {
    "INT64": np.dtype("<i8"),
    "FP32": np.dtype("<f4"),
    "INT32": np.dtype("<i4"),
}
DATATYPES = (
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16",
    "FP32", "FP64", "BF16", "BYTES",
)  # fmt: skip
"""Every datatype that the protocol names."""
TAKEN = "UINT8 (N, H, W, 3) or BYTES (N)"
EXTENSIONS = ("binary_tensor_data", "parameters")
PLATFORM = "onnx_onnxv1"
VERSION = "1"
MOST_PICTURES = 16
LEAST_DEADLINE_S = 0.003
"""Of a request: so much is kept for the answer's way back, and nothing is answered in less."""
LONGEST_ID = 1024
"""Characters of a request's id."""

DEADLINE, TIMEOUT, THRESHOLD = "deadline_ms", "timeout", "threshold"
ASKED = (DEADLINE, TIMEOUT, THRESHOLD)
"""Parameters of a request, in its body or its query: ms, microseconds, a share."""
BINARY_OUTPUT, BINARY, CLASSIFICATION = "binary_data_output", "binary_data", "classification"


@dataclass(frozen=True, slots=True)
class Wanted:
    """One output of an answer: as raw bytes or not; `classes` above 0: as a classification."""

    name: str
    binary: bool = False
    classes: int = 0


@dataclass(frozen=True, slots=True)
class InferRequest:
    """Pictures (N, H, W, 3) or files that are to be decoded, and how they are to be answered.

    `id` is None where the request has none. `deadline_s` and `threshold` are None where the request
    leaves them to the device.
    """

    pictures: Pictures | JpegFiles
    id: str | None = None
    deadline_s: float | None = None
    threshold: float | None = None
    outputs: tuple[Wanted, ...] = tuple(Wanted(name) for name in OUTPUTS)


@dataclass(frozen=True, slots=True)
class Answer:
    """One picture's answer; `exit` is 0-based."""

    label: int
    confidence: float
    exit: int
    plan: str
    where: str
    latency_s: float


@dataclass(frozen=True, slots=True)
class Expected:
    """What is served: (height, width), classes' names, deadlines."""

    size: tuple[int, int]
    classes: tuple[str, ...] = ()
    longest_deadline_s: float = math.inf


class TensorData(Protocol):
    """A tensor's contents in whatever form they came. Both refuse by `UsageError`."""

    def numbers(self, shape: Sequence[int]) -> Pictures:
        """As UINT8 of `shape`."""

    def elements(self, count: int) -> Sequence[bytes]:
        """As `count` elements of BYTES."""


@dataclass(frozen=True, slots=True)
class SentTensor:
    """An input as it came: nothing of it is checked yet."""

    name: Any
    datatype: Any
    shape: Any
    data: TensorData


@dataclass(frozen=True, slots=True)
class SentRequest:
    """A request as it came. `outputs` are (name, parameters); every value may be of any kind.

    `binary`: outputs are given as raw bytes where the parameters say nothing of it.
    """

    inputs: Sequence[SentTensor]
    id: Any = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    outputs: Sequence[tuple[Any, Mapping[str, Any]]] = ()
    binary: bool = False


@dataclass(frozen=True, slots=True)
class OutputTensor:
    """One output of an answer, its values in row-major order."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: list[Any]

    def raw(self) -> bytes:
        """Little-endian, or BYTES elements behind their lengths."""
        if self.datatype != "BYTES":
            return np.array(self.values, dtype=DTYPES[self.datatype]).tobytes()
        return b"".join(struct.pack("<I", len(v)) + v for v in self.values)


class RawData:
    """Contents as the protocol's raw bytes."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def numbers(self, shape: Sequence[int]) -> Pictures:
        """One byte a value."""
        if len(self._raw) != math.prod(shape):
            raise UsageError(
                f"inputs[0]: found {len(self._raw)} bytes, expected {math.prod(shape)}"
            )
        return np.frombuffer(self._raw, dtype=np.uint8).reshape(tuple(shape))

    def elements(self, count: int) -> list[bytes]:
        """Every element is its length (4 bytes, little-endian) and itself."""
        raw, found, at = self._raw, [], 0
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


def understand(sent: SentRequest, expected: Expected) -> InferRequest:
    """What a request asks for. Raises `UsageError` for the first thing that is not served."""
    one_input(len(sent.inputs))
    known("parameters", sent.parameters, (*ASKED, BINARY_OUTPUT))
    binary = flag(sent.parameters, BINARY_OUTPUT, "parameters")
    numbers = {name: _positive(sent.parameters, name) for name in ASKED}
    deadline_s, threshold = asked_of(numbers, expected)
    return InferRequest(
        pictures=_pictures(sent.inputs[0], expected),
        id=_request_id(sent.id),
        deadline_s=deadline_s,
        threshold=threshold,
        outputs=_wanted(sent.outputs, sent.binary if binary is None else binary, expected.classes),
    )


def asked_of(
    numbers: Mapping[str, float | None], expected: Expected
) -> tuple[float | None, float | None]:
    """The deadline in seconds and the threshold that parameters ask for; each may be missing."""
    longest_s, found = expected.longest_deadline_s, []
    for name, per_second in ((DEADLINE, 1e3), (TIMEOUT, 1e6)):
        number = numbers.get(name)
        if number is not None and number / per_second > longest_s:
            raise UsageError(
                f"{name}: found {number / per_second:g} s, expected at most {longest_s:g} s"
            )
        if number is not None and number / per_second < LEAST_DEADLINE_S:
            raise UsageError(
                f"{name}: found {number / per_second:g} s, expected at least {LEAST_DEADLINE_S:g} s"
            )
        found.append(None if number is None else number / per_second)
    threshold = numbers.get(THRESHOLD)
    if threshold is not None and threshold > 1.0:
        raise UsageError(f"threshold: found {threshold:g}, expected at most 1")
    return earliest(*found), threshold


def one_input(count: int) -> None:
    """Refuse requests of several inputs, or of none."""
    if count != 1:
        raise UsageError(f"inputs: found {count}, expected one, called '{INPUT}'")


def earliest(*deadlines_s: float | None) -> float | None:
    """The first of deadlines of which any may be missing: whoever keeps it keeps all."""
    return min((d for d in deadlines_s if d is not None), default=None)


def outputs_of(
    asked: InferRequest, answers: Sequence[Answer], classes: Sequence[str]
) -> list[OutputTensor]:
    """The outputs that a request wants."""
    columns: dict[str, list[Any]] = {
        "label": [a.label for a in answers],
        "confidence": [a.confidence for a in answers],
        "exit": [a.exit + 1 for a in answers],
    }
    found = []
    for one in asked.outputs:
        if one.classes:
            named = [f"{a.confidence:.6f}:{a.label}:{classes[a.label]}".encode() for a in answers]
            found.append(OutputTensor(one.name, "BYTES", (len(answers), 1), named))
        else:
            values = columns[one.name]
            found.append(OutputTensor(one.name, OUTPUTS[one.name], (len(answers),), values))
    return found


def answer_parameters(answers: Sequence[Answer], classes: Sequence[str] = ()) -> dict[str, Any]:
    """What else is said of an answer: the first picture's class and plan, the latest one's latency.

    `classes` are the classes' names, by their numbers.
    """
    named = {"class": classes[answers[0].label]} if classes else {}
    return named | {
        "plan": answers[0].plan,
        "where": answers[0].where,
        "latency_ms": round(1e3 * max(a.latency_s for a in answers), 3),
    }


def metadata(model: str, size: tuple[int, int]) -> dict[str, Any]:
    """A model's metadata."""
    return {
        "name": model,
        "versions": [VERSION],
        "platform": PLATFORM,
        "inputs": [{"name": INPUT, "datatype": "UINT8", "shape": [-1, *size, 3]}],
        "outputs": [{"name": n, "datatype": d, "shape": [-1]} for n, d in OUTPUTS.items()],
    }


def model_config(model: str, size: tuple[int, int]) -> dict[str, Any]:
    """A model's configuration, in Triton's words (its `ModelConfig` as JSON).

    Dimensions leave out the pictures' number; an answer has one value a picture.
    """
    taken = {"name": INPUT, "data_type": "TYPE_UINT8", "dims": [*size, 3]}
    given = [
        {"name": n, "data_type": f"TYPE_{d}", "dims": [1], "reshape": {"shape": []}}
        for n, d in OUTPUTS.items()
    ]
    return {
        "name": model,
        "platform": PLATFORM,
        "max_batch_size": MOST_PICTURES,
        "input": [taken],
        "output": given,
    }


def known(where: str, found: Iterable[str], names: Sequence[str]) -> None:
    """Refuse names that nobody reads."""
    for name in found:
        if name not in names:
            listed = f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else "".join(names)
            raise UsageError(f"{where}: found '{name[:40]}', expected {listed or 'none'}")


def flag(found: Mapping[str, Any], name: str, where: str) -> bool | None:
    """A parameter that is true or false; None where it is missing."""
    value = found.get(name)
    if value is not None and not isinstance(value, bool):
        raise UsageError(f"{where}.{name}: found {short(value)}, expected true or false")
    return value


def short(value: Any) -> str:
    """A value of any kind for one line."""
    if isinstance(value, list | str | bytes):
        value = value[:60]  # what is left out of the line is not made for it either
    return repr(value)[:60]


def _request_id(found: Any) -> str | None:
    if found is None:
        return None
    if not isinstance(found, str):
        raise UsageError(f"id: found {short(found)}, expected text")
    if len(found) > LONGEST_ID:
        raise UsageError(
            f"id: found {len(found)} characters, expected at most {LONGEST_ID} ({short(found)})"
        )
    return found


def _pictures(given: SentTensor, expected: Expected) -> Pictures | JpegFiles:
    shape, datatype = given.shape, given.datatype
    if given.name != INPUT:
        raise UsageError(f"inputs[0].name: found {short(given.name)}, expected '{INPUT}'")
    if datatype not in DATATYPES:
        raise UsageError(
            f"inputs[0].datatype: found {short(datatype)}, which is no datatype of the protocol, "
            f"expected {TAKEN}"
        )
    if datatype not in ("UINT8", "BYTES"):
        raise UsageError(f"inputs[0].datatype: found {datatype}, expected {TAKEN}")
    whole = isinstance(shape, list) and bool(shape) and all(type(n) is int and n > 0 for n in shape)
    if not whole or not 1 <= shape[0] <= MOST_PICTURES:
        raise UsageError(
            f"inputs[0].shape: found {short(shape)}, expected 1 to {MOST_PICTURES} pictures first"
        )
    if datatype == "UINT8":
        height, width = expected.size
        if tuple(shape[1:]) != (height, width, 3):
            raise UsageError(
                f"inputs[0].shape: found {short(shape)}, expected (N, {height}, {width}, 3)"
            )
        return given.data.numbers(shape)
    if shape[1:] not in ([], [1]):
        raise UsageError(f"inputs[0].shape: found {short(shape)}, expected (N) for BYTES")
    return JpegFiles(tuple(given.data.elements(shape[0])))


def _wanted(
    outputs: Sequence[tuple[Any, Mapping[str, Any]]], usual: bool, classes: Sequence[str]
) -> tuple[Wanted, ...]:
    found: dict[str, Wanted] = {}
    for name, parameters in outputs:
        if not isinstance(name, str) or name not in OUTPUTS:
            raise UsageError(f"outputs: found {short(name)}, expected {', '.join(OUTPUTS)}")
        if name in found:
            raise UsageError(f"outputs: found '{name}' twice, expected it once")
        where = f"outputs '{name}'"
        known(where, parameters, (BINARY, CLASSIFICATION))
        own = flag(parameters, BINARY, where)
        count = _classes(name, parameters.get(CLASSIFICATION), bool(classes))
        found[name] = Wanted(name, usual if own is None else own, count)
    return tuple(found.values()) or tuple(Wanted(name, usual) for name in OUTPUTS)


def _classes(name: str, count: Any, named: bool) -> int:
    """How many classes a classification asks for (0: none is asked for)."""
    if count is None:
        return 0
    if name != "confidence" or not named:
        raise UsageError(
            f"outputs '{name}'.{CLASSIFICATION}: found {short(count)}, expected none (it is served "
            "for 'confidence')"
        )
    if type(count) is not int or count != 1:
        raise UsageError(
            f"outputs '{name}'.{CLASSIFICATION}: found {short(count)}, expected 1: an answer has "
            "its most likely class alone"
        )
    return count


def _positive(parameters: Mapping[str, Any], name: str) -> float | None:
    value = parameters.get(name)
    if value is None:
        return None
    try:
        number = float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        number = math.nan
    if isinstance(value, bool) or not 0 < number < math.inf:
        raise UsageError(f"parameters.{name}: found {short(value)}, expected a number above 0")
    return number
