"""Which samples (pictures, sentences) a device process runs on: where they can be had, those that
the network was judged on. The prediction beside the run is of their recorded answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from artefacts import UsageError
from controller.scenarios import Setting
from models.data.datasets import Pictures, judged_pictures, judging_half
from models.data.generated import generated_samples
from models.data.judged_sentences import judged_sentences
from models.data.own_pictures import read_pictures
from models.data.pictures import unlabelled_pictures
from models.executors import Executor
from models.facts.judges import Labels, own_labels
from models.facts.preprocessing import PictureInput, Raw

GENERATED = 500
BATCH = 100
"""Samples that the whole network labels at once."""


@dataclass(frozen=True, slots=True)
class RunPictures:
    """Samples `x` (N, ...), as pictures (N, H, W, 3) are, with what is right of each (N, ...), and
    what they are.
    """

    x: Raw
    labels: Labels
    what: str
    judged: bool
    """Whether the network's recorded outcomes are of these pictures."""


def run_pictures(setting: Setting, executor: Executor, seed: int, data: Path | None) -> RunPictures:
    """The half that is reported on of the pictures that the network was judged on, by `seed`.

    `setting` is the scenario, `data` says where a user's labelled pictures are. Where the judged
    ones cannot be had, others are generated, which `executor` labels: an answer to them counts as
    right where it is the whole network's.
    """
    outcomes = setting.outcomes
    pictures = _given(setting, executor, data) if data is not None else _known(setting, executor)
    if pictures is None:
        return _generated(setting, executor, seed)
    order = picture_order(setting, seed)
    labels = pictures.y if outcomes.labels is None else outcomes.labels
    return RunPictures(pictures.x[order], labels[order], outcomes.dataset, True)


def picture_order(setting: Setting, seed: int) -> npt.NDArray[np.int64]:
    """Samples of the outcomes in the order in which a run shows them, again and again."""
    return np.random.default_rng(seed).permutation(setting.outcomes.half("report"))


def _known(setting: Setting, executor: Executor) -> Pictures | None:
    """Those of a public set that is here, or those that were generated for judging."""
    outcomes, training = setting.outcomes, setting.model.card.training
    vocabulary = setting.model.folder / "vocab.txt"
    public = judged_pictures(outcomes.dataset) or judged_sentences(
        outcomes.dataset, vocabulary, setting.spec.input_shape[0]
    )
    if public is not None:
        return public
    seed = training.get("seed")
    # cards of before do not say it: pictures without labels were generated ones
    made = training.get("generated", training.get("labelled") is False)
    if made is not True or not isinstance(seed, int) or seed < 0:
        return None
    if not isinstance(setting.model.preprocessing, PictureInput):
        return None
    height, width = setting.spec.input_shape[1:]
    x = unlabelled_pictures((height, width), seed)
    everything = Pictures(x, np.zeros(len(x), dtype=np.uint8))
    judged = everything.take(judging_half(everything, seed)[1])
    if len(judged) != outcomes.samples:
        return None
    if outcomes.labels is not None:  # what is right of them was recorded
        return judged
    if setting.model.answers.one_class:
        return None
    # of what is no class it was not: it is the whole network's own answer
    return Pictures(judged.x, _own_labels(setting, executor, judged.x))


def _given(setting: Setting, executor: Executor, data: Path) -> Pictures:
    """A user's pictures: all of them, or the half that judged; refused where they are others.

    Where nobody labelled them, what `executor` answers with the whole network is right.
    """
    outcomes, card = setting.outcomes, setting.model.card
    if not isinstance(card.preprocessing, PictureInput):
        raise UsageError(
            f"--data: found '{data}', expected none: network '{card.name}' takes "
            f"{card.preprocessing.name}, no pictures"
        )
    height, width = setting.spec.input_shape[1:]
    fit = card.preprocessing.fitting
    found = read_pictures(data, (height, width), likely=card.classes, fit=fit)
    if found.x.shape[1:3] != (height, width):
        raise UsageError(
            f"--data: found pictures of {found.x.shape[2]} x {found.x.shape[1]} in '{data}', "
            f"expected {width} x {height}, which network '{card.name}' takes"
        )
    if not found.y.size:
        found = Pictures(found.x, _own_labels(setting, executor, found.x), found.classes)
    seed = card.training.get("seed")
    halves = judging_half(found, seed)[1:] if isinstance(seed, int) and seed >= 0 else ()
    for judged in (found, *(found.take(half) for half in halves)):
        if len(judged) == outcomes.samples and (
            outcomes.labels is None or np.array_equal(judged.y, outcomes.labels)
        ):
            return judged
    raise UsageError(
        f"--data: found {len(found)} other pictures in '{data}', expected those on which network "
        f"'{card.name}' was judged ({outcomes.dataset}): what 'coinfer profile --data' was given"
    )


def _generated(setting: Setting, executor: Executor, seed: int) -> RunPictures:
    takes, shape = setting.model.preprocessing, setting.spec.input_shape
    made = generated_samples(takes, shape, GENERATED, np.random.default_rng(seed))
    of = "pictures" if isinstance(takes, PictureInput) else "samples"
    what = f"generated {of}, right = agrees with the whole network"
    return RunPictures(made, _own_labels(setting, executor, made), what, False)


def _own_labels(setting: Setting, executor: Executor, x: Raw) -> Labels:
    """What is right of samples (N, ...) if the whole network's own answers are."""
    last, model = len(setting.spec.exits) - 1, setting.model
    stop = len(setting.spec.branches[last])
    rows = [
        executor.run(last, 0, stop, model.normalise(x[k : k + BATCH]))
        for k in range(0, len(x), BATCH)
    ]
    return own_labels(model.answers, np.concatenate(rows))
