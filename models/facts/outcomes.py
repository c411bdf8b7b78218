"""Outcomes: for every sample, exit and codec, how good the answer was and how sure.

Quality lies in 0 to 1: right or wrong of a class, what a judge says of anything else; the mean over
samples is called accuracy. Accuracy anywhere in coinfer comes from here, never from a typed
constant. The samples are split once: policies are trained and chosen on the 'policy' half, every
reported figure is from 'report'.
"""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from artefacts import ArtefactError, UsageError, atomic_write
from artefacts.arrays import read_npz
from models.codecs import find_codec
from models.facts.confidence import greatest, probabilities

FORMAT_VERSION = 2
READ_VERSIONS = (1, FORMAT_VERSION)
OUTCOMES_BYTES = 2**28
"""Of a file's arrays; shipped ones take a few MB."""
SPLIT_SEED = 20201
HALVES = ("policy", "report")
QUANTISED = "onnx-int8"
"""Rows under this name are of whole branches computed in int8, at cut 0."""

Classes = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
Key = tuple[int, str, int]
"""(exit, codec, cut): float32 and uint8 are the same answer at every cut and stand at cut 0."""


def class_type(classes: int) -> type[np.uint8] | type[np.uint16]:
    """The smallest type that keeps every class's number."""
    return np.uint8 if classes <= 256 else np.uint16


def _recording(codec: str) -> str:
    """Which commands record outcomes anew, a codec's among them."""
    return (
        "a model of your own: coinfer profile --model MODULE:FACTORY --data FILE "
        f"--codecs {codec}; a network of coinfer's: coinfer train-model"
    )


@dataclass(frozen=True)
class Outcomes:
    """Recorded answers of S samples: `quality` bool (V, S) of right and wrong, or
    float16; `sure` uint8 (V, S): 255 times the confidence.

    `keys[v]` says which exit, codec and cut row v is of; `chosen` (V, S), where recorded, the
    class that was answered. `wire`: mean bytes of codecs whose bytes depend on what they carry.
    `logits` float16 (E, S, C) and `labels` (S,), where recorded: what every exit gave without any
    codec, and what is right. Classes are uint8, or uint16 where there are more than 256.
    """

    model_digest: str
    dataset: str
    keys: tuple[Key, ...]
    quality: npt.NDArray[np.bool_] | npt.NDArray[np.float16]
    sure: npt.NDArray[np.uint8]
    chosen: Classes | None = None
    wire: Mapping[Key, float] = field(default_factory=dict)
    logits: npt.NDArray[np.float16] | None = None
    labels: Classes | None = None

    @property
    def samples(self) -> int:
        """Number of samples."""
        return int(self.quality.shape[1])

    @property
    def exits(self) -> int:
        """Number of exits."""
        return 1 + max(key[0] for key in self.keys)

    @cached_property
    def _rows(self) -> dict[Key, int]:
        return {key: row for row, key in enumerate(self.keys)}

    @cached_property
    def _calibrated(self) -> dict[tuple[int, float], npt.NDArray[np.float64]]:
        # every plan with a gate asks for them: hundreds, by a few exits
        return {}

    @cached_property
    def _halves(self) -> dict[str, npt.NDArray[np.int64]]:
        order = np.random.default_rng(SPLIT_SEED).permutation(self.samples)
        middle = self.samples // 2
        halves = {"policy": np.sort(order[:middle]), "report": np.sort(order[middle:])}
        for index in halves.values():
            index.setflags(write=False)
        return halves

    def row(self, exit_: int, codec: str = "float32", cut: int = 0) -> int:
        """Row of an exit under a codec at a cut; refuses one that was not recorded."""
        named = find_codec(codec)  # other executors' answers stand under names of their own
        if named is not None and named.exact:
            codec, cut = "float32", 0
        try:
            return self._rows[(exit_, codec, cut)]
        except KeyError:
            raise UsageError(
                f"outcomes: found no record of exit {exit_ + 1}, codec '{codec}', cut {cut}, "
                f"expected one ({_recording(codec)})"
            ) from None

    def quality_of(
        self, exit_: int, codec: str = "float32", cut: int = 0
    ) -> npt.NDArray[np.float32]:
        """How good each sample's answer is (S,), 0 to 1."""
        found: npt.NDArray[Any] = self.quality[self.row(exit_, codec, cut)]
        return found.astype(np.float32)

    def confidence(
        self, exit_: int, codec: str = "float32", cut: int = 0
    ) -> npt.NDArray[np.float32]:
        """How sure each sample's answer is (S,), kept to 1/255."""
        return np.asarray(self.sure[self.row(exit_, codec, cut)] / np.float32(255.0))

    def calibrated(self, exit_: int, temperature: float) -> npt.NDArray[np.float64]:
        """How sure an exit's own answers (no codec) are at a temperature, (S,).

        From the logits; without them only the confidences as recorded (temperature 1) are known.
        """
        if self.logits is None:
            if temperature != 1.0:
                raise UsageError(
                    f"outcomes: found no logits, expected them for a temperature of {temperature:g}"
                )
            return self.confidence(exit_).astype(np.float64)
        known = self._calibrated.get((exit_, temperature))
        if known is None:
            known = greatest(probabilities(self.logits[exit_], temperature))
            known.setflags(write=False)
            self._calibrated[exit_, temperature] = known
        return known

    def predicted(self, exit_: int, codec: str = "float32", cut: int = 0) -> Classes:
        """The class each sample was given (S,); refuses outcomes recorded without classes."""
        if self.chosen is None:
            raise UsageError("outcomes: found no predicted classes, expected a record with them")
        return np.asarray(self.chosen[self.row(exit_, codec, cut)])

    def mean_bytes(self, exit_: int, codec: str, cut: int) -> float:
        """Mean bytes on the wire of a codec whose bytes depend on what it carries."""
        found = self.wire.get((exit_, codec, cut))
        if found is None:
            raise UsageError(
                f"outcomes: found no bytes of codec '{codec}' at cut {cut} of exit {exit_ + 1}, "
                f"expected a record of them ({_recording(codec)})"
            )
        return found

    def half(self, name: str) -> npt.NDArray[np.int64]:
        """Sample indices of 'policy' or 'report'."""
        if name not in HALVES:
            raise UsageError(f"outcomes half: found '{name}', expected policy or report")
        return self._halves[name]

    def accuracy(
        self, exit_: int, codec: str = "float32", cut: int = 0, half: str | None = None
    ) -> float:
        """Mean quality over one half or all: of classes, the share answered correctly.

        `exit_` counts from 0; `codec` and `cut` say what crossed before which layer. `half` is
        'policy' or 'report' (None: all).
        """
        found = self.quality_of(exit_, codec, cut)
        if half is not None:
            found = found[self.half(half)]
        return float(found.mean(dtype=np.float64))

    def standard_error(self) -> float:
        """Of the accuracies that plans are chosen by, which rest on one half: the widest exit's."""
        index = self.half("policy")
        if not len(index):
            return math.inf
        spread = [float(self.quality_of(i)[index].std(dtype=np.float64)) for i in range(self.exits)]
        return max(spread) / math.sqrt(len(index))


