"""The policy artefact: a directory of JSON + npz that decides without torch and without pickles.

`policy.json` says what the policy is, what it was trained for and how; `policy.npz` holds its
weights, the belief about the bandwidth and planning's advantages that its inputs are made of, and
the range of the contexts it was trained on. A policy made for another scenario, or for other plans,
is refused.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from artefacts import ArtefactError, atomic_write, digest_bytes, digest_file, read_json, write_json
from controller.planners.queue_values import HARDLY, QueueAdvantages
from controller.plans import Plan
from controller.policies.view import CANDIDATES, CONTEXT, DESCRIBED, PolicyView
from controller.scenario import Setting
from controller.sensing.belief import BandwidthBelief

FORMAT_VERSION = 2
Float32s = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]


class PolicyCard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`policy.json`: what the policy sees, its plans and scenario, and its training record."""

    format_version: int
    scenario: str
    scenario_digest: str
    model_digest: str
    context: tuple[str, ...]
    described: tuple[str, ...]
    candidates: int
    plans: tuple[str, ...]
    hidden: int
    blind_s: float
    weights_digest: str
    training: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ScorerWeights:
    """One small network that scores every candidate by itself; H hidden units.

    score = w_out . relu(M relu(A context + B description + a) + m) + sharpness x advantage, with
    the 20-fold advantage that the description begins with: at w_out = 0 it is planning alone.
    """

    context: Float32s
    context_bias: Float32s
    described: Float32s
    middle: Float32s
    middle_bias: Float32s
    out: Float32s
    sharpness: Float32s

    def scores(self, flat: Float32s) -> Float32s:
        """Scores (L, K) of rows of `View.flat` (L, WIDTH); absent candidates come last."""
        lanes, c = len(flat), len(CONTEXT)
        described = flat[:, c:-CANDIDATES].reshape(lanes, CANDIDATES, len(DESCRIBED))
        about = flat[:, :c] @ self.context + self.context_bias
        hidden = np.maximum(about[:, None, :] + described @ self.described, 0.0)
        hidden = np.maximum(hidden @ self.middle + self.middle_bias, 0.0)
        scores = hidden @ self.out + self.sharpness[0] * described[:, :, 0]
        return np.asarray(scores - ABSENT * (1.0 - flat[:, -CANDIDATES:]), dtype=np.float32)


ABSENT = np.float32(1e4)
"""What is taken from the score of a candidate that is not there."""


@dataclass(frozen=True)
class Policy:
    """Weights, what their inputs are made of, and the contexts' range in training (C,) each."""

    card: PolicyCard
    weights: ScorerWeights
    belief: BandwidthBelief
    advantages: QueueAdvantages
    lowest: Float32s
    highest: Float32s

    def view(self, setting: Setting) -> PolicyView:
        """What looks at a stream of `setting` for this policy."""
        return PolicyView(setting, self.belief, self.advantages)

    def scores(self, flat: Float32s) -> Float32s:
        """Scores (L, K) of the candidates; the greatest is the policy's choice."""
        return self.weights.scores(flat)

    def decide(self, flat: Float32s) -> npt.NDArray[np.int64]:
        """Which candidate (L,) of each row."""
        return np.asarray(np.argmax(self.scores(flat), axis=-1))

    def outside(self, context: Float32s) -> npt.NDArray[np.bool_]:
        """Which contexts (L, C) leave the range of training by more than `MARGIN` of its width."""
        slack = MARGIN * (self.highest - self.lowest) + 1e-3
        off = (context < self.lowest - slack) | (context > self.highest + slack)
        return np.asarray(off.any(axis=-1))


MARGIN = 0.1


def plan_names(plans: tuple[Plan, ...]) -> tuple[str, ...]:
    """The plans as text, by which a policy recognises its plan list."""
    return tuple(str(plan) for plan in plans)


