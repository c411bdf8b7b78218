"""What the daemon's client sends of a sample, and what it reads of an answer: no sockets here.

Whatever an answer holds may come from a server that is none of ours: every field is checked.
"""

from __future__ import annotations

import json
import math
import struct
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from artefacts.errors import CoinferError, UsageError

HEADER_LENGTH = "Inference-Header-Content-Length"
MOST = 1e15
"""Of any number in an answer, but for the network's own values."""
Array = npt.NDArray[Any]
Sample = Array | bytes | str | tuple[str, str] | Sequence[int] | Mapping[str, Array]
T = TypeVar("T")
DATATYPES = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64",
    "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64", "float16": "FP16",
    "float32": "FP32", "float64": "FP64",
}  # fmt: skip
"""The protocol's, by NumPy's names."""
TYPES = {datatype: np.dtype(name) for name, datatype in DATATYPES.items()}
OWN = ("label", "confidence", "exit")
"""Outputs that are fields of an `Inference`."""


class DeviceError(CoinferError):
    """The daemon refused a request, or had no answer in time; `status` is HTTP's (0: not there)."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True, slots=True)
class Inference:
    """One sample's answer: how sure, and which exit gave it (from 1).

    Of a classifier `label` is the class's number and `class_name` what it is called. Other networks
    answer by `outputs`, named arrays of the one sample (texts as lists), and `label` is None.
    """

    label: int | None
    confidence: float
    exit: int
    plan: str
    where: str
    latency_s: float
    class_name: str | None = None
    outputs: Mapping[str, Any] = field(default_factory=dict)
    best_score: float | None = None
    """Of boxes, asked for with a file: the most likely one's, whether it is given or not."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked over HTTP."""

    path: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


def infer_request(sample: Sample, deadline_s: float | None, threshold: float | None) -> Request:
    """A request for one sample's answer. Raises `UsageError` for what is no sample."""
    if deadline_s is not None and not 0.0 < deadline_s < 1e9:
        raise UsageError(f"deadline: found {deadline_s:g} s, expected more than 0 and below 1e9")
    parameters: dict[str, float] = {}
    if deadline_s is not None:
        parameters["deadline_ms"] = 1e3 * deadline_s
    if threshold is not None:
        parameters["threshold"] = threshold
    if isinstance(sample, bytes | bytearray | memoryview):
        data = bytes(sample)
        if not (data[:4] == b"RIFF" and data[8:12] == b"WAVE"):
            query = urllib.parse.urlencode(parameters)
            return Request(f"/infer?{query}", data, {"Content-Type": "image/jpeg"})
        inputs = [("sound", "BYTES", [1], struct.pack("<I", len(data)) + data)]
    elif isinstance(sample, Mapping):
        inputs = [_named(name, array) for name, array in sample.items()]
    else:
        inputs = [_input(sample)]
    listed = [
        {"name": n, "shape": s, "datatype": d, "parameters": {"binary_data_size": len(raw)}}
        for n, d, s, raw in inputs
    ]
    header = json.dumps({"inputs": listed, "parameters": parameters}).encode()
    headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(header))}
    return Request("/infer", header + b"".join(raw for *_, raw in inputs), headers)


_Input = tuple[str, str, list[int], bytes]


def _input(sample: Any) -> _Input:
    """The only input of a network that takes pictures, tokens or sound."""
    texts = [sample] if isinstance(sample, str) else sample
    if isinstance(texts, list | tuple) and texts and all(isinstance(t, str) for t in texts):
        if len(texts) > 2:
            raise UsageError(f"texts: found {len(texts)}, expected one, or a pair")
        elements = [text.encode() for text in texts]
        raw = b"".join(struct.pack("<I", len(e)) + e for e in elements)
        return "tokens", "BYTES", [1, len(elements)], raw
    if isinstance(sample, list | tuple) and sample and all(type(k) is int for k in sample):
        sample = np.array(sample, dtype=np.int64)
    if isinstance(sample, np.ndarray):
        if sample.dtype == np.uint8 and sample.ndim == 3:
            return _named("picture", sample)
        if sample.ndim == 1 and (sample.dtype == np.int16 or sample.dtype.kind == "f"):
            return _named("sound", sample)
        if sample.ndim == 1 and sample.dtype.kind in "iu":
            return _named("tokens", sample)
    found = f"{getattr(sample, 'dtype', type(sample).__name__)} {np.shape(sample)}"[:80]
    raise UsageError(
        f"sample: found {found}, expected a picture as uint8 (H, W, 3) or the bytes of a JPEG "
        "file, a text, token ids, sound as int16 (T,), or a dict of named arrays"
    )


def _named(name: str, array: Any) -> _Input:
    """One tensor of one sample."""
    datatype = DATATYPES.get(str(getattr(array, "dtype", "")))
    if not isinstance(array, np.ndarray | np.generic) or datatype is None:
        found = getattr(array, "dtype", type(array).__name__)
        raise UsageError(f"sample '{name}': found {found}, expected an array of numbers")
    raw = np.ascontiguousarray(array, dtype=TYPES[datatype].newbyteorder("<")).tobytes()
    return name, datatype, [1, *array.shape], raw


# -- answers -------------------------------------------------------------------------------------


