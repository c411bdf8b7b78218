"""Weights on disk: safetensors plus a JSON card that says what they are and how they were made.

Torch-free: the device reads them too. A model's digest covers architecture and parameters; both
ends of a split must hold the same.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from artefacts import (
    DEVICE_JSON_BYTES,
    ArtefactError,
    UsageError,
    atomic_write,
    read_bytes,
    read_json,
    write_json,
)
from models.codecs import Ranges
from models.facts.answers import Answers, ClassAnswer, ExitAnswer, read_answer
from models.facts.branchy import BranchySpec
from models.facts.judges import judge_of
from models.facts.packaged import (
    SOURCE,
    WEIGHTS,
    place_for_weights,
    read_source,
    weights_file,
    without_weights,
)
from models.facts.preprocessing import Preprocessing, Raw
from models.facts.stored import packed, unpacked

FORMAT_VERSION = 2
FLOAT_BYTES = 4
NAMES_BYTES, WEIGHTS_BYTES = 2**24, 2**32
"""What the names of weights may take, and everything in their file."""
RANGES_BYTES = 2**26
MOST_VALUES = 2**28
"""Of one sample at any place of a network: a GiB."""
SHIPPED = Path(__file__).parents[1] / "shipped"
RANGES = "calibration.safetensors"
State = dict[str, npt.NDArray[np.float32]]


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`card.json`: what the weights are.

    `test_accuracies` were measured once, on all test pictures, after every choice was made on the
    held-back tenth of the training pictures (`held_back_accuracies`). `temperatures`: what every
    exit's logits are divided by before an answer's confidence is read (fitted on the same tenth;
    empty: 1 everywhere).
    """

    format_version: int
    name: str
    """Of the network."""
    network: BranchySpec
    """Its architecture."""
    digest: str
    """SHA-256 of architecture, parameters and calibrated ranges."""
    classes: tuple[str, ...]
    """Names of the classes, in the order of the scores (of what is no class: none)."""
    dataset: str
    """What it was trained on."""
    preprocessing: Preprocessing
    """How a raw sample becomes the network's input."""
    training: dict[str, Any]
    """Arguments of the training."""
    held_back_accuracies: tuple[float, ...]
    """Of every exit, on pictures held back for choices."""
    test_accuracies: tuple[float, ...]
    """Of every exit, on all test pictures, measured once."""
    temperatures: tuple[float, ...] = ()
    """What every exit's scores are divided by for its confidence (empty: 1)."""
    answers: Answers = ClassAnswer()
    """What an exit's values mean."""
    judge: str = ""
    """By which judge outcomes were recorded (empty: the usual one of the answers)."""


@dataclass(frozen=True, slots=True)
class Model:
    """A branchy network with its parameters (`layer.weight`, `layer.bias`) and card."""

    spec: BranchySpec
    state: State
    card: Card
    digest: str
    folder: Path
    ranges: Mapping[str, Ranges] = field(default_factory=dict)
    """Calibrated ranges of what layers give, by the layer's name."""

    @property
    def parameters(self) -> State:
        """`state`, read anew where it was let go (`release`).

        `UsageError` where the weights come in a package and were not put together yet;
        `ArtefactError` where the folder is another model's by now.
        """
        state = self.state
        if not state:
            now = load_model(self.folder)
            if now.digest != self.digest:  # its graphs would be kept under this one's digest
                card = self.folder / "card.json"
                raise ArtefactError(card, field="digest", found=now.digest, expected=self.digest)
            state = now.state
        if not state and read_source(self.folder) is not None:
            raise without_weights(self.folder)
        return state

    def require_parameters(self) -> None:
        """`UsageError` where there are none to run the network with."""
        if not self.state:
            _ = self.parameters

    def release(self) -> None:
        """Let the parameters go: sessions hold their own, and a device has little memory."""
        self.state.clear()

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Of every exit; 1 where the card has none."""
        return self.card.temperatures or (1.0,) * len(self.spec.exits)

    def ranges_at(self, branch: int, cut: int) -> Ranges | None:
        """Calibrated ranges of the tensor that crosses before layer `cut` of a branch, if any."""
        return self.ranges.get(self.spec.branches[branch][cut - 1].name) if cut > 0 else None

    @property
    def preprocessing(self) -> Preprocessing:
        """How a raw sample becomes the network's input."""
        return self.card.preprocessing

    @property
    def answers(self) -> Answers:
        """What an exit's values mean."""
        return self.card.answers

    def normalise(self, x: Raw) -> npt.NDArray[np.float32]:
        """Raw samples (N, ...) as the network's input (N, *input shape) float32."""
        return self.card.preprocessing.apply(x)

    def answer(self, exit_: int, row: npt.NDArray[np.float32]) -> ExitAnswer:
        """What the row (1, V) of an exit, from 0, says."""
        return read_answer(self.card.answers, row, self.temperatures[exit_])