def make_policy(
    setting: Setting,
    weights: ScorerWeights,
    belief: BandwidthBelief,
    advantages: QueueAdvantages,
    contexts: tuple[Float32s, Float32s],
    training: dict[str, Any],
    blind_s: float,
) -> Policy:
    """A policy for a setting; `contexts` are the least and greatest values met in training.

    Tables are kept as they will be written, so that what is saved decides as what was trained.
    """
    belief, advantages = as_written(belief, advantages)
    arrays = _arrays(weights, belief, advantages, *contexts)
    card = PolicyCard(
        format_version=FORMAT_VERSION,
        scenario=setting.scenario.name,
        scenario_digest=setting.scenario.digest,
        model_digest=setting.model.digest,
        context=CONTEXT,
        described=DESCRIBED,
        candidates=CANDIDATES,
        plans=plan_names(setting.table.plans),
        hidden=len(weights.out),
        blind_s=blind_s,
        weights_digest=digest_bytes(_packed(arrays)),
        training=training,
    )
    return Policy(card, weights, belief, advantages, *contexts)


def as_written(
    belief: BandwidthBelief, advantages: QueueAdvantages
) -> tuple[BandwidthBelief, QueueAdvantages]:
    """Both at the precision of the artefact: half of it for advantages, single for kernels."""
    kernels = belief.kernels.astype(np.float32).astype(np.float64)
    table = advantages.table.astype(np.float16).astype(np.float32)
    return (
        BandwidthBelief(belief.edges_bps, belief.rates_bps, belief.lags_s, kernels),
        QueueAdvantages(advantages.device_s, advantages.uplink_s, table),
    )


def save_policy(folder: str | Path, policy: Policy) -> None:
    """Write the artefact; the weights first, so that a card never names absent ones."""
    folder = Path(folder)
    arrays = _arrays(
        policy.weights, policy.belief, policy.advantages, policy.lowest, policy.highest
    )
    with atomic_write(folder / "policy.npz", "wb") as stream:
        stream.write(_packed(arrays))
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
        "context": (str(card.context), str(CONTEXT)),
        "described": (str(card.described), str(DESCRIBED)),
        "candidates": (str(card.candidates), str(CANDIDATES)),
        "plans": (str(card.plans), str(plan_names(setting.table.plans))),
    }
    for field, (found, wanted) in expected.items():
        if found != wanted:
            raise ArtefactError(path, field=field, found=found, expected=wanted)
    if card.hidden < 1 or not card.blind_s > 0:
        raise ArtefactError(
            path, field="hidden, blind_s", found=f"{card.hidden}, {card.blind_s}",
            expected="numbers above 0",
        )  # fmt: skip
    archive = folder / "policy.npz"
    found = digest_file(archive)
    if found != card.weights_digest:
        raise ArtefactError(archive, field="digest", found=found, expected=card.weights_digest)
    return _unpacked(archive, card, setting)


def _arrays(
    weights: ScorerWeights,
    belief: BandwidthBelief,
    advantages: QueueAdvantages,
    lowest: Float32s,
    highest: Float32s,
) -> dict[str, npt.NDArray[Any]]:
    arrays: dict[str, npt.NDArray[Any]] = {
        f"weights_{name}": getattr(weights, name) for name in ScorerWeights.__slots__
    }
    return arrays | {
        "belief_edges_bps": belief.edges_bps,
        "belief_rates_bps": belief.rates_bps,
        "belief_lags_s": belief.lags_s,
        "belief_kernels": belief.kernels.astype(np.float32),
        "advantages_device_s": advantages.device_s,
        "advantages_uplink_s": advantages.uplink_s,
        "advantages_table": advantages.table.astype(np.float16),
        "lowest": lowest,
        "highest": highest,
    }