def save_outcomes(path: str | Path, outcomes: Outcomes) -> None:
    """Write an npz without objects: right and wrong as bits, other quality in half precision."""
    buffer = io.BytesIO()
    optional: dict[str, Any] = {} if outcomes.chosen is None else {"chosen": outcomes.chosen}
    if outcomes.wire:
        optional |= {
            "wire_exits": np.array([k[0] for k in outcomes.wire], dtype=np.int16),
            "wire_codecs": np.array([k[1] for k in outcomes.wire]),
            "wire_cuts": np.array([k[2] for k in outcomes.wire], dtype=np.int16),
            "wire_bytes": np.array(list(outcomes.wire.values()), dtype=np.float64),
        }
    if outcomes.logits is not None:
        optional["logits"] = outcomes.logits
    if outcomes.labels is not None:
        optional["labels"] = outcomes.labels
    quality: npt.NDArray[Any] = outcomes.quality
    if quality.dtype == np.bool_:
        optional["right"] = np.packbits(quality, axis=1)
    else:
        optional["quality"] = quality
    np.savez_compressed(
        buffer,
        format_version=np.array(FORMAT_VERSION),
        model_digest=np.array(outcomes.model_digest),
        dataset=np.array(outcomes.dataset),
        exits=np.array([k[0] for k in outcomes.keys], dtype=np.int16),
        codecs=np.array([k[1] for k in outcomes.keys]),
        cuts=np.array([k[2] for k in outcomes.keys], dtype=np.int16),
        samples=np.array(outcomes.samples),
        sure=outcomes.sure,
        **optional,
    )
    with atomic_write(path, "wb") as stream:
        stream.write(buffer.getvalue())


