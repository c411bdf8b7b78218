"""The policy artefact: a directory of JSON + npz that decides without torch and without pickles.

`policy.json` says what the network is, what it was trained for and how; `policy.npz` holds its
weights. A policy made for another scenario, or for other plans, is refused.
"""

from __future__ import annotations

import io
import itertools
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from artefacts import ArtefactError, atomic_write, digest_bytes, digest_file, read_json, write_json
from controller.plans import Plan
from controller.policies.observation import NAMES
from controller.scenario import Setting

FORMAT_VERSION = 1
Float32s = npt.NDArray[np.float32]


class PolicyCard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`policy.json`: the network's shape, its observation, plans, scenario and training record."""

    format_version: int
    scenario: str
    scenario_digest: str
    model_digest: str
    observation: tuple[str, ...]
    plans: tuple[str, ...]
    layers: tuple[int, ...]
    activation: str
    weights_digest: str
    training: dict[str, Any]


@dataclass(frozen=True)
class Policy:
    """A multilayer perceptron: observation (FEATURES,) -> a score per plan."""

    card: PolicyCard
    weights: tuple[Float32s, ...]
    biases: tuple[Float32s, ...]

    def scores(self, observation: Float32s) -> Float32s:
        """Scores (..., P) of observations (..., FEATURES); the greatest is the policy's choice."""
        x = observation
        last = len(self.weights) - 1
        for k, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = x @ weight + bias
            if k < last:
                x = np.tanh(x)
        return x

    def decide(self, observation: Float32s) -> npt.NDArray[np.int64]:
        """Plan indices of observations."""
        return np.asarray(np.argmax(self.scores(observation), axis=-1))


def plan_names(plans: tuple[Plan, ...]) -> tuple[str, ...]:
    """The plans as text, by which a policy recognises its plan list."""
    return tuple(str(plan) for plan in plans)


def make_policy(
    setting: Setting,
    weights: list[Float32s],
    biases: list[Float32s],
    training: dict[str, Any],
) -> Policy:
    """A policy for a setting from its layers' weights (inputs, outputs) and biases."""
    card = PolicyCard(
        format_version=FORMAT_VERSION,
        scenario=setting.scenario.name,
        scenario_digest=setting.scenario.digest,
        model_digest=setting.model.digest,
        observation=NAMES,
        plans=plan_names(setting.table.plans),
        layers=tuple([weights[0].shape[0], *(w.shape[1] for w in weights)]),
        activation="tanh",
        weights_digest=digest_bytes(_packed(weights, biases)),
        training=training,
    )
    return Policy(card, tuple(weights), tuple(biases))


def save_policy(folder: str | Path, policy: Policy) -> None:
    """Write the artefact; the weights first, so that a card never names absent ones."""
    folder = Path(folder)
    with atomic_write(folder / "policy.npz", "wb") as stream:
        stream.write(_packed(list(policy.weights), list(policy.biases)))
    write_json(folder / "policy.json", policy.card)


def load_policy(folder: str | Path, setting: Setting) -> Policy:
    """Read a policy and hold it against the setting it shall decide for."""
    folder = Path(folder)
    path = folder / "policy.json"
    card = read_json(path, PolicyCard, version=FORMAT_VERSION)
    if card.scenario != setting.scenario.name:
        raise ArtefactError(
            path,
            field="scenario",
            found=f"a policy of '{card.scenario}'",
            expected=f"one of '{setting.scenario.name}'",
        )
    expected = {
        "scenario_digest": (card.scenario_digest, setting.scenario.digest),
        "model_digest": (card.model_digest, setting.model.digest),
        "observation": (str(card.observation), str(NAMES)),
        "plans": (str(card.plans), str(plan_names(setting.table.plans))),
        "activation": (card.activation, "tanh"),
    }
    for field, (found, wanted) in expected.items():
        if found != wanted:
            raise ArtefactError(path, field=field, found=found, expected=wanted)
    archive = folder / "policy.npz"
    found = digest_file(archive)
    if found != card.weights_digest:
        raise ArtefactError(archive, field="digest", found=found, expected=card.weights_digest)
    return Policy(card, *_unpacked(archive, card.layers))


def _packed(weights: list[Float32s], biases: list[Float32s]) -> bytes:
    arrays = {f"weight{k}": w for k, w in enumerate(weights)}
    arrays |= {f"bias{k}": b for k, b in enumerate(biases)}
    buffer = io.BytesIO()
    # a plain stored zip with fixed dates: the same weights give the same bytes
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in sorted(arrays.items()):
            part = io.BytesIO()
            np.save(part, np.ascontiguousarray(array, dtype=np.float32), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), part.getvalue())
    return buffer.getvalue()


def _unpacked(
    path: Path, layers: tuple[int, ...]
) -> tuple[tuple[Float32s, ...], tuple[Float32s, ...]]:
    weights: list[Float32s] = []
    biases: list[Float32s] = []
    try:
        with np.load(path, allow_pickle=False) as archive:
            for k, shape in enumerate(itertools.pairwise(layers)):
                weights.append(_shaped(path, archive, f"weight{k}", shape))
                biases.append(_shaped(path, archive, f"bias{k}", shape[1:]))
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise ArtefactError(path, found=str(error), expected="an npz of arrays") from None
    return tuple(weights), tuple(biases)


def _shaped(path: Path, archive: Any, name: str, shape: tuple[int, ...]) -> Float32s:
    if name not in archive:
        raise ArtefactError(path, field=name, found="nothing", expected=f"an array {shape}")
    array: Float32s = archive[name]
    if array.shape != shape or array.dtype != np.float32:
        raise ArtefactError(
            path, field=name, found=f"{array.dtype} {array.shape}", expected=f"float32 {shape}"
        )
    return array