def _packed(arrays: dict[str, npt.NDArray[Any]]) -> bytes:
    buffer = io.BytesIO()
    # fixed dates and order: the same arrays give the same bytes
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in sorted(arrays.items()):
            part = io.BytesIO()
            np.save(part, np.ascontiguousarray(array), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            archive.writestr(entry, part.getvalue(), zipfile.ZIP_DEFLATED, 9)
    return buffer.getvalue()


def _unpacked(path: Path, card: PolicyCard, setting: Setting) -> Policy:
    take = _Taker(path, _read(path))
    c, f, h = len(CONTEXT), len(DESCRIBED), card.hidden
    weights = ScorerWeights(
        take("weights_context", (c, h)), take("weights_context_bias", (h,)),
        take("weights_described", (f, h)), take("weights_middle", (h, h)),
        take("weights_middle_bias", (h,)), take("weights_out", (h,)),
        take("weights_sharpness", (1,)),
    )  # fmt: skip
    rates = take("belief_rates_bps", None, np.float64)
    lags = take.rising("belief_lags_s", 2)
    k = len(rates)
    kernels = take("belief_kernels", (len(lags), k, k)).astype(np.float64)
    take.check("belief_rates_bps", bool((rates >= 0).all()), "rates of 0 or more")
    fits = bool((kernels >= 0).all()) and np.allclose(kernels.sum(axis=-1), 1.0, atol=1e-3)
    take.check("belief_kernels", fits and k * HARDLY <= 1.0, "rows of probabilities, few levels")
    edges = take("belief_edges_bps", (k - 1,), np.float64)
    take.check("belief_edges_bps", bool((np.diff(edges) >= 0).all()), "numbers that do not fall")
    device = take.rising("advantages_device_s", 1)
    uplink = take.rising("advantages_uplink_s", 1)
    take.check("advantages_uplink_s", (len(device) > 1) == (len(uplink) > 1), "two grids or none")
    shape = (len(device), len(uplink), k, len(setting.table))
    table = take("advantages_table", shape, np.float16).astype(np.float32)
    lowest, highest = take("lowest", (c,)), take("highest", (c,))
    take.check("lowest", bool((lowest <= highest).all()), "nothing above 'highest'")
    belief = BandwidthBelief(edges, rates, lags, kernels)
    return Policy(card, weights, belief, QueueAdvantages(device, uplink, table), lowest, highest)


MOST_BYTES = 64 * 2**20
"""What a policy's arrays may take; shipped ones take 2 MB."""


def _read(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Every array of an npz, after its members' sizes were looked at."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
            if size > MOST_BYTES:
                raise ArtefactError(path, found=f"{size} bytes", expected=f"at most {MOST_BYTES}")
            arrays = {}
            for member in archive.infolist():
                raw = archive.read(member)
                arrays[member.filename.removesuffix(".npy")] = np.lib.format.read_array(
                    io.BytesIO(raw), allow_pickle=False
                )
            return arrays
    except (ValueError, OSError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error,
            RuntimeError, NotImplementedError) as error:  # fmt: skip
        raise ArtefactError(path, found=str(error), expected="an npz of arrays") from None


@dataclass(frozen=True, slots=True)
class _Taker:
    """Arrays by name, refused where shape or type is not what the card says."""

    path: Path
    arrays: dict[str, npt.NDArray[Any]]

    def __call__(
        self, name: str, shape: tuple[int, ...] | None, dtype: type = np.float32
    ) -> npt.NDArray[Any]:
        if name not in self.arrays:
            raise ArtefactError(self.path, field=name, found="nothing", expected="an array")
        array = self.arrays[name]
        fits = array.ndim == 1 and len(array) > 0 if shape is None else array.shape == shape
        if not fits or array.dtype != dtype:
            raise ArtefactError(
                self.path,
                field=name,
                found=f"{array.dtype} {array.shape}",
                expected=f"{np.dtype(dtype)} {'(N,)' if shape is None else shape}",
            )
        if not np.isfinite(array).all():
            raise ArtefactError(self.path, field=name, found="NaN or inf", expected="numbers")
        return array

    def rising(self, name: str, least: int) -> Floats:
        """A grid: numbers from 0 on, each above the last, `least` of them or more."""
        grid: Floats = self(name, None, np.float64)
        rises = bool((np.diff(grid) > 0).all()) and grid[0] == 0.0 and len(grid) >= least
        self.check(name, rises, f"{least} or more numbers that rise from 0")
        return grid

    def check(self, name: str, fits: bool, expected: str) -> None:
        """Refuse the array where it is not what it must be."""
        if not fits:
            found = np.array2string(self.arrays[name].ravel()[:4], precision=4)
            raise ArtefactError(self.path, field=name, found=f"{found} ...", expected=expected)