def model_digest(
    spec: BranchySpec, state: State, ranges: Mapping[str, Ranges] | None = None
) -> str:
    """SHA-256 over the architecture, every parameter and every calibrated range, by name."""
    digest = hashlib.sha256(spec.digest.encode())
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(state[name], dtype="<f4").tobytes())
    for name, of_layer in sorted((ranges or {}).items()):
        digest.update(f"ranges of {name}".encode())
        for end in (of_layer.low, of_layer.high):
            digest.update(np.ascontiguousarray(end, dtype="<f4").tobytes())
    return digest.hexdigest()


def expected_shapes(spec: BranchySpec) -> dict[str, tuple[int, ...]]:
    """Names and shapes of every parameter of an architecture."""
    named = [
        (layer, shape)
        for branch, shapes in zip(spec.branches, spec.shapes, strict=True)
        for layer, shape in zip(branch, shapes, strict=False)
    ]
    named += [(x, ()) for b in spec.bottlenecks for x in (b.encoder, b.decoder)]
    return {
        f"{layer.name}.{key}": size
        for layer, shape in named
        for key, size in layer.parameter_shapes(shape).items()
    }


def save_model(
    folder: str | Path,
    state: State,
    card: Card,
    ranges: Mapping[str, Ranges] | None = None,
    *,
    int8: bool = False,
) -> None:
    """Write weights, calibrated ranges where there are any, and the card last.

    `folder` is the model's. `state` are arrays by layer and name, `ranges` by layer; `card` holds
    their digests. `int8`: matrices take a quarter of their bytes; `state` is `stored.rounded` then.
    """
    folder = Path(folder)
    if ranges:
        ends = {f"{n}.low": r.low for n, r in ranges.items()}
        ends |= {f"{n}.high": r.high for n, r in ranges.items()}
        with atomic_write(folder / RANGES, "wb") as stream:
            stream.write(safetensors.numpy.save(dict(sorted(ends.items()))))
    with atomic_write(folder / WEIGHTS, "wb") as stream:
        tensors = packed(state) if int8 else state
        stream.write(safetensors.numpy.save(dict(sorted(tensors.items()))))
    write_json(folder / "card.json", card)


def model_folder(folder_or_name: str | Path) -> Path:
    """The folder of a shipped model by name, or the one named; refuses what is neither."""
    folder = Path(folder_or_name)
    if not folder.is_dir() and (SHIPPED / str(folder_or_name)).is_dir():
        folder = SHIPPED / str(folder_or_name)
    if not folder.is_dir():
        names = sorted(p.name for p in SHIPPED.iterdir() if p.is_dir()) if SHIPPED.is_dir() else []
        raise UsageError(
            f"model: found '{folder_or_name}', expected a folder with card.json or one of "
            f"{', '.join(names) or 'none shipped'}"
        )
    return folder


def load_model(folder_or_name: str | Path) -> Model:
    """A shipped model by name, or a folder's; refuses weights that do not match their card.

    Where they come in a package and were not put together yet, the model has no parameters.
    """
    folder = model_folder(folder_or_name)
    card = _read_card(folder / "card.json")
    path = weights_file(folder, card.digest)
    if path is None:
        ranges = _read_ranges(folder / RANGES, card.network)
        return Model(card.network, {}, card, card.digest, folder, ranges)
    state = read_weights(path, card.network)
    ranges = _read_ranges(folder / RANGES, card.network)
    digest = model_digest(card.network, state, ranges)
    if digest != card.digest:
        raise ArtefactError(path, field="digest", found=digest, expected=card.digest)
    return Model(card.network, state, card, digest, folder, ranges)


def keep_weights(folder: Path, state: State | Path) -> Path:
    """Keep the parameters of a shipped model that come in a package; the file that now has them.

    `folder` is the model's; `state` are its parameters, or a file that holds them. Refused where
    they are not what the card says.
    """
    card = _read_card(folder / "card.json")
    where = state if isinstance(state, Path) else folder / SOURCE
    if isinstance(state, Path):
        state = read_weights(state, card.network)
    found = model_digest(card.network, state, _read_ranges(folder / RANGES, card.network))
    if found != card.digest:
        raise ArtefactError(where, field="digest", found=found, expected=card.digest)
    path = place_for_weights(folder, card.digest)
    with atomic_write(path, "wb") as stream:
        stream.write(safetensors.numpy.save(dict(sorted(state.items()))))
    return path


def read_card(folder_or_name: str | Path) -> Card:
    """The card alone of a shipped model or of a folder's; the weights are not looked at."""
    return _read_card(model_folder(folder_or_name) / "card.json")


def _of_format_1(plain: dict[str, Any]) -> dict[str, Any]:
    """A card of format 1, whose networks took pictures and gave a class, as of today's."""
    if plain.get("format_version") != 1:
        return plain
    picture = {k: plain[k] for k in ("mean", "std") if k in plain}
    if len(picture) < 2:
        return plain | {"format_version": FORMAT_VERSION}
    rest = {k: v for k, v in plain.items() if k not in picture}
    kind = {"kind": "picture"} | picture
    return rest | {"format_version": FORMAT_VERSION, "preprocessing": kind}


