"""The Open Inference Protocol (version 2) as REST and gRPC share it: what is asked, and refusals.

Knows neither JSON nor protobuf nor sockets. Each of the two ways in hands over a `SentRequest`;
what is asked and what is refused is decided here, once. Inputs and outputs are those of the
network's signature (`signature`): pictures as `picture` UINT8 (N, H, W, 3), or BYTES (N) of JPEG
files, and whatever else a network takes; for classes `label` INT64 (N), for all `confidence` FP32
(N) and `exit` INT32 (N, counted from 1). `confidence` of a class also as a classification. (KServe,
"Open Inference Protocol"; Triton, "Binary Tensor Data", "Classification" and "Parameters"
extensions.)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from artefacts import UsageError
from controller.daemon.inference.answering import Wanted
from controller.daemon.inference.samples import Samples, SentTensor, check_count, samples_of
from controller.daemon.inference.signature import CONFIDENCE, Signature
from controller.daemon.inference.tensor_data import short
from models.facts.answers import ClassAnswer

LEAST_DEADLINE_S = 0.003
"""Of a request: so much is kept for the answer's way back, and nothing is answered in less."""
MOST_ANSWER_VALUES = 2**21
"""Of all answers of a request together: as many as cross a link for one."""
LONGEST_ID = 1024
"""Characters of a request's id."""

DEADLINE, TIMEOUT, THRESHOLD = "deadline_ms", "timeout", "threshold"
ASKED = (DEADLINE, TIMEOUT, THRESHOLD)
"""Parameters of a request, in its body or its query: ms, microseconds, a share."""
BINARY_OUTPUT, BINARY, CLASSIFICATION = "binary_data_output", "binary_data", "classification"


@dataclass(frozen=True, slots=True)
class InferRequest:
    """Samples (N, ...), or files that are to be decoded, and how they are to be answered.

    `id` is None where the request has none. `deadline_s` and `threshold` are None where the request
    leaves them to the device. `outputs` are those that are wanted.
    """

    samples: Samples
    id: str | None = None
    deadline_s: float | None = None
    threshold: float | None = None
    outputs: tuple[Wanted, ...] = ()


@dataclass(frozen=True, slots=True)
class Expected:
    """What is served: the network's signature, deadlines."""

    signature: Signature
    longest_deadline_s: float = math.inf


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


def understand(sent: SentRequest, expected: Expected) -> InferRequest:
    """What a request asks for. Raises `UsageError` for the first thing that is not served."""
    check_count(len(sent.inputs), expected.signature)
    known("parameters", sent.parameters, (*ASKED, BINARY_OUTPUT))
    binary = flag(sent.parameters, BINARY_OUTPUT, "parameters")
    numbers = {name: _positive(sent.parameters, name) for name in ASKED}
    deadline_s, threshold = asked_of(numbers, expected)
    samples = samples_of(sent.inputs, expected.signature)
    _check_answers(len(samples), expected.signature)
    return InferRequest(
        samples=samples,
        id=_request_id(sent.id),
        deadline_s=deadline_s,
        threshold=threshold,
        outputs=_wanted(
            sent.outputs, sent.binary if binary is None else binary, expected.signature
        ),
    )


def _check_answers(count: int, given: Signature) -> None:
    """Refuse samples whose answers would be longer together than one may be."""
    if count > 1 and count * given.values > MOST_ANSWER_VALUES:
        raise UsageError(
            f"inputs: found {count} samples, whose answers have {count * given.values:,} values, "
            f"expected at most {MOST_ANSWER_VALUES:,}"
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


def earliest(*deadlines_s: float | None) -> float | None:
    """The first of deadlines of which any may be missing: whoever keeps it keeps all."""
    return min((d for d in deadlines_s if d is not None), default=None)


def known(where: str, found: Iterable[str], names: Sequence[str]) -> None:
    """Refuse names that nobody reads."""
    for name in found:
        if name not in names:
            listed = f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else "".join(names)
            raise UsageError(f"{where}: found {name[:40]!r}, expected {listed or 'none'}")


def flag(found: Mapping[str, Any], name: str, where: str) -> bool | None:
    """A parameter that is true or false; None where it is missing."""
    value = found.get(name)
    if value is not None and not isinstance(value, bool):
        raise UsageError(f"{where}.{name}: found {short(value)}, expected true or false")
    return value


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


def _wanted(
    outputs: Sequence[tuple[Any, Mapping[str, Any]]], usual: bool, given: Signature
) -> tuple[Wanted, ...]:
    found: dict[str, Wanted] = {}
    names = given.outputs
    for name, parameters in outputs:
        if not isinstance(name, str) or name not in names:
            raise UsageError(f"outputs: found {short(name)}, expected {', '.join(names)}")
        if name in found:
            raise UsageError(f"outputs: found '{name}' twice, expected it once")
        where = f"outputs '{name}'"
        known(where, parameters, (BINARY, CLASSIFICATION))
        own = flag(parameters, BINARY, where)
        count = _classes(name, parameters.get(CLASSIFICATION), given)
        found[name] = Wanted(name, usual if own is None else own, count)
    return tuple(found.values()) or tuple(Wanted(name, usual) for name in names)


def _classes(name: str, count: Any, given: Signature) -> int:
    """How many classes a classification asks for (0: none is asked for)."""
    if count is None:
        return 0
    named = isinstance(given.answers, ClassAnswer) and given.classes
    if name != CONFIDENCE or not named:
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
