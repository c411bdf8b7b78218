"""The sentences that a text network was judged on, as it takes them, where their data set is."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from artefacts import data_directory
from models.data.datasets import Samples
from models.data.sentences import TASKS, glue, tokenised
from models.data.wordpiece import read_wordpiece

PART_NAMES = {"dev": "validation", "test": "test"}
"""What the published parts of a task are called in the name of a data set."""


def dataset_name(task: str, part: str, sentences: int) -> str:
    """What outcomes on a part ('dev' or 'test') of so many sentences of a task call it."""
    return f"{task} {PART_NAMES[part]} ({sentences:,} sentences)"


def judged_sentences(dataset: str, vocabulary: Path, length: int) -> Samples | None:
    """Token ids int32 (N, L) and classes (N,) of a data set as `dataset_name` calls it.

    `vocabulary` is the file of the network's tokens, `length` how many it takes. None where it is
    no such data set, or its files are not here.
    """
    root = data_directory()
    for task in TASKS:
        for part, named in PART_NAMES.items():
            if not dataset.startswith(f"{task} {named} (") or root is None:
                continue
            if not (root / "glue" / task).is_dir() or not vocabulary.is_file():
                return None
            found = tokenised(glue(task, part), read_wordpiece(vocabulary), length)
            return Samples(found.x.astype(np.int32), found.y, found.classes)
    return None
