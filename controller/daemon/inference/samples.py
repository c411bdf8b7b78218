"""A request's inputs as samples, by what a network takes: pictures, token ids, sound, tensors.

Nothing is taken from a tensor's contents before its name, datatype and shape are the network's:
whatever a shape says, no more is made of it than the largest request has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from artefacts import UsageError
from controller.daemon.inference.pictures import JpegFiles
from controller.daemon.inference.signature import MOST_SAMPLES, Signature
from controller.daemon.inference.sound_files import read_wav
from controller.daemon.inference.tensor_data import (
    BYTES,
    DATATYPES,
    FLOATS,
    WHOLE,
    TensorData,
    Values,
    fitted,
    short,
)
from controller.daemon.inference.texts import Texts
from models.facts.preprocessing import (
    FULL_SCALE,
    NamedTensor,
    PictureInput,
    SoundInput,
    TensorInput,
    TokenInput,
)

Samples = Values | JpegFiles | Texts
"""Raw samples (N, ...), or files and texts of which samples are yet to be made."""


@dataclass(frozen=True, slots=True)
class SentTensor:
    """An input as it came: nothing of it is checked yet."""

    name: Any
    datatype: Any
    shape: Any
    data: TensorData


def samples_of(inputs: Sequence[SentTensor], wanted: Signature) -> Samples:
    """What a request's inputs hold. Raises `UsageError` for the first thing that is not taken."""
    check_count(len(inputs), wanted)
    takes = wanted.preprocessing
    if isinstance(takes, TensorInput):
        return _tensors(inputs, takes, wanted)
    given = _Given(inputs[0], "inputs[0]", wanted)
    given.check_name(takes.name)
    if isinstance(takes, PictureInput):
        return _pictures(given)
    if isinstance(takes, TokenInput):
        return _tokens(given, takes)
    return _sound(given, takes)


def check_count(count: int, wanted: Signature) -> None:
    """Refuse requests of more inputs than there are, or of fewer."""
    names = [t.name for t in wanted.inputs]
    if count != len(names):
        found = f"inputs: found {count}, expected "
        if len(names) == 1:
            raise UsageError(f"{found}one, called '{names[0]}'")
        raise UsageError(f"{found}{len(names)}: {', '.join(names)}")


class _Given:
    """One input, and what it is held against."""

    def __init__(self, sent: SentTensor, where: str, wanted: Signature) -> None:
        self.sent, self.where, self.wanted = sent, where, wanted

    @property
    def datatype(self) -> str:
        """Its datatype, once it is checked."""
        return str(self.sent.datatype)

    def check_name(self, *names: str) -> None:
        """Refuse another one's."""
        if self.sent.name not in names:
            raise UsageError(
                f"{self.where}.name: found {short(self.sent.name)}, expected "
                + " or ".join(f"'{name}'" for name in names)
            )

    def check_datatype(self, *taken: str, expected: str = "") -> None:
        """Refuse what is none, or none of those that are taken."""
        found, expected = self.sent.datatype, expected or self.wanted.taken
        if not isinstance(found, str) or found not in DATATYPES:
            raise UsageError(
                f"{self.where}.datatype: found {short(found)}, which is no datatype of the "
                f"protocol, expected {expected}"
            )
        if found not in taken:
            raise UsageError(f"{self.where}.datatype: found {found}, expected {expected}")

    def shape(self, what: str = "samples") -> list[int]:
        """Of whole numbers above 0, the first of which is that of the samples."""
        shape = self.sent.shape
        whole = isinstance(shape, list) and bool(shape)
        whole = whole and all(type(n) is int and n > 0 for n in shape)
        if not whole or not 1 <= shape[0] <= MOST_SAMPLES:
            raise UsageError(
                f"{self.where}.shape: found {short(shape)}, expected 1 to {MOST_SAMPLES} {what} "
                "first"
            )
        found: list[int] = shape
        return found

    def refuse_shape(self, expected: str) -> UsageError:
        """A shape that is not the network's."""
        return UsageError(
            f"{self.where}.shape: found {short(self.sent.shape)}, expected {expected}"
        )

    def row(self, longest: int) -> Values:
        """Values (N, L) of which `longest` a row are taken at most."""
        shape = self.shape()
        if len(shape) != 2 or shape[1] > longest:
            raise self.refuse_shape(f"(N, {longest} or fewer)")
        return self.sent.data.numbers(self.datatype, shape)

    def files(self, what: str = "samples", pairs: bool = False, texts: bool = False) -> list[bytes]:
        """Elements of BYTES: one a sample, or two where there may be `pairs`."""
        shape = self.shape(what)
        if shape[1:] not in ([], [1], *([[2]] if pairs else [])):
            raise self.refuse_shape("(N) or (N, 2) for BYTES" if pairs else "(N) for BYTES")
        return list(self.sent.data.elements(math.prod(shape), texts))


