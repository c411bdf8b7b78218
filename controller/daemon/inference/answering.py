"""What is given of answers: the protocol's outputs, and a short JSON object for a single file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from artefacts.arrays import Float32s
from controller.daemon.inference.signature import (
    CONFIDENCE,
    EXIT,
    Signature,
    output_name,
    says_confidence,
)
from controller.daemon.inference.tensor_data import BYTES, DTYPES, Values, packed_elements
from models.facts.answers import BoxesAnswer, ClassAnswer, Detections, LabelsAnswer, unpacked
from models.facts.picture_fit import Placement

NO_LABEL = -1
"""Of a box that is not there: a request's samples have as many rows as the one of most boxes."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One output of an answer: as raw bytes or not; `classes` above 0: as a classification."""

    name: str
    binary: bool = False
    classes: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """One sample's answer; `exit` is 0-based.

    Of what is no class `label` is None, and `values` is the exit's row (V,). `place` is where the
    picture that was sent lies in the one that the network saw (None: all of it everywhere).
    """

    label: int | None
    confidence: float
    exit: int
    plan: str
    where: str
    latency_s: float
    values: Float32s | None = None
    place: Placement | None = None


@dataclass(frozen=True, slots=True)
class OutputTensor:
    """One output of an answer: numbers in any nesting, or elements of BYTES row by row."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: list[Any] | Values

    def flat(self) -> list[Any]:
        """Its values row by row."""
        return self.values if isinstance(self.values, list) else self.values.ravel().tolist()

    def raw(self) -> bytes:
        """Little-endian, or BYTES elements behind their lengths."""
        if self.datatype == BYTES:
            return packed_elements(self.flat())
        return np.asarray(self.values, dtype=DTYPES[self.datatype]).tobytes()


def outputs_of(
    wanted: Sequence[Wanted], answers: Sequence[Answer], given: Signature
) -> list[OutputTensor]:
    """The outputs that a request wants of its answers, one row a sample."""
    every, found = _columns(answers, given), []
    for one in wanted:
        if one.classes:
            named = [_classification(answer, given) for answer in answers]
            found.append(OutputTensor(one.name, BYTES, (len(answers), 1), named))
        else:
            found.append(every[one.name])
    return found


def answer_parameters(answers: Sequence[Answer], given: Signature) -> dict[str, Any]:
    """What else is said of an answer: the first sample's plan and class, the latest's latency."""
    named = None if answers[0].label is None else given.class_name(answers[0].label)
    return {
        "plan": answers[0].plan,
        "where": answers[0].where,
        "latency_ms": round(1e3 * max(a.latency_s for a in answers), 3),
    } | ({} if named is None else {"class": named})


def short_answer(answer: Answer, given: Signature) -> dict[str, Any]:
    """One sample's answer as an object for JSON."""
    return _short(answer, given) | {
        CONFIDENCE: answer.confidence,
        EXIT: answer.exit + 1,
        "plan": answer.plan,
        "where": answer.where,
        "latency_ms": round(1e3 * answer.latency_s, 3),
    }


def _short(answer: Answer, given: Signature) -> dict[str, Any]:
    kind = given.answers
    if isinstance(kind, ClassAnswer):
        assert answer.label is not None
        return {"label": answer.label, "class": given.class_name(answer.label)}
    row = _row(answer)
    if isinstance(kind, LabelsAnswer):
        scores = kind.probabilities(row[None])[0]
        chosen = np.flatnonzero(kind.chosen(row[None])[0]).tolist()
        return {"labels": [_named(k, float(scores[k]), given) for k in chosen]}
    if isinstance(kind, BoxesAnswer):
        seen = _seen(kind, answer)
        boxes, labels, scores = seen.boxes.tolist(), seen.labels.tolist(), seen.scores.tolist()
        whole = zip(boxes, labels, scores, strict=True)
        found = [{"box": b} | _named(k, s, given) for b, k, s in whole]
        return {"detections": found, "best_score": kind.best_score(row)}
    values = {name: column.values for name, column in _columns([answer], given).items()}
    own = {n: np.asarray(v)[0].tolist() for n, v in values.items() if n not in (CONFIDENCE, EXIT)}
    return {"outputs": own}


