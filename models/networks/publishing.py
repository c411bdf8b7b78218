"""From trained weights to the artefact others load: weights, ranges, card, outcomes."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from artefacts import UsageError
from models.codecs import Ranges, codec_named
from models.data.datasets import Samples
from models.facts.answers import CLASSES, Answers
from models.facts.branchy import BranchySpec
from models.facts.cards import FORMAT_VERSION, Card, State, load_model, model_digest, save_model
from models.facts.confidence import fit_temperature
from models.facts.judges import Judge
from models.facts.outcomes import Outcomes, save_outcomes
from models.facts.preprocessing import Preprocessing
from models.graphs.quantisation import observe_activations, save_activations
from models.networks.calibration import CALIBRATION_PICTURES, calibrate_network
from models.networks.judging import LOSSY_CODECS, judge
from models.networks.kept_parts import kept_in, remove_parts
from models.networks.sizes import write_sizes

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where weights come from, for their card."""

    classes: tuple[str, ...]
    trained_on: str
    judged_on: str
    training: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Signature:
    """What a network takes and gives, and how an answer is judged (None: as is usual for it)."""

    preprocessing: Preprocessing
    answers: Answers = CLASSES
    judge: Judge | None = None
    judge_name: str = ""
    """What the card calls the judge."""


def publish(
    folder: Path,
    spec: BranchySpec,
    state: State,
    origin: Origin,
    signature: Signature,
    held_back: Samples,
    test: Samples,
    *,
    codecs: Sequence[str] = LOSSY_CODECS,
    more_ranges: Mapping[str, Ranges] | None = None,
    progress: Progress = lambda done, total: None,
    int8: bool = False,
    quantised: bool = True,
) -> Outcomes:
    """Write weights, card and outcomes to `folder`; the `test` samples are run here, once.

    `held_back` samples judge nothing but choices: ranges, temperatures, thresholds and gates.
    `more_ranges`: of learned codecs' latents. `spec` and `state` are architecture and weights from
    `origin`, which take and give what `signature` says; `codecs` are judged too.
    `progress(done, total)`: samples. What is judged is kept in `folder` meanwhile: where it was cut
    the same goes on. `int8`: matrices are stored so; `state` is `stored.rounded`
    then. `quantised`: whole branches are judged on a device's int8 executor, too.
    """
    _fits(spec, signature, test)
    calibrated = any(codec_named(c).needs_ranges for c in codecs)
    ranges = (
        calibrate_network(spec, state, signature.preprocessing, held_back) if calibrated else {}
    )
    ranges |= dict(more_ranges or {})
    card = _card(spec, model_digest(spec, state, ranges), origin, signature)
    save_model(folder, state, card, ranges, int8=int8)
    model = load_model(folder)
    threads = torch.get_num_threads()
    judge_by = signature.judge
    known = judge(
        model, held_back, "held-back training samples", codecs=(), threads=threads,
        judge_by=judge_by, keep=kept_in(folder, "held-back"),
    )  # fmt: skip
    save_outcomes(folder / "held_back.npz", known)
    card = msgspec.structs.replace(
        card, held_back_accuracies=_accuracies(known), temperatures=fitted_temperatures(known)
    )
    seen = observe_activations(model, held_back.x[:CALIBRATION_PICTURES]) if quantised else None
    if seen is not None:
        save_activations(folder, seen)
    outcomes = judge(
        model, test, origin.judged_on, progress, codecs=codecs, threads=threads, activations=seen,
        judge_by=judge_by, keep=kept_in(folder, "outcomes"),
    )  # fmt: skip
    save_outcomes(folder / "outcomes.npz", outcomes)
    write_sizes(folder, model, outcomes, test, kept_in(folder, "sizes"))
    card = msgspec.structs.replace(card, test_accuracies=_accuracies(outcomes))
    save_model(folder, state, card, ranges, int8=int8)
    remove_parts(folder)
    return outcomes


def _card(spec: BranchySpec, digest: str, origin: Origin, signature: Signature) -> Card:
    """A card without what judging will say."""
    return Card(
        format_version=FORMAT_VERSION,
        name=spec.name,
        network=spec,
        digest=digest,
        classes=origin.classes,
        dataset=origin.trained_on,
        preprocessing=signature.preprocessing,
        training=origin.training | {"torch": str(torch.__version__), "machine": platform.machine()},
        held_back_accuracies=(),
        test_accuracies=(),
        answers=signature.answers,
        judge=signature.judge_name,
    )


def _accuracies(outcomes: Outcomes) -> tuple[float, ...]:
    return tuple(outcomes.accuracy(i) for i in range(outcomes.exits))


def fitted_temperatures(held_back: Outcomes) -> tuple[float, ...]:
    """Every exit's temperature, to four digits, from what it gave the held-back samples.

    None where answers are no classes: what they say of their confidence is left as it is.
    """
    logits, labels = held_back.logits, held_back.labels
    if logits is None or labels is None:
        return ()
    return tuple(round(fit_temperature(one, labels.astype(np.int64)), 4) for one in logits)


def _fits(spec: BranchySpec, signature: Signature, samples: Samples) -> None:
    wanted = signature.preprocessing.raw_shape(spec.input_shape)
    if tuple(samples.x.shape[1:]) != wanted:
        raise UsageError(
            f"network '{spec.name}': found samples of shape {tuple(samples.x.shape[1:])}, "
            f"expected {wanted}"
        )
    if signature.answers.one_class and int(samples.y.max(initial=0)) >= spec.classes:
        raise UsageError(
            f"network '{spec.name}': found class {int(samples.y.max())} among the labels, "
            f"expected 0 to {spec.classes - 1}"
        )
