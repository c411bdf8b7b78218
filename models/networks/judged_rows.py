"""Judged answers of samples, batch by batch, and as parts that a pass which was cut takes up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from artefacts.arrays import Float32s
from models.data.datasets import Samples
from models.facts.cards import Model
from models.facts.judges import Judge, Labels, judged
from models.facts.outcomes import Classes, Key, Outcomes, class_type
from models.networks.kept_parts import Arrays, Part


class JudgedRows:
    """Judged answers, batch by batch."""

    def __init__(self, model: Model, judge_by: Judge) -> None:
        """Answers of `model`, each as good as `judge_by` says."""
        self.model, self._judge, self._class = model, judge_by, model.answers.one_class
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self._keys: tuple[Key, ...] = ()
        self._quality: list[Float32s] = []
        self._sure: list[npt.NDArray[np.uint8]] = []
        self._chosen: list[Classes] = []
        self._logits: list[npt.NDArray[np.float16]] = []
        self._in_parts = 0

    def empty(self) -> JudgedRows:
        """Others of the same network and judge."""
        return JudgedRows(self.model, self._judge)

    @property
    def _lists(self) -> dict[str, list[Any]]:
        lists: dict[str, list[Any]] = {"quality": self._quality, "sure": self._sure}
        return lists | ({"logits": self._logits, "chosen": self._chosen} if self._class else {})

    def part(self) -> Part:
        """What was added since the last part."""
        since, self._in_parts = self._in_parts, len(self._quality)
        arrays = {name: np.concatenate(one[since:], axis=1) for name, one in self._lists.items()}
        return arrays | key_arrays("", self._keys)

    def take(self, part: Arrays, count: int) -> None:
        """Add a part of `count` samples; `ValueError` for what is none."""
        keys = keys_of("", part)
        if self._keys not in ((), keys):
            raise ValueError("parts of different keys")
        self._keys = keys
        for name, one in self._lists.items():
            rows = len(self.model.spec.exits) if name == "logits" else len(keys)
            if part[name].shape[:2] != (rows, count):
                raise ValueError("a part of another shape")
            one.append(part[name])
        self._in_parts = len(self._quality)

    def begins_as(self, first: JudgedRows, count: int) -> bool:
        """Whether the first `count` samples are those of `first`, bit by bit."""
        return self._keys == first._keys and all(
            mine[0].dtype == other[0].dtype and np.array_equal(mine[0][:, :count], other[0])
            for mine, other in zip(self._lists.values(), first._lists.values(), strict=True)
        )

    def add(self, found: dict[Key, Float32s], labels: Labels) -> None:
        """One batch's rows (N, V) of every key, and what is right of it."""
        self._keys = tuple(sorted(found))
        rows = [found[key] for key in self._keys]
        kind = self.model.answers
        self._quality.append(np.stack([judged(self._judge, row, labels) for row in rows]))
        sure = np.stack([kind.confidence(row) for row in rows])
        self._sure.append(np.rint(sure * 255.0).astype(np.uint8))
        if self._class:
            exits = [found[(i, "float32", 0)] for i in range(len(self.model.spec.exits))]
            self._logits.append(np.stack(exits).astype(np.float16))
            kept = class_type(rows[0].shape[1])
            self._chosen.append(np.stack([row.argmax(axis=1).astype(kept) for row in rows]))

    def outcomes(self, dataset: str, samples: Samples, sent: dict[Key, float]) -> Outcomes:
        """All of them; classes, scores and labels are kept where answers are classes."""
        quality: Any = np.concatenate(self._quality, axis=1)
        right = quality > 0.5
        quality = right if np.array_equal(right, quality) else quality.astype(np.float16)
        sure = np.concatenate(self._sure, axis=1)
        model = self.model.digest
        if not self._class:
            return Outcomes(model, dataset, self._keys, quality, sure, wire=sent)
        chosen: Any = np.concatenate(self._chosen, axis=1)
        logits = np.concatenate(self._logits, axis=1)
        return Outcomes(
            model, dataset, self._keys, quality, sure, chosen, sent, logits, samples.y
        )  # fmt: skip


def key_arrays(prefix: str, keys: Sequence[Key]) -> Part:
    """(exit, codec, cut) as arrays, whose names begin with `prefix`."""
    return {
        f"{prefix}exits": np.array([k[0] for k in keys], dtype=np.int16),
        f"{prefix}codecs": np.array([k[1] for k in keys], dtype=np.str_),
        f"{prefix}cuts": np.array([k[2] for k in keys], dtype=np.int16),
    }


def keys_of(prefix: str, arrays: Arrays) -> tuple[Key, ...]:
    """What `key_arrays` made arrays of."""
    columns = [arrays[f"{prefix}{name}"].tolist() for name in ("exits", "codecs", "cuts")]
    return tuple((exit_, codec, cut) for exit_, codec, cut in zip(*columns, strict=True))
