"""What a network answers: one class, several labels, boxes, a vector, or tensors of its own.

Torch-free: devices and edges read answers by it. An exit gives one row of float32 values per
sample, whatever was brought: several tensors are laid end to end. A kind says what a row means, how
sure it is, and which named tensors a reader gets of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from artefacts import UsageError
from artefacts.arrays import Float32s, Floats
from models.codecs.tensors import NamedTensor
from models.facts.confidence import greatest, probabilities

IN_QUESTION = 0.1
"""A box whose score is below it is no box: nobody asks how sure that is."""
Scores = Literal["softmax", "sigmoid"]
CONFIDENCE = "confidence"
"""A tensor of this name, of one value, is a network's own word on how sure it is."""


class ClassAnswer(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="class"
):
    """One class: the greatest of the row's scores."""

    one_class: ClassVar[bool] = True

    def check(self, values: int) -> None:
        """Refuse a row of `values` that cannot be such an answer."""
        if values < 2:
            raise UsageError(f"answers: found {values} scores, expected 2 or more")

    def named(self, values: int) -> int:
        """How many classes a row of `values` tells apart, which names may be given for."""
        return values

    def confidence(self, rows: Float32s, temperature: float = 1.0) -> Floats:
        """Greatest softmax probability of each row (N, V) at a temperature, (N,)."""
        return greatest(probabilities(rows, temperature))

    def tensors(self, values: int) -> tuple[NamedTensor, ...]:
        """The row: a score for every class."""
        return (NamedTensor("scores", "FP32", (values,)),)


class LabelsAnswer(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="labels"
):
    """Several labels: each whose sigmoid is above `threshold`."""

    threshold: float = 0.5
    """Of a label's probability."""
    own_confidence: bool = False
    """Whether a row ends with how sure the exit is, by a function of the author's."""

    one_class: ClassVar[bool] = False

    def check(self, values: int) -> None:
        """Refuse a threshold that is none, and a row of `values` that holds no label."""
        if not 0.0 < self.threshold < 1.0 or self.named(values) < 1:
            raise UsageError(
                f"answers: found {self.named(values)} labels at threshold {self.threshold:g}, "
                "expected one or more, at a threshold within 0 and 1"
            )

    def probabilities(self, rows: Float32s, temperature: float = 1.0) -> Floats:
        """Of every label, (N, labels)."""
        return sigmoid(own_values(self, rows) / temperature)

    def named(self, values: int) -> int:
        """How many classes a row of `values` tells apart, which names may be given for."""
        return values - self.own_confidence

    def confidence(self, rows: Float32s, temperature: float = 1.0) -> Floats:
        """Mean over labels of how sure it is of each, (N,), or the author's."""
        if self.own_confidence:
            return last_value(rows)
        p = self.probabilities(rows, temperature)
        return np.asarray(np.maximum(p, 1.0 - p).mean(axis=-1))

    def chosen(self, rows: Float32s) -> npt.NDArray[np.bool_]:
        """Which labels are given, (N, labels)."""
        return np.asarray(self.probabilities(rows) > self.threshold)

    def tensors(self, values: int) -> tuple[NamedTensor, ...]:
        """The row: a score for every label."""
        return (NamedTensor("scores", "FP32", (self.named(values),)),)


@dataclass(frozen=True, slots=True)
class Detections:
    """Boxes of one sample: `boxes` (K, 4) left, top, right, bottom of 0 to 1, `labels` (K,),
    `scores` (K,), the surest first.
    """

    boxes: Float32s
    labels: npt.NDArray[np.int64]
    scores: Float32s

    def moved(self, move: Callable[[Float32s], Float32s]) -> Detections:
        """The same in another picture, whose boxes `move` gives: what lies within that picture."""
        return _within(move(self.boxes), self.labels, self.scores)