def read_outcomes(path: str | Path) -> Outcomes:
    """Read outcomes; names the file and the field that does not fit."""
    path = Path(path)
    arrays = read_npz(path, "outcomes (npz)", most_bytes=OUTCOMES_BYTES)
    version = _scalar(path, arrays, "format_version")
    if version not in READ_VERSIONS:
        expected = " or ".join(map(str, READ_VERSIONS))
        raise ArtefactError(path, field="format_version", found=str(version), expected=expected)
    samples = _scalar(path, arrays, "samples")
    if not isinstance(samples, int) or samples < 1:
        raise ArtefactError(path, field="samples", found=str(samples), expected="1 or more")
    keys = _keys(path, arrays)
    sure = _field(path, arrays, "sure")
    widths = [("sure", sure, samples)]
    quality = arrays.get("quality")
    if quality is None:
        widths.append(("right", _field(path, arrays, "right"), -(-samples // 8)))
    chosen = arrays.get("chosen")
    if chosen is not None:
        widths.append(("chosen", chosen, samples))
    for name, array, width in widths:
        kinds = (np.uint8, np.uint16) if name == "chosen" else (np.uint8,)
        if array.shape != (len(keys), width) or array.dtype not in kinds:
            raise ArtefactError(
                path,
                field=name,
                found=f"{array.dtype} {array.shape}",
                expected=f"{' or '.join(k.__name__ for k in kinds)} ({len(keys)}, {width})",
            )
    return Outcomes(
        str(_scalar(path, arrays, "model_digest")),
        str(_scalar(path, arrays, "dataset")),
        keys,
        _quality(path, arrays, len(keys), samples),
        sure,
        chosen,
        _wire(path, arrays),
        _logits(path, arrays, samples, exits=1 + max(key[0] for key in keys)),
        _labels(path, arrays, samples),
    )


def _quality(
    path: Path, arrays: dict[str, npt.NDArray[Any]], rows: int, samples: int
) -> npt.NDArray[np.bool_] | npt.NDArray[np.float16]:
    """Bits of right and wrong, or what a judge said."""
    quality = arrays.get("quality")
    if quality is None:
        return np.unpackbits(arrays["right"], axis=1, count=samples).astype(np.bool_)
    fits = quality.shape == (rows, samples) and quality.dtype == np.float16
    if not fits or not ((quality >= 0) & (quality <= 1)).all():
        raise ArtefactError(
            path, field="quality", found=f"{quality.dtype} {quality.shape}",
            expected=f"float16 ({rows}, {samples}) of 0 to 1",
        )  # fmt: skip
    return quality


def _wire(path: Path, arrays: dict[str, npt.NDArray[Any]]) -> dict[Key, float]:
    if "wire_bytes" not in arrays:
        return {}
    keys, sent = _named_rows(path, arrays, "wire_"), arrays["wire_bytes"]
    if sent.shape != (len(keys),) or sent.dtype != np.float64 or not (sent >= 0).all():
        raise ArtefactError(
            path,
            field="wire_bytes",
            found=f"{sent.dtype} {sent.shape}",
            expected=f"float64 ({len(keys)},), 0 or more",
        )
    return dict(zip(keys, sent.tolist(), strict=True))


def _logits(
    path: Path, arrays: dict[str, npt.NDArray[Any]], samples: int, exits: int
) -> npt.NDArray[np.float16] | None:
    logits = arrays.get("logits")
    if logits is not None and (
        logits.dtype != np.float16 or logits.shape[:-1] != (exits, samples) or logits.shape[-1] < 1
    ):
        raise ArtefactError(
            path,
            field="logits",
            found=f"{logits.dtype} {logits.shape}",
            expected=f"float16 ({exits}, {samples}, 1 or more classes)",
        )
    return logits


def _labels(path: Path, arrays: dict[str, npt.NDArray[Any]], samples: int) -> Classes | None:
    labels = arrays.get("labels")
    known = labels is None or labels.dtype in (np.uint8, np.uint16)
    if labels is not None and (not known or labels.shape != (samples,)):
        raise ArtefactError(
            path,
            field="labels",
            found=f"{labels.dtype} {labels.shape}",
            expected=f"uint8 ({samples},)",
        )
    return labels


def _named_rows(path: Path, arrays: dict[str, npt.NDArray[Any]], prefix: str) -> tuple[Key, ...]:
    names = [prefix + n for n in ("exits", "codecs", "cuts")]
    exits, codecs, cuts = (_field(path, arrays, n) for n in names)
    for name, array, kind in zip(names, (exits, codecs, cuts), "iUi", strict=True):
        if array.ndim != 1 or array.dtype.kind != kind or len(array) != len(exits):
            raise ArtefactError(
                path,
                field=name,
                found=f"{array.dtype} {array.shape}",
                expected=f"{'whole numbers' if kind == 'i' else 'names'}, one for each row",
            )
    return tuple((int(e), str(c), int(k)) for e, c, k in zip(exits, codecs, cuts, strict=True))


def _keys(path: Path, arrays: dict[str, npt.NDArray[Any]]) -> tuple[Key, ...]:
    keys = _named_rows(path, arrays, "")
    deepest = 1 + max((key[0] for key in keys), default=-1)
    counts = Counter(keys)
    for exit_ in range(max(1, deepest)):
        if counts[exit_, "float32", 0] != 1:
            raise ArtefactError(
                path,
                field="exits",
                found=f"{counts[exit_, 'float32', 0]} float32 rows of exit {exit_ + 1}",
                expected="one",
            )
    return keys


def _field(path: Path, arrays: dict[str, npt.NDArray[Any]], name: str) -> npt.NDArray[Any]:
    if name not in arrays:
        raise ArtefactError(path, field=name, found="nothing", expected="an array")
    return arrays[name]


def _scalar(path: Path, arrays: dict[str, npt.NDArray[Any]], name: str) -> Any:
    array = _field(path, arrays, name)
    if array.shape != ():
        raise ArtefactError(path, field=name, found=f"shape {array.shape}", expected="one value")
    return array.item()