def read_object(status: int, body: bytes) -> dict[str, Any]:
    """An answer that is a JSON object; a refusal becomes its error."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise DeviceError(status, f"found no JSON in the answer ({body[:60]!r})") from None
    if not isinstance(found, dict):
        raise unexpected(status, body, "a JSON object")
    if status != 200:
        raise DeviceError(status, str(found.get("error", f"status {status}"))[:500])
    return found


def unexpected(status: int, body: bytes, expected: str) -> DeviceError:
    """An answer that is none."""
    return DeviceError(status, f"found {body[:60]!r} in the answer, expected {expected}")


def read_inference(status: int, body: bytes) -> Inference:
    """One sample's answer. Raises `DeviceError` for a refusal, and for what is no answer."""
    found = read_object(status, body)
    try:
        outputs: dict[str, Any] = {}
        if "outputs" in found and isinstance(found["outputs"], list):
            outputs = {_typed(str, o["name"]): _array(o) for o in found["outputs"]}
            own = {name: outputs.pop(name)[0].item() for name in OWN if _one_value(outputs, name)}
            outputs = {name: values[0] for name, values in outputs.items()}
            found = own | found["parameters"]
        else:
            outputs = _of_file(found)
        label, name, best = found.get("label"), found.get("class"), found.get("best_score")
        if label is None and not outputs:
            raise KeyError("label")
        return Inference(
            None if label is None else whole(label),
            number(found["confidence"]),
            whole(found["exit"]),
            _typed(str, found["plan"]),
            _typed(str, found["where"]),
            number(found["latency_ms"]) / 1e3,
            None if name is None else _typed(str, name),
            outputs,
            _measured(best),
        )
    except (TypeError, KeyError, IndexError, ValueError, AttributeError, OverflowError):
        expected = "label, confidence, exit, plan, where and latency_ms"
        raise unexpected(status, body, expected) from None


def _array(output: Mapping[str, Any]) -> Any:
    """An output (1, ...); of BYTES, a list of one list of texts."""
    shape, data, datatype = output["shape"], output["data"], output["datatype"]
    if type(shape) is not list or type(data) is not list or len(shape) > 32:
        raise ValueError(shape)
    if any(type(n) is not int or n < 0 for n in shape) or math.prod(shape) != len(data):
        raise ValueError(shape)
    if not shape or shape[0] != 1:  # one sample was asked of
        raise ValueError(shape)
    if datatype == "BYTES":
        if not all(type(text) is str for text in data):
            raise ValueError(datatype)
        return [data]
    kind = TYPES[datatype]
    if not all(type(value) in (int, float, bool) for value in data):
        raise ValueError(datatype)
    return np.array(data, dtype=kind).reshape(shape)


def _one_value(outputs: Mapping[str, Any], name: str) -> bool:
    """Whether an output has one value a sample: a network's own may be called as ours are."""
    return name in outputs and isinstance(outputs[name], np.ndarray) and outputs[name].ndim == 1


def _of_file(found: Mapping[str, Any]) -> dict[str, Any]:
    """The outputs of a file's short answer, as arrays."""
    if "detections" in found:
        seen = _typed(list, found["detections"])
        boxes = [[float(x) for x in one["box"]] for one in seen]
        return _scored(seen) | {"boxes": np.array(boxes, dtype=np.float32).reshape(-1, 4)}
    if "labels" in found:
        return _scored(_typed(list, found["labels"]))
    named = _typed(dict, found.get("outputs", {}))
    return {_typed(str, name): np.array(values, dtype=float) for name, values in named.items()}


def _scored(seen: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "labels": np.array([whole(one["label"]) for one in seen], dtype=np.int64),
        "scores": np.array([number(one["score"]) for one in seen], dtype=np.float32),
    }
    names = [one.get("class") for one in seen]
    if all(name is not None for name in names):
        found["names"] = [_typed(str, name) for name in names]
    return found


def read_state(status: int, body: bytes) -> dict[str, Any]:
    """What `/live/state` gave, every field that is shown checked."""
    found = read_object(status, body)
    try:
        for name in ("model", "controller", "edge"):
            _typed(str, found[name])
        for name in ("connected", "breaker_open"):
            _typed(bool, found[name])
        for name in ("frames", "answered", "late", "refused"):
            whole(found[name])
        number(found["deadline_ms"])
        _measured(found["rtt_ms"])
        _measured(found.get("policy_fallback_share"))  # older daemons send none
        for second in found["seconds"]:
            whole(second["frames"])
            for name in ("p95_ms", "bandwidth_mbps"):
                _measured(second[name])
            for name in ("exits", "plans"):
                for count in second[name].values():
                    whole(count)
    except (TypeError, KeyError, ValueError, AttributeError):
        raise unexpected(status, body, "the state of a device") from None
    return found


def number(found: Any) -> float:
    """A number of an answer; refuses what is none by `ValueError`."""
    if type(found) not in (int, float) or not 0 <= found <= MOST:
        raise ValueError(found)
    return float(found)


def _measured(found: Any) -> float | None:
    return None if found is None else number(found)


def whole(found: Any) -> int:
    """A whole number of an answer; refuses what is none by `ValueError`."""
    return int(number(_typed(int, found)))


def _typed(kind: type[T], found: Any) -> T:
    if type(found) is not kind:  # true is an int too
        raise ValueError(found)
    return found