class BoxesAnswer(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="boxes"
):
    """Boxes with classes: of every query four coordinates of 0 to 1 and a score for every class.

    A row is `boxes` (Q, 4) and behind it `scores` (Q, C).
    """

    queries: int
    """Boxes that an exit gives, most of them empty."""
    scores: Scores = "sigmoid"
    """softmax: the last score is that of nothing (as DETR has it); sigmoid: each stands alone."""
    corners: bool = False
    """Whether coordinates are corners (left, top, right, bottom), not centre and size."""
    threshold: float = 0.5
    """Of a score, above which a box is given."""
    overlap: float = 1.0
    """Of two boxes of one class that overlap more (IoU), the surer is given (1: both)."""
    own_confidence: bool = False
    """Whether a row ends with how sure the exit is, by a function of the author's."""

    one_class: ClassVar[bool] = False

    def check(self, values: int) -> None:
        """Refuse figures that do not fit a row of `values`."""
        count = values - self.own_confidence
        if self.queries < 1 or count % max(self.queries, 1) or self.classes(values) < 1:
            raise UsageError(
                f"answers: found {values} values of {self.queries} boxes, expected four "
                "coordinates and one or more scores for each"
            )
        if not 0.0 < self.threshold < 1.0 or not 0.0 < self.overlap <= 1.0:
            raise UsageError(
                f"answers: found threshold {self.threshold:g}, overlap {self.overlap:g}, expected "
                "both above 0, the threshold below 1 and the overlap at most 1"
            )

    def classes(self, values: int) -> int:
        """How many classes of things a row of `values` tells apart."""
        return (values - self.own_confidence) // self.queries - 4 - (self.scores == "softmax")

    def parts(self, rows: Float32s, temperature: float = 1.0) -> tuple[Float32s, Floats]:
        """Coordinates (N, Q, 4) and probabilities of things (N, Q, C) of rows (N, V)."""
        rows = own_values(self, rows)
        corners = rows[:, : 4 * self.queries].reshape(len(rows), self.queries, 4)
        logits = rows[:, 4 * self.queries :].reshape(len(rows), self.queries, -1)
        if self.scores == "softmax":
            return corners, probabilities(logits, temperature)[..., :-1]
        return corners, sigmoid(logits / temperature)

    def named(self, values: int) -> int:
        """How many classes a row of `values` tells apart, which names may be given for."""
        return self.classes(values)

    def confidence(self, rows: Float32s, temperature: float = 1.0) -> Floats:
        """Mean of how sure it is of every box that is in question, (N,); 1 where there is none.
        Or the author's.
        """
        if self.own_confidence:
            return last_value(rows)
        _, things = self.parts(rows, temperature)
        best = things.max(axis=-1)
        asked = best > IN_QUESTION
        sure = np.where(asked, np.maximum(best, 1.0 - best), 0.0).sum(axis=-1)
        count = asked.sum(axis=-1)
        return np.asarray(np.where(count > 0, sure / np.maximum(count, 1), 1.0))

    def best_score(self, row: Float32s) -> float:
        """The greatest score of any box of a row (V,), 0 to 1, whether the box is given or not.

        It says of an answer without boxes what its confidence does not: that is 1 where no box is
        in question, so that a gate ends on it.
        """
        return float(self.parts(row[None])[1].max())

    def detections(self, row: Float32s, least: float | None = None) -> Detections:
        """What one row (V,) says is there, with scores above `least` (the threshold)."""
        corners, things = (part[0] for part in self.parts(row[None]))
        labels, scores = things.argmax(axis=-1), things.max(axis=-1)
        kept = np.flatnonzero(scores > (self.threshold if least is None else least))
        kept = kept[np.argsort(-scores[kept], kind="stable")]
        boxes = (corners if self.corners else corners_of(corners))[kept]
        found = _within(boxes, labels[kept], scores[kept])
        return found if self.overlap >= 1.0 else _apart(found, self.overlap)

    def tensors(self, values: int) -> tuple[NamedTensor, ...]:
        """The row's two parts."""
        width = (values - self.own_confidence) // self.queries - 4
        return (
            NamedTensor("boxes", "FP32", (self.queries, 4)),
            NamedTensor("scores", "FP32", (self.queries, width)),
        )


class VectorAnswer(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="vector"
):
    """A vector, as of an embedding: its direction is what it says."""

    own_confidence: bool = False
    """Whether a row ends with how sure the exit is, by a function of the author's."""

    one_class: ClassVar[bool] = False

    def check(self, values: int) -> None:
        """Refuse a row of `values` that holds no vector."""
        if values - self.own_confidence < 1:
            raise UsageError("answers: found a vector of no values, expected one or more")

    def named(self, values: int) -> int:
        """How many classes a row of `values` tells apart, which names may be given for."""
        return 0

    def confidence(self, rows: Float32s, temperature: float = 1.0) -> Floats:
        """0 of every row, (N,): a vector does not say how sure it is, and no gate ends on it. Or
        the author's.
        """
        return last_value(rows) if self.own_confidence else np.zeros(len(rows))

    def tensors(self, values: int) -> tuple[NamedTensor, ...]:
        """The row."""
        return (NamedTensor("vector", "FP32", (values - self.own_confidence,)),)


class TensorsAnswer(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="tensors"
):
    """Tensors of the author's own; one called `confidence`, of one value, is the network's word."""

    outputs: tuple[NamedTensor, ...]
    """In the order of the network's outputs."""

    one_class: ClassVar[bool] = False

    def check(self, values: int) -> None:
        """Refuse a signature that is none, or that is not of a row of `values`."""
        names = [t.name for t in self.outputs]
        if not names or len(set(names)) != len(names) or not all(names):
            raise UsageError(f"answers: found names {names}, expected one or more, all different")
        shapes = [t.shape for t in self.outputs]
        if not all(size > 0 for shape in shapes for size in shape):
            raise UsageError(f"answers: found tensors of shapes {shapes}, expected sizes above 0")
        given = sum(t.values for t in self.outputs)
        if given != values:
            raise UsageError(f"answers: found {given} values of tensors, expected {values}")

    def named(self, values: int) -> int:
        """How many classes a row of `values` tells apart, which names may be given for."""
        return 0

    def confidence(self, rows: Float32s, temperature: float = 1.0) -> Floats:
        """The network's own word within 0 and 1, (N,); 0 where it has none."""
        at = 0
        for tensor in self.outputs:
            if tensor.name == CONFIDENCE and tensor.values == 1:
                return last_value(rows[:, : at + 1])
            at += tensor.values
        return np.zeros(len(rows))

    def tensors(self, values: int) -> tuple[NamedTensor, ...]:
        """The signature."""
        return self.outputs


