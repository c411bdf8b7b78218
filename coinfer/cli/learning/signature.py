"""What a model that is brought takes and gives, as the command line says it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from coinfer.cli.learning.picture_options import PictureOptions

if TYPE_CHECKING:
    from models.capture.confident import Confidence
    from models.codecs.tensors import Datatype, NamedTensor
    from models.facts.answers import Answers, Scores
    from models.facts.judges import Judge
    from models.facts.preprocessing import PictureInput, Preprocessing
    from models.networks.brought.signatures import Taken

INPUTS = (
    "HEIGHTxWIDTH, tokens:LENGTH:VOCABULARY[:PADDING], sound:SAMPLES:RATE_HZ or "
    "tensors:NAME=FP32[3x4],NAME=INT64[5]"
)
ANSWERS = (
    "class, labels[:THRESHOLD], boxes:QUERIES[:softmax][:corners][:overlap0.5], vector or tensors, "
    "each also with =NAME,NAME of what is taken of a mapping"
)
_TENSOR = re.compile(r"([A-Za-z_][A-Za-z0-9_.]*)=([A-Z]+[0-9]*)\[([0-9x]*)\]")


@dataclass(frozen=True, slots=True)
class SignatureOptions:
    """The options that say what a model takes and gives, as they were given."""

    side: str = ""
    answers: str = ""
    judge: str = ""
    confidence: str = ""
    pictures: PictureOptions = field(default_factory=PictureOptions)

    @property
    def of_pictures(self) -> bool:
        """Whether the input is a picture: what no other kind is said of."""
        return not self.side or self.side[0].isdigit()

    def picture(self) -> PictureInput:
        """How pictures are taken; raises `UsageError` for what means nothing.

        Also where it is given beside an input of another kind.
        """
        if not self.of_pictures:
            self.pictures.refuse_beside(self.side.partition(":")[0])
        return self.pictures.made()

    def taken(self, size: tuple[int, int] | None) -> Taken:
        """What a module takes and gives; `size` (height, width) is that of pictures.

        Raises `UsageError` for what means nothing.
        """
        from artefacts import UsageError
        from models.networks.brought.signatures import Taken

        preprocessing: Preprocessing = self.picture()
        if not self.of_pictures:
            preprocessing, shape = parse_input(self.side)
        elif size is None:
            raise UsageError("--input: found none, expected HEIGHTxWIDTH, or --data")
        else:
            shape = (self.pictures.depth, *size)
        answers, outputs = parse_answers(self.answers)
        judge = load_judge(self.judge, answers)
        sure = load_confidence(self.confidence)
        return Taken(preprocessing, shape, answers, outputs, judge, self.judge, sure)


def parse_input(text: str) -> tuple[Preprocessing, tuple[int, ...]]:
    """What `--input` says of anything but pictures: how it is taken, and the network's input."""
    from artefacts import UsageError
    from models.facts.preprocessing import SoundInput, TensorInput, TokenInput

    kind, _, rest = text.partition(":")
    found: Preprocessing | None = None
    shape: tuple[int, ...] = ()
    whole = re.fullmatch(r"[0-9]{1,9}(:[0-9]{1,9})*", rest)
    numbers = [int(n) for n in rest.split(":")] if whole else []
    if kind == "tokens" and len(numbers) in (2, 3):
        found, shape = TokenInput(*numbers[1:]), (numbers[0],)
    elif kind == "sound" and len(numbers) == 2:
        found, shape = SoundInput(numbers[1]), (numbers[0],)
    elif kind == "tensors" and rest:
        tensors = TensorInput(tuple(_tensor(part) for part in _parts(rest)))
        found, shape = tensors, tensors.input_shape()
    if found is None or not all(0 < size <= 10**8 for size in shape):
        raise UsageError(f"--input: found '{text}', expected {INPUTS}")
    found.check(shape)
    return found, shape


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _tensor(text: str) -> NamedTensor:
    from artefacts import UsageError
    from models.codecs.tensors import NUMPY_TYPES, NamedTensor

    match = _TENSOR.fullmatch(text)
    sizes = [s for s in match[3].split("x") if s] if match else []
    if match is None or match[2] not in NUMPY_TYPES or not all(int(s) > 0 for s in sizes):
        raise UsageError(
            f"--input: found '{text}', expected NAME=DATATYPE[SIZExSIZE] with a datatype of "
            f"{', '.join(NUMPY_TYPES)}"
        )
    return NamedTensor(match[1], cast("Datatype", match[2]), tuple(int(s) for s in sizes))


def parse_answers(text: str) -> tuple[Answers | None, tuple[str, ...]]:
    """What `--answers` says: the kind (None: found out), and names of outputs."""
    from artefacts import UsageError
    from models.facts import answers

    said, _, names = text.partition("=")
    outputs = tuple(_parts(names)) if "=" in text else ()
    if not all(outputs) or len(set(outputs)) != len(outputs):
        raise UsageError(f"--answers: found '{text}', expected names of outputs, each given once")
    kind, *more = said.split(":")
    try:
        if kind == "" and not more:
            return None, outputs
        if kind == "tensors" and not more:
            return answers.TensorsAnswer(()), outputs  # which they are shows when it is run
        if kind == "class" and not more:
            return answers.ClassAnswer(), outputs
        if kind == "vector" and not more:
            return answers.VectorAnswer(), outputs
        if kind == "labels" and len(more) < 2:
            return (
                answers.LabelsAnswer(float(more[0])) if more else answers.LabelsAnswer()
            ), outputs
        if kind == "boxes" and more:
            return _boxes(more[0], more[1:]), outputs
    except ValueError:
        pass
    raise UsageError(f"--answers: found '{text}', expected {ANSWERS}")


def _boxes(queries: str, more: list[str]) -> Answers:
    """Boxes of so many queries, as the words behind them say; `ValueError` for others."""
    from models.facts.answers import BoxesAnswer

    overlap = 1.0
    for word in more:
        if word.startswith("overlap"):
            overlap = float(word.removeprefix("overlap"))
        elif word not in ("softmax", "sigmoid", "corners"):
            raise ValueError(word)
    scores: Scores = "softmax" if "softmax" in more else "sigmoid"
    return BoxesAnswer(int(queries), scores, "corners" in more, overlap=overlap)


def load_judge(text: str, answers: Answers | None) -> Judge | None:
    """What `--judge` names: a built-in judge, or MODULE:FUNCTION of (rows, labels)."""
    from artefacts import UsageError
    from artefacts.imported import is_named
    from models.facts.answers import CLASSES
    from models.facts.judges import checked_judge, judge_named

    if not text:
        return None
    if not is_named(text):
        return judge_named(text, answers or CLASSES)
    from artefacts.imported import imported

    found = imported("judge", text)
    if not callable(found):
        raise UsageError(
            f"--judge: found a {type(found).__name__}, expected a function of rows (N, V) and "
            "labels (N, ...) that gives N numbers of 0 to 1"
        )
    return checked_judge(text, cast("Judge", found))


def load_confidence(text: str) -> Confidence | None:
    """What `--confidence` names: MODULE:FUNCTION of rows (N, V), a torch tensor."""
    if not text:
        return None
    from artefacts import UsageError
    from artefacts.imported import imported

    found = imported("--confidence", text)
    if not callable(found):
        raise UsageError(
            f"--confidence: found a {type(found).__name__}, expected a function of rows (N, V), a "
            "torch tensor, that gives (N,) within 0 and 1"
        )
    return cast("Confidence", found)
