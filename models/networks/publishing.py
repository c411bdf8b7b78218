"""From trained weights to the artefact others load: weights, ranges, card, outcomes."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from artefacts import UsageError
from artefacts.arrays import Float32s
from models.codecs import Ranges, codec_named
from models.codecs.affine import calibrate
from models.data.datasets import Pictures
from models.facts.branchy import BranchySpec
from models.facts.cards import FORMAT_VERSION, Card, State, load_model, model_digest, save_model
from models.facts.confidence import fit_temperature
from models.facts.layers import LayerSpec
from models.facts.outcomes import Outcomes, save_outcomes
from models.graphs.onnx_graph import chain_model
from models.graphs.onnx_runtime import onnxruntime
from models.graphs.quantisation import observe_activations, save_activations
from models.networks.judging import LOSSY_CODECS, judge
from models.networks.training_data import Normalisation

CALIBRATION_PICTURES, LEAST_PICTURES = 256, 32
MOST_TENSOR_BYTES = 128 * 2**20
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where weights come from, for their card."""

    classes: tuple[str, ...]
    trained_on: str
    judged_on: str
    training: dict[str, Any]


def publish(
    folder: Path,
    spec: BranchySpec,
    state: State,
    origin: Origin,
    normalisation: Normalisation,
    held_back: Pictures,
    test: Pictures,
    *,
    codecs: Sequence[str] = LOSSY_CODECS,
    more_ranges: Mapping[str, Ranges] | None = None,
    progress: Progress = lambda done, total: None,
) -> Outcomes:
    """Write weights, card and outcomes; the test pictures are run here, once.

    `held_back` pictures judge nothing but choices: ranges are calibrated on them, and what every
    exit gives them is kept (`held_back.npz`) for temperatures, thresholds and gates. `more_ranges`:
    of learned codecs' latents.
    """
    _fits(spec, test)
    calibrated = any(codec_named(c).needs_ranges for c in codecs)
    ranges = calibrate_network(spec, state, normalisation, held_back) if calibrated else {}
    ranges |= dict(more_ranges or {})
    held: tuple[float, ...] = ()
    temperatures: tuple[float, ...] = ()

    def card(accuracies: tuple[float, ...]) -> Card:
        return Card(
            format_version=FORMAT_VERSION,
            name=spec.name,
            network=spec,
            digest=model_digest(spec, state, ranges),
            classes=origin.classes,
            dataset=origin.trained_on,
            mean=normalisation.mean,
            std=normalisation.std,
            training=origin.training
            | {"torch": str(torch.__version__), "machine": platform.machine()},
            held_back_accuracies=held,
            test_accuracies=accuracies,
            temperatures=temperatures,
        )

    save_model(folder, state, card(()), ranges)
    model = load_model(folder)
    threads = torch.get_num_threads()
    known = judge(model, held_back, "held-back training pictures", codecs=(), threads=threads)
    save_outcomes(folder / "held_back.npz", known)
    held = tuple(known.accuracy(i) for i in range(len(spec.exits)))
    temperatures = fitted_temperatures(known)
    seen = observe_activations(model, held_back.x[:CALIBRATION_PICTURES])
    save_activations(folder, seen)
    outcomes = judge(
        model, test, origin.judged_on, progress, codecs=codecs, threads=threads, activations=seen
    )
    save_outcomes(folder / "outcomes.npz", outcomes)
    accuracies = tuple(outcomes.accuracy(i) for i in range(len(spec.exits)))
    save_model(folder, state, card(accuracies), ranges)
    return outcomes


def fitted_temperatures(held_back: Outcomes) -> tuple[float, ...]:
    """Every exit's temperature, to four digits, from what it gave the held-back pictures."""
    logits, labels = held_back.logits, held_back.labels
    assert logits is not None
    assert labels is not None
    return tuple(round(fit_temperature(one, labels.astype(np.int64)), 4) for one in logits)


def calibrate_network(
    spec: BranchySpec, state: State, normalisation: Normalisation, pictures: Pictures
) -> dict[str, Ranges]:
    """Ranges of everything that may cross, by layer, from the first `CALIBRATION_PICTURES`.

    From fewer where the greatest tensor of so many would be larger than `MOST_TENSOR_BYTES`.
    """
    found: dict[str, Ranges] = {}
    largest = max(4 * math.prod(shape) for shapes in spec.shapes for shape in shapes)
    count = max(LEAST_PICTURES, min(CALIBRATION_PICTURES, MOST_TENSOR_BYTES // largest))
    few = pictures.take(np.arange(min(count, len(pictures))))
    x = normalisation.apply(few.x).numpy()
    for done in range(len(spec.trunk) + 1):
        if done:
            layer = spec.trunk[done - 1]
            x = _through(layer, state, x)
            if done < len(spec.trunk):
                found[layer.name] = calibrate(x)
        for exit_spec in spec.exits:
            head = x
            for layer in exit_spec.head[:-1] if exit_spec.after == done else ():
                head = _through(layer, state, head)
                found[layer.name] = calibrate(head)
    return found


def _through(layer: LayerSpec, state: State, x: Float32s) -> Float32s:
    """One layer on a batch, by ONNX Runtime: it knows every operator that may be captured."""
    graph = chain_model(layer.name, [layer], (x.shape[1:], layer.output_shape(x.shape[1:])), state)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    given = np.empty((len(x), *layer.output_shape(x.shape[1:])), dtype=np.float32)
    for k in range(0, len(x), 16):
        given[k : k + 16] = session.run(None, {"x": x[k : k + 16]})[0]
    return given


def _fits(spec: BranchySpec, pictures: Pictures) -> None:
    height, width = pictures.x.shape[1:3]
    if spec.input_shape != (3, height, width):
        raise UsageError(
            f"network '{spec.name}': found pictures of {width} x {height}, expected "
            f"{spec.input_shape[2]} x {spec.input_shape[1]}"
        )
    if int(pictures.y.max(initial=0)) >= spec.classes:
        raise UsageError(
            f"network '{spec.name}': found class {int(pictures.y.max())} among the labels, "
            f"expected 0 to {spec.classes - 1}"
        )