CLASSES = ClassAnswer()
Answers = ClassAnswer | LabelsAnswer | BoxesAnswer | VectorAnswer | TensorsAnswer


def own_values(kind: Answers, rows: Float32s) -> Float32s:
    """Rows (N, V) without the author's confidence, where they end with one."""
    return rows[:, :-1] if getattr(kind, "own_confidence", False) else rows


def last_value(rows: Float32s) -> Floats:
    """The last value of rows (N, V) as a confidence, (N,)."""
    return np.clip(np.nan_to_num(rows[:, -1].astype(np.float64)), 0.0, 1.0)


def with_confidence(kind: Answers) -> Answers:
    """The answers of a network whose rows got one more value, an author's confidence."""
    if isinstance(kind, TensorsAnswer):
        if CONFIDENCE in [t.name for t in kind.outputs]:
            raise UsageError("--confidence: found an output called 'confidence', expected one word")
        return TensorsAnswer((*kind.outputs, NamedTensor(CONFIDENCE, "FP32", (1,))))
    if isinstance(kind, ClassAnswer):
        raise UsageError(
            "--confidence: found it for one class, expected answers of another kind (of a class it "
            "is the greatest score's probability)"
        )
    return msgspec.structs.replace(kind, own_confidence=True)


@dataclass(frozen=True, slots=True, eq=False)
class ExitAnswer:
    """One sample's answer: how sure, and either a class or the row's values (V,) float32."""

    confidence: float
    label: int | None = None
    values: Float32s | None = None

    @property
    def of_numbers(self) -> bool:
        """Whether what the exit gave are numbers: of anything else it is no answer."""
        return math.isfinite(self.confidence)


def read_answer(kind: Answers, row: Float32s, temperature: float = 1.0) -> ExitAnswer:
    """What an exit's row (1, V) says, at the exit's temperature."""
    if isinstance(kind, ClassAnswer):
        with np.errstate(all="ignore"):  # of what is no number the confidence says it
            shifted = (row[0] - row[0].max()) / temperature
            weights = np.exp(shifted)
            best = int(np.argmax(shifted))
            return ExitAnswer(float(weights[best] / weights.sum()), best)
    with np.errstate(all="ignore"):
        sure = float(kind.confidence(row, temperature)[0])
    if not np.isfinite(row).all():
        sure = math.nan  # no network gives that: whoever asks must see it
    return ExitAnswer(sure, None, np.ascontiguousarray(row[0], dtype=np.float32))


def unpacked(kind: Answers, row: Float32s) -> list[tuple[NamedTensor, npt.NDArray[Any]]]:
    """The named tensors of one row (V,)."""
    found, at = [], 0
    for tensor in kind.tensors(len(row)):
        found.append((tensor, row[at : at + tensor.values].reshape(tensor.shape)))
        at += tensor.values
    return found


def sigmoid(x: npt.NDArray[Any]) -> Floats:
    """1 / (1 + exp(-x)), for any magnitude."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x.astype(np.float64))))


def corners_of(boxes: Float32s) -> Float32s:
    """Left, top, right and bottom (..., 4) of centre and size (..., 4)."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2.0
    return np.concatenate([centre - half, centre + half], axis=-1)


def overlaps(a: Float32s, b: Float32s) -> Floats:
    """Intersection over union of corners (K, 4) and (M, 4): (K, M)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(high - low, 0.0, None).prod(axis=-1)
    area_a, area_b = (np.clip(x[:, 2:] - x[:, :2], 0.0, None).prod(axis=-1) for x in (a, b))
    whole = area_a[:, None] + area_b[None] - shared
    return np.asarray(np.where(whole > 0, shared / np.maximum(whole, 1e-12), 0.0), dtype=np.float64)


def _within(boxes: Float32s, labels: npt.NDArray[Any], scores: Float32s | Floats) -> Detections:
    """What is left of boxes (K, 4) within the picture, in their order."""
    boxes = np.clip(boxes, 0.0, 1.0)
    # what has no area within the picture is nothing that anybody could find
    kept = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(axis=-1))
    return Detections(
        boxes[kept].astype(np.float32),
        labels[kept].astype(np.int64),
        scores[kept].astype(np.float32),
    )


def _apart(found: Detections, overlap: float) -> Detections:
    """Without boxes that overlap a surer one of their class (greedy non-maximum suppression)."""
    shared = overlaps(found.boxes, found.boxes) > overlap
    shared &= found.labels[:, None] == found.labels[None]
    kept: list[int] = []
    for k in range(len(found.scores)):
        if not shared[k, kept].any():
            kept.append(k)
    return Detections(found.boxes[kept], found.labels[kept], found.scores[kept])
