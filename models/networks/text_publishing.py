"""A fine-tuned text encoder as a model's folder: lowered, stored in int8, judged on what is
published for that.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.torch
import torch

from artefacts import (
    DEVICE_JSON_BYTES,
    ArtefactError,
    UsageError,
    atomic_write,
    read_bytes,
    read_json,
)
from models.capture.lower import lower_verified
from models.capture.rows import RowModule
from models.data.datasets import Samples
from models.data.judged_sentences import PART_NAMES, dataset_name
from models.data.sentences import Texts, glue, hold_back_sentences, task_named, tokenised
from models.data.wordpiece import VOCABULARY_BYTES, WordPiece, read_wordpiece
from models.facts.outcomes import Outcomes
from models.facts.preprocessing import TokenInput
from models.facts.stored import rounded
from models.networks.publishing import Origin, Progress, Signature, publish
from models.networks.text import PADDING, WEIGHTS_BYTES, TextEncoder, TextShape
from models.networks.text_recipe import FORMAT_VERSION, TextTraining

CODECS = ("ids16",)
"""What crosses: the ids of a sentence are 50 bytes, the tensor at a cut 12 KB even in 4 bits."""
EXAMPLES = 4


@dataclass(frozen=True, slots=True)
class TrainedText:
    """A folder that `train_task` has written."""

    folder: Path
    training: TextTraining
    network: TextEncoder
    """In float32, as it was trained."""
    wordpiece: WordPiece

    @property
    def name(self) -> str:
        """Of the network, as a model."""
        return f"minilm-{self.training.task.lower().replace('-', '')}"


def read_trained(folder: Path) -> TrainedText:
    """Read `training.json`, weights and vocabulary; refuses what does not fit together."""
    path = folder / "training.json"
    training = read_json(
        path, TextTraining, version=FORMAT_VERSION, most_bytes=DEVICE_JSON_BYTES
    )  # fmt: skip
    try:
        task_named(training.task)
        network = TextEncoder(TextShape(**training.network)).eval()  # type: ignore[arg-type]
    except (UsageError, TypeError) as error:
        raise ArtefactError(path, found=str(error), expected="a text encoder") from None
    weights = folder / "weights.safetensors"
    try:
        state = safetensors.torch.load(read_bytes(weights, WEIGHTS_BYTES, "safetensors weights"))
        network.load_state_dict(state)
    except (safetensors.SafetensorError, ValueError, RuntimeError) as error:
        raise ArtefactError(
            weights, found=" ".join(str(error).split())[:200],
            expected="the weights of the encoder in training.json",
        ) from None  # fmt: skip
    return TrainedText(folder, training, network, read_wordpiece(folder / "vocab.txt"))


def publish_text(
    trained: TrainedText,
    out: Path,
    progress: Progress = lambda done, total: None,
    codecs: tuple[str, ...] = CODECS,
) -> Outcomes:
    """Write the folder of a model that `trained` becomes to `out`; gives its outcomes.

    Weights are stored in int8, and everything is judged with those: the sentences that were held
    back from training for choices, and the task's published test sentences (its validation
    sentences where those have no labels). `codecs` may cross; `progress` counts sentences.
    """
    task, length = task_named(trained.training.task), trained.network.shape.length
    takes = TokenInput(trained.network.shape.vocabulary, PADDING)
    part = "test" if task.has_test else "dev"
    test = _samples(glue(trained.training.task, part), trained.wordpiece, length)
    held = _samples(_held_back(trained.training), trained.wordpiece, length)
    first = torch.from_numpy(takes.apply(test.x[:EXAMPLES]))
    rows = RowModule(trained.network, takes)
    spec, state, _ = lower_verified(
        rows, first[:2], trained.name, samples=first, made_up=False
    )  # fmt: skip
    vocabulary = read_bytes(trained.folder / "vocab.txt", VOCABULARY_BYTES)
    with atomic_write(out / "vocab.txt", "wb") as stream:
        stream.write(vocabulary)
    return publish(
        out, spec, rounded(state), _origin(trained, part, len(held), len(test)), Signature(takes),
        held, test, codecs=codecs, progress=progress, int8=True,
        quantised=False,  # in int8 matrix products took longer than in float32 where it was tried
    )  # fmt: skip


def _samples(texts: Texts, wordpiece: WordPiece, length: int) -> Samples:
    """Sentences as the network takes them: ids int32 (N, L), classes (N,)."""
    found = tokenised(texts, wordpiece, length)
    ids: npt.NDArray[np.int32] = found.x.astype(np.int32)
    return Samples(ids, found.y, found.classes)


def _held_back(training: TextTraining) -> Texts:
    """The training sentences that were held back, by the seed of the training."""
    texts = glue(training.task, "train")
    _, held = hold_back_sentences(texts, int(training.arguments["seed"]))
    return Texts(tuple(texts.texts[k] for k in held.tolist()), texts.y[held], texts.classes)


def _origin(trained: TrainedText, part: str, held: int, judged: int) -> Origin:
    training, named = trained.training, PART_NAMES[part]
    return Origin(
        training.classes,
        f"{training.task} (GLUE, Wang et al. 2018): all-MiniLM-L6-v2 (Apache-2.0) fine-tuned on "
        f"{training.trained_on:,} sentences and phrases, {held} sentences held back, judged on "
        f"the {judged:,} {named} sentences",
        dataset_name(training.task, part, judged),
        {
            **training.arguments,
            "best_epoch": training.best_epoch,
            "steps": training.steps,
            "planned": training.planned,
            "pool": trained.network.shape.pool,
            "stored": "matrices in int8, a scale for each row or column",
        },
    )
