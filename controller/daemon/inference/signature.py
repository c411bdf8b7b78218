"""What a served network takes and gives, as the Open Inference Protocol's metadata say it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from artefacts import UsageError
from controller.daemon.inference.texts import Tokeniser
from models.facts.answers import (
    CLASSES,
    Answers,
    BoxesAnswer,
    ClassAnswer,
    LabelsAnswer,
    VectorAnswer,
)
from models.facts.cards import Model
from models.facts.layers import Shape
from models.facts.picture_fit import SQUASH, PictureFit
from models.facts.preprocessing import (
    NamedTensor,
    PictureInput,
    Preprocessing,
    SoundInput,
    TokenInput,
    signature,
)

CONFIDENCE, EXIT = "confidence", "exit"
ALWAYS = {CONFIDENCE: "FP32", EXIT: "INT32"}
"""Outputs of every network, one value a sample each."""
EXTENSIONS = ("binary_tensor_data", "parameters")
PLATFORM = "onnx_onnxv1"
VERSION = "1"
MOST_SAMPLES = 16
"""Of one request."""
TEXT_BYTES = 16
"""Of UTF-8 for each token that a network takes: a word of a text has about six."""


@dataclass(frozen=True, slots=True)
class Output:
    """One output: its datatype, and one sample's shape (-1: as many as there are)."""

    datatype: str
    shape: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Signature:
    """A network's: how samples become its input, what an exit's row means, what classes are called.

    `values` are a row's. `tokeniser` is there where texts may be sent.
    """

    preprocessing: Preprocessing
    input_shape: Shape
    answers: Answers = CLASSES
    values: int = 2
    classes: tuple[str, ...] = ()
    tokeniser: Tokeniser | None = None

    @property
    def inputs(self) -> tuple[NamedTensor, ...]:
        """The tensors of one raw sample."""
        return signature(self.preprocessing, self.input_shape)

    @property
    def input_values(self) -> int:
        """Of one sample, all its tensors together."""
        return sum(math.prod(tensor.shape) for tensor in self.inputs)

    @property
    def input_bytes(self) -> int:
        """JSON that one sample's data may have beside its values: texts, where they may be sent."""
        return 0 if self.tokeniser is None else 12 * self.text_bytes

    @property
    def text_bytes(self) -> int:
        """The longest text of one sample."""
        return TEXT_BYTES * self.input_values + 64

    @property
    def takes_pictures(self) -> bool:
        """Whether a JPEG file is a sample."""
        return isinstance(self.preprocessing, PictureInput)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of pictures; refuses to say it of another network."""
        if not self.takes_pictures:
            raise UsageError(f"picture: found a JPEG file, expected {self.taken}")
        return (self.input_shape[1], self.input_shape[2])

    @property
    def fit(self) -> PictureFit:
        """How a picture of another size is made to fit."""
        takes = self.preprocessing
        return takes.fitting if isinstance(takes, PictureInput) else SQUASH

    @property
    def taken(self) -> str:
        """What a request's inputs may be, in words."""
        if isinstance(self.preprocessing, PictureInput):
            return "UINT8 (N, H, W, 3) or BYTES (N)"
        if isinstance(self.preprocessing, TokenInput):
            ids = f"token ids of a whole datatype (N, {self.input_shape[0]} or fewer)"
            return ids if self.tokeniser is None else f"{ids}, or texts as BYTES (N)"
        if isinstance(self.preprocessing, SoundInput):
            most = f"(N, {self.input_shape[0]} or fewer)"
            return f"INT16 or FP32 {most}, or WAV files as BYTES (N)"
        return ", ".join(f"'{t.name}' {t.datatype} (N, *{t.shape})" for t in self.inputs)

    @property
    def outputs(self) -> dict[str, Output]:
        """Every output by its name, in the order in which they are given."""
        found = dict(self._own_outputs())
        return found | {name: Output(datatype) for name, datatype in ALWAYS.items()}

    def _own_outputs(self) -> list[tuple[str, Output]]:
        kind = self.answers
        names = [("names", Output("BYTES", (-1,)))] if self.classes else []
        if isinstance(kind, ClassAnswer):
            return [("label", Output("INT64"))]
        if isinstance(kind, LabelsAnswer):
            labels = kind.named(self.values)
            flags, scores = (Output(d, (labels,)) for d in ("UINT8", "FP32"))
            return [("labels", flags), ("scores", scores), *names]
        if isinstance(kind, BoxesAnswer):
            return [
                ("boxes", Output("FP32", (-1, 4))),
                ("scores", Output("FP32", (-1,))),
                ("labels", Output("INT64", (-1,))),
                ("count", Output("INT32")),
                *names,
            ]
        if isinstance(kind, VectorAnswer):
            return [("vector", Output("FP32", kind.tensors(self.values)[0].shape))]
        return [
            (output_name(t.name), Output(t.datatype, t.shape))
            for t in kind.outputs
            if not says_confidence(t)
        ]

    def class_name(self, label: int) -> str | None:
        """What a class is called; None where it has no name."""
        return self.classes[label] if 0 <= label < len(self.classes) else None


def signature_of(
    model: Model, classes: tuple[str, ...], tokeniser: Tokeniser | None = None
) -> Signature:
    """A model's; `classes` are the names that answers give."""
    spec = model.spec
    return Signature(
        model.preprocessing, spec.input_shape, model.answers, spec.classes, classes, tokeniser
    )


def says_confidence(tensor: NamedTensor) -> bool:
    """Whether an author's tensor is the network's own word on how sure it is."""
    return tensor.name == CONFIDENCE and tensor.values == 1


def output_name(name: str) -> str:
    """Of an author's tensor: its own, unless the protocol's answers have one of that name."""
    return f"network_{name}" if name in ALWAYS else name


def metadata(model: str, given: Signature) -> dict[str, Any]:
    """A model's metadata."""
    inputs, outputs = given.inputs, given.outputs
    return {
        "name": model,
        "versions": [VERSION],
        "platform": PLATFORM,
        "inputs": [
            {"name": t.name, "datatype": t.datatype, "shape": [-1, *t.shape]} for t in inputs
        ],
        "outputs": [
            {"name": name, "datatype": out.datatype, "shape": [-1, *out.shape]}
            for name, out in outputs.items()
        ],
    }


def model_config(model: str, given: Signature) -> dict[str, Any]:
    """A model's configuration, in Triton's words (its `ModelConfig` as JSON).

    Dimensions leave out the samples' number.
    """
    return {
        "name": model,
        "platform": PLATFORM,
        "max_batch_size": MOST_SAMPLES,
        "input": [_configured(t.name, t.datatype, t.shape) for t in given.inputs],
        "output": [_configured(n, o.datatype, o.shape) for n, o in given.outputs.items()],
    }


def _configured(name: str, datatype: str, shape: tuple[int, ...]) -> dict[str, Any]:
    kind = "STRING" if datatype == "BYTES" else datatype
    made: dict[str, Any] = {"name": name, "data_type": f"TYPE_{kind}", "dims": list(shape) or [1]}
    return made if shape else made | {"reshape": {"shape": []}}
