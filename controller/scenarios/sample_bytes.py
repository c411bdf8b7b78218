"""What the samples of a scenario's outcomes weigh on the wire, and which of them are alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from artefacts import ArtefactError
from artefacts.arrays import Float32s, Floats, Ints
from controller.plans import Plan
from models.facts.cards import Model
from models.facts.outcomes import Key, Outcomes
from models.facts.sizes import FILE as SIZES
from models.facts.sizes import SampleSizes, read_sizes

__all__ = ["SIZES", "SampleSizes", "class_of", "load_sizes", "picture_bytes", "weights_of"]


def load_sizes(model: Model, outcomes: Outcomes) -> SampleSizes:
    """Bytes of every sample by codecs whose bytes depend on it; refuses other pictures'."""
    path = model.folder / SIZES
    if not path.exists():
        raise ArtefactError(
            path, field="world", found="no such file",
            expected=f"one made by 'python -m models.networks.sizes {model.folder}'",
        )  # fmt: skip
    found = read_sizes(model.folder)
    for field, value, wanted in (
        ("model_digest", found.model_digest, model.digest),
        ("sizes", f"{found.samples} samples", f"{outcomes.samples} samples"),
    ):
        if value != wanted:
            raise ArtefactError(path, field=field, found=value, expected=wanted)
    return found


def weights_of(
    sizes: SampleSizes, outcomes: Outcomes, plans: Sequence[Plan], samples: Ints
) -> tuple[Float32s, Ints]:
    """Bytes of samples over their mean, (K, S), and which of the K rows each plan has, (R,).

    `sizes` and `outcomes` are of the same network and pictures, `plans` are R, and `samples` (S,)
    index the outcomes. Row 0 is of plans whose bytes are the same for every sample.
    """
    kept: dict[Key | None, int] = {None: 0}
    weights = [np.ones(len(samples), dtype=np.float32)]
    row = np.zeros(len(plans), dtype=np.int64)
    for number, plan in enumerate(plans):
        if plan.is_local:
            continue
        key = (plan.exit, plan.hops[0].codec, plan.hops[0].start)
        own = sizes.bytes_of(*key)
        if own is not None and key not in kept:
            kept[key] = len(weights)
            weights.append((own[samples] / outcomes.mean_bytes(*key)).astype(np.float32))
        row[number] = kept.get(key, 0)
    return np.stack(weights), row


def class_of(model: Model, outcomes: Outcomes, half: str) -> Ints:
    """Class of each sample of a half, (S,)."""
    if outcomes.labels is None:
        raise ArtefactError(
            model.folder / "outcomes.npz", field="labels", found="nothing",
            expected="classes: scenes (world.scene_s) are of one",
        )  # fmt: skip
    found: Ints = outcomes.labels[outcomes.half(half)].astype(np.int64)
    return found


def picture_bytes(sizes: SampleSizes, outcomes: Outcomes, half: str) -> Floats:
    """Bytes of each sample of a half, (S,), by the first codec of pictures that was recorded."""
    at = min((k for k, key in enumerate(sizes.keys) if key[2] == 0), default=0)
    found: Floats = sizes.sizes[sizes.row[at], outcomes.half(half)].astype(np.float64)
    return found
