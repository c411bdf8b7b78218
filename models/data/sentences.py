"""Labelled sentences: GLUE's files, token ids of them, and what is held back for choices.

(Wang et al. 2018; SST-2: Socher et al. 2013; RTE: Dagan et al. 2006; CoLA: Warstadt et al. 2019.)
Torch-free: a device that replays reads the same sentences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from artefacts import ArtefactError, UsageError, data_directory, read_bytes
from models.data.wordpiece import WordPiece

TEXT_BYTES = 2**26
HELD_BACK_SHARE = 0.05
"""Of a task's sentences, with all that is cut out of them."""


@dataclass(frozen=True, slots=True)
class Task:
    """Where a task's columns are."""

    classes: tuple[str, ...]
    """Names, in the order of the scores."""
    labels: tuple[str, ...]
    """As the file has them, in the same order."""
    columns: int
    label: int
    """Column of the label, from 0."""
    first: int
    """Column of the sentence."""
    second: int | None
    """Column of the other sentence of a pair."""
    header: bool
    """Whether the first line names the columns."""
    length: int
    """Tokens at most."""
    has_test: bool = False
    """Whether its test sentences are here with their labels."""


TASKS = {
    "SST-2": Task(("negative", "positive"), ("0", "1"), 2, 1, 0, None, True, 64, True),
    "RTE": Task(
        ("entailment", "not_entailment"), ("entailment", "not_entailment"), 4, 3, 1, 2, True, 128
    ),
    "CoLA": Task(("unacceptable", "acceptable"), ("0", "1"), 4, 1, 3, None, False, 64),
}
PARTS = {"train": "train.tsv", "dev": "dev.tsv", "test": "test_labelled.tsv"}


@dataclass(frozen=True, slots=True)
class Texts:
    """Labelled sentences, or pairs of sentences, in words."""

    texts: tuple[tuple[str, str | None], ...]
    y: npt.NDArray[np.uint8]
    """Class of each (N,)."""
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True, slots=True)
class Sentences:
    """Labelled sentences as token ids: `x` uint16 (N, L), padded with 0, `y` uint8 (N,)."""

    x: npt.NDArray[np.uint16]
    y: npt.NDArray[np.uint8]
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.y)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of every sentence (N,)."""
        counts: npt.NDArray[np.int64] = (self.x != 0).sum(axis=1)
        return counts

    def take(self, indices: npt.NDArray[np.int64]) -> Sentences:
        """The sentences at `indices`, in that order."""
        return Sentences(self.x[indices], self.y[indices], self.classes)


def task_named(name: str) -> Task:
    """The task called `name`; refuses one that is not known."""
    if name not in TASKS:
        raise UsageError(f"task: found '{name}', expected one of {', '.join(TASKS)}")
    return TASKS[name]


def glue(name: str, part: str, folder: Path | None = None) -> Texts:
    """A task's sentences: part 'train', 'dev', or SST-2's 'test', in the published order.

    `folder`: where the data lie that `glue/` is part of. Raises `ArtefactError` with the line
    where one is not as it should be.
    """
    task = task_named(name)
    root = folder or data_directory()
    if root is None or not (root / "glue" / name).is_dir():
        raise UsageError(
            f"{name}: found no data folder, expected 'glue/{name}/' in ../shared/data or in the "
            "folder named by COINFER_DATA"
        )
    return read_texts(root / "glue" / name / PARTS[part], task)


def read_texts(path: Path, task: Task) -> Texts:
    """The labelled sentences of one file of a task, tab-separated."""
    try:
        lines = read_bytes(path, TEXT_BYTES, "tab-separated text").decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ArtefactError(
            path, found=f"byte {error.start} that is no UTF-8", expected="text in UTF-8"
        ) from None
    texts: list[tuple[str, str | None]] = []
    labels: list[int] = []
    for number, line in enumerate(lines, 1):
        if (number == 1 and task.header) or (number == len(lines) and not line):
            continue
        columns = line.rstrip("\r").split("\t")
        if len(columns) != task.columns:
            raise ArtefactError(
                path, line=number,
                found=f"{len(columns)} columns", expected=f"{task.columns}, separated by tabs",
            )  # fmt: skip
        label = columns[task.label].strip()
        if label not in task.labels:
            raise ArtefactError(
                path, line=number, field="label",
                found=f"'{label[:20]}'", expected=f"one of {', '.join(task.labels)}",
            )  # fmt: skip
        texts.append((columns[task.first], None if task.second is None else columns[task.second]))
        labels.append(task.labels.index(label))
    if not texts:
        raise ArtefactError(path, found="no sentence", expected="one a line")
    return Texts(tuple(texts), np.array(labels, dtype=np.uint8), task.classes)


def tokenised(texts: Texts, wordpiece: WordPiece, length: int) -> Sentences:
    """Sentences as rows of `length` token ids."""
    x = np.full((len(texts), length), wordpiece.padding, dtype=np.uint16)
    for row, (text, other) in zip(x, texts.texts, strict=True):
        ids = wordpiece.encode(text, other, length=length)
        row[: len(ids)] = ids
    return Sentences(x, texts.y, texts.classes)


def hold_back_sentences(
    texts: Texts, seed: int, share: float = HELD_BACK_SHARE
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Which sentences train, and which are held back for choices: drawn by `seed`, in order.

    Whole sentences are held back. Phrases cut out of one (SST-2 has ten of each) neither train nor
    judge then: whoever has seen them knows the sentence's label. A phrase that a sentence which
    trains has too stays.
    """
    words, parts, whole = _cut(texts)
    order = np.random.default_rng(seed).permutation(len(whole))
    count = max(1, round(share * len(whole)))
    held = np.sort(whole[order[:count]])
    said = {words[k] for k in held.tolist()}
    kept = [k for k in whole[order[count:]].tolist() if words[k] not in said]
    cut_out = set().union(*(parts[k] for k in held.tolist()))
    stays = set().union(*(parts[k] for k in kept))
    gone = said | (cut_out - stays)
    trained = [k for k, one in enumerate(words) if one not in gone]
    return np.array(trained, dtype=np.int64), held


def whole_sentences(texts: Texts) -> npt.NDArray[np.bool_]:
    """Which texts are cut out of no other one (N,)."""
    found = np.zeros(len(texts), dtype=np.bool_)
    found[_cut(texts)[2]] = True
    return found


def _cut(
    texts: Texts,
) -> tuple[list[tuple[str, ...]], list[set[tuple[str, ...]]], npt.NDArray[np.int64]]:
    """Every text's words, the other texts that are cut out of it, and which are themselves not."""
    words = [tuple(f"{a} {b or ''}".split()) for a, b in texts.texts]
    known = set(words)
    parts = [_parts(one, known) for one in words]
    within = set().union(*parts)
    whole = [k for k, one in enumerate(words) if one not in within]
    return words, parts, np.array(whole, dtype=np.int64)


def _parts(words: Sequence[str], known: set[tuple[str, ...]]) -> set[tuple[str, ...]]:
    """The texts of `known` that are cut out of one of words, itself not among them."""
    one = tuple(words)
    spans = (one[a:b] for a in range(len(one)) for b in range(a + 1, len(one) + 1))
    return {span for span in spans if span in known and span != one}