def _read_card(path: Path) -> Card:
    try:
        card = read_json(
            path, Card, version=FORMAT_VERSION, most_bytes=DEVICE_JSON_BYTES, older=_of_format_1
        )
        exits = len(card.network.shapes)
        card.preprocessing.check(card.network.input_shape)
        card.answers.check(card.network.classes)
        _check_shapes(card.network)
        judge_of(card.judge, card.answers)  # a name that fits nothing would cost a run at its end
    except ArtefactError:
        raise
    except UsageError as error:  # a network that cannot be: the spec's own message, and the file
        raise ArtefactError(
            path, field="network", found=str(error), expected="a possible network"
        ) from None
    named_classes = card.answers.named(card.network.classes)
    names = (named_classes,) if card.answers.one_class else (0, named_classes)
    for named, figures, counts in (
        ("classes", card.classes, names),
        ("held_back_accuracies", card.held_back_accuracies, (0, exits)),
        ("test_accuracies", card.test_accuracies, (0, exits)),
        ("temperatures", card.temperatures, (0, exits)),
    ):
        if len(figures) not in counts:
            raise ArtefactError(
                path, field=named, found=str(len(figures)), expected=str(counts[-1])
            )
    if not all(0 < t < math.inf for t in card.temperatures):
        found = str(card.temperatures)
        raise ArtefactError(path, field="temperatures", found=found, expected="numbers above zero")
    return card


def _check_shapes(spec: BranchySpec) -> None:
    """Refuse tensors that are none, that no machine holds, or rows of other values than exits give.

    Room is made for what a card says of sizes before anything is computed.
    """
    for exit_, shapes in enumerate(spec.shapes, 1):
        for shape in shapes:
            if not all(size > 0 for size in shape) or math.prod(shape) > MOST_VALUES:
                raise UsageError(
                    f"exit {exit_}: found a tensor of shape {shape}, expected sizes above 0 and at "
                    f"most {MOST_VALUES:,} values"
                )
        if math.prod(shapes[-1]) != spec.classes:
            raise UsageError(
                f"exit {exit_}: found an end of shape {shapes[-1]}, expected {spec.classes} values"
            )


def _read_tensors(path: Path, most_bytes: int) -> State:
    raw = read_bytes(path, most_bytes, "safetensors weights")
    try:
        state: State = safetensors.numpy.load(raw)
    except (safetensors.SafetensorError, ValueError) as error:
        raise ArtefactError(path, found=str(error), expected="safetensors weights") from None
    return state


def _read_ranges(path: Path, spec: BranchySpec) -> dict[str, Ranges]:
    if not path.exists():
        return {}
    tensors = _read_tensors(path, RANGES_BYTES)
    channels = {
        layer.name: spec.crossing_shape(number, at)[0]
        for number, branch in enumerate(spec.branches)
        for at, layer in enumerate(branch, 1)
    } | {b.encoder.name: b.encoder.output_shape(())[0] for b in spec.bottlenecks}
    found: dict[str, Ranges] = {}
    for key, tensor in tensors.items():
        name, _, end = key.rpartition(".")
        if name not in channels or end not in ("low", "high"):
            raise ArtefactError(
                path, field=key, found="a tensor", expected="LAYER.low or LAYER.high of the network"
            )
        wanted = (2, channels[name])
        if tensor.shape != wanted or tensor.dtype != np.float32 or not np.isfinite(tensor).all():
            raise ArtefactError(
                path,
                field=key,
                found=f"{tensor.dtype} {tensor.shape}",
                expected=f"finite float32 {wanted}",
            )
    for name in sorted({key.rpartition(".")[0] for key in tensors}):
        if f"{name}.low" not in tensors or f"{name}.high" not in tensors:
            raise ArtefactError(path, field=name, found="one end", expected="low and high")
        found[name] = Ranges(tensors[f"{name}.low"], tensors[f"{name}.high"])
    return found


def read_weights(path: Path, spec: BranchySpec) -> State:
    """A network's parameters from a file; refused where they are not those of `spec`."""
    wanted = expected_shapes(spec)
    values = sum(math.prod(shape) for shape in wanted.values())
    state = _read_tensors(path, min(FLOAT_BYTES * values + NAMES_BYTES, WEIGHTS_BYTES))
    state = unpacked(path, state, wanted)
    for name in sorted(set(wanted) | set(state)):
        if name not in state:
            raise ArtefactError(
                path, field=name, found="nothing", expected=f"float32 {wanted[name]}"
            )
        if name not in wanted:
            raise ArtefactError(
                path, field=name, found="a tensor", expected=f"none of that name in '{spec.name}'"
            )
        tensor = state[name]
        if tensor.shape != wanted[name] or tensor.dtype != np.float32:
            raise ArtefactError(
                path,
                field=name,
                found=f"{tensor.dtype} {tensor.shape}",
                expected=f"float32 {wanted[name]}",
            )
    return state