def _seen(kind: BoxesAnswer, answer: Answer) -> Detections:
    """The boxes of an answer, in the picture that was sent."""
    found = kind.detections(_row(answer))
    return found if answer.place is None else found.moved(answer.place.to_picture)


def _named(label: int, score: float, given: Signature) -> dict[str, Any]:
    return {"label": label, "class": given.class_name(label), "score": score}


def _classification(answer: Answer, given: Signature) -> bytes:
    assert answer.label is not None
    return f"{answer.confidence:.6f}:{answer.label}:{given.class_name(answer.label)}".encode()


def _row(answer: Answer) -> Float32s:
    assert answer.values is not None
    return answer.values


def _columns(answers: Sequence[Answer], given: Signature) -> dict[str, OutputTensor]:
    """Every output by its name."""
    kind = given.answers
    if isinstance(kind, ClassAnswer):
        own: dict[str, list[Any] | Values] = {"label": [a.label for a in answers]}
    else:
        rows = np.stack([_row(answer) for answer in answers])
        if isinstance(kind, LabelsAnswer):
            own = _labels(kind, rows, given)
        elif isinstance(kind, BoxesAnswer):
            own = _boxes([_seen(kind, answer) for answer in answers], given)
        else:
            parts = [unpacked(kind, row) for row in rows]
            own = {
                output_name(tensor.name): np.stack(
                    [_held(one[k][1], tensor.datatype) for one in parts]
                )
                for k, (tensor, _) in enumerate(parts[0])
                if not says_confidence(tensor)
            }
    own |= {CONFIDENCE: [a.confidence for a in answers], EXIT: [a.exit + 1 for a in answers]}
    found = {}
    for name, output in given.outputs.items():
        values = own[name]
        shape = (len(values),) if isinstance(values, list) else values.shape
        if isinstance(values, np.ndarray) and output.datatype == BYTES:
            values = values.ravel().tolist()
        found[name] = OutputTensor(name, output.datatype, tuple(shape), values)
    return found


def _labels(kind: LabelsAnswer, rows: Float32s, given: Signature) -> dict[str, list[Any] | Values]:
    chosen = kind.chosen(rows)
    named = [np.flatnonzero(one).tolist() for one in chosen]
    return {
        "labels": chosen.astype(np.uint8),
        "scores": kind.probabilities(rows).astype(np.float32),
        "names": _names(named, given),
    }


def _boxes(seen: Sequence[Detections], given: Signature) -> dict[str, list[Any] | Values]:
    most = max(len(one.scores) for one in seen)
    boxes = np.zeros((len(seen), most, 4), dtype=np.float32)
    scores = np.zeros((len(seen), most), dtype=np.float32)
    labels = np.full((len(seen), most), NO_LABEL, dtype=np.int64)
    for k, one in enumerate(seen):
        count = len(one.scores)
        boxes[k, :count], scores[k, :count], labels[k, :count] = one.boxes, one.scores, one.labels
    return {
        "boxes": boxes,
        "scores": scores,
        "labels": labels,
        "count": [len(one.scores) for one in seen],
        "names": _names([one.labels.tolist() for one in seen], given),
    }


def _names(labels: Sequence[Sequence[int]], given: Signature) -> Values:
    """Classes' names as elements of BYTES (N, K), nothing behind the last one of a row."""
    most = max(len(row) for row in labels)
    found = np.full((len(labels), most), b"", dtype=object)
    for k, row in enumerate(labels):
        for at, label in enumerate(row):
            found[k, at] = (given.class_name(label) or "").encode()
    return found


def _held(values: Values, datatype: str) -> Values:
    """A row's float32 values as an author's datatype; what that cannot hold becomes its end."""
    kind = DTYPES[datatype]
    if kind.kind == "b":
        return np.asarray(values != 0)
    if kind.kind == "f":
        most = float(np.finfo(kind).max)
        return np.clip(values.astype(np.float64), -most, most).astype(kind)
    info, wide = np.iinfo(kind), np.rint(values.astype(np.float64))
    most = float(info.max)
    most = math.nextafter(most, 0.0) if int(most) > info.max else most
    return np.clip(wide, float(info.min), most).astype(kind)