def _pictures(given: _Given) -> Samples:
    given.check_datatype("UINT8", BYTES)
    if given.datatype == BYTES:
        return JpegFiles(tuple(given.files("pictures")))
    shape, (height, width) = given.shape("pictures"), given.wanted.size
    if tuple(shape[1:]) != (height, width, 3):
        raise given.refuse_shape(f"(N, {height}, {width}, 3)")
    return given.sent.data.numbers("UINT8", shape)


def _tokens(given: _Given, takes: TokenInput) -> Samples:
    texts = given.wanted.tokeniser is not None
    given.check_datatype(*WHOLE, *([BYTES] if texts else []))
    if given.datatype == BYTES:
        return _texts(given)
    (longest,) = given.wanted.input_shape
    rows = given.row(longest)
    low, high = int(rows.min()), int(rows.max())
    if low < 0 or high >= takes.vocabulary:
        raise UsageError(
            f"{given.where}: found ids from {low} to {high}, expected 0 to {takes.vocabulary - 1}"
        )
    found = np.full((len(rows), longest), takes.padding, dtype=np.int32)
    found[:, : rows.shape[1]] = rows
    return found


def _texts(given: _Given) -> Texts:
    most, elements = given.wanted.text_bytes, given.files(pairs=True, texts=True)
    pairs = len(given.shape()) == 2 and given.shape()[1] == 2
    found = []
    for element in elements:
        if len(element) > most:
            raise UsageError(
                f"{given.where}: found a text of {len(element):,} bytes, expected at most {most:,}"
            )
        try:
            found.append(element.decode())
        except UnicodeDecodeError:
            raise UsageError(
                f"{given.where}: found {short(element)}, expected text in UTF-8"
            ) from None
    if pairs:
        return Texts(tuple(zip(found[::2], found[1::2], strict=True)))
    return Texts(tuple((text, None) for text in found))


def _sound(given: _Given, takes: SoundInput) -> Values:
    given.check_datatype("INT16", *FLOATS, BYTES)
    (longest,) = given.wanted.input_shape
    if given.datatype == BYTES:
        rows = [read_wav(file, takes.rate_hz, longest) for file in given.files()]
    elif given.datatype == "INT16":
        rows = list(given.row(longest))
    else:
        values = given.row(longest)
        if not np.abs(values).max() <= 1.0:  # of what is no number neither is true
            raise UsageError(f"{given.where}: found values beyond -1 to 1, expected sound")
        levels = np.rint(values.astype(np.float64) * FULL_SCALE)
        rows = list(np.clip(levels, -FULL_SCALE, FULL_SCALE - 1))
    found = np.zeros((len(rows), longest), dtype=np.int16)
    for row, samples in zip(found, rows, strict=True):
        row[: len(samples)] = samples
    return found


def _tensors(inputs: Sequence[SentTensor], takes: TensorInput, wanted: Signature) -> Values:
    by_name = {tensor.name: tensor for tensor in takes.tensors}
    found: dict[str, Values] = {}
    for number, sent in enumerate(inputs):
        given = _Given(sent, f"inputs[{number}]", wanted)
        if not isinstance(sent.name, str):
            given.check_name(*by_name)
        given.check_name(*(name for name in by_name if name not in found))
        found[sent.name] = _tensor(given, by_name[sent.name])
    counts = {len(values) for values in found.values()}
    if len(counts) > 1:
        raise UsageError(
            f"inputs: found {' and '.join(map(str, sorted(counts)))} samples, expected as many in "
            "each"
        )
    columns = [found[tensor.name] for tensor in takes.tensors]
    return np.stack([takes.pack(one) for one in zip(*columns, strict=True)])


def _tensor(given: _Given, wanted: NamedTensor) -> Values:
    numbers = [d for d in DATATYPES if d != BYTES]
    given.check_datatype(*numbers, expected=f"{wanted.datatype}, or what it holds")
    shape = given.shape()
    if tuple(shape[1:]) != wanted.shape:
        raise given.refuse_shape(f"({', '.join(map(str, ['N', *wanted.shape]))})")
    return fitted(given.sent.data.numbers(given.datatype, shape), wanted)
