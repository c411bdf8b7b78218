"""What policies and generalists hold alike: what is seen, the belief, the contexts' range.

What was trained on a shorter context is read, too: what it was not shown has no weight.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from artefacts import ArtefactError, digest_bytes
from artefacts.arrays import Float32s
from controller.planners.queue_values import HARDLY
from controller.policies.arrays import Taker, read_arrays
from controller.policies.observation import (
    CANDIDATES,
    CONTEXT,
    DESCRIBED,
    EARLIER_CONTEXTS,
    MOST_OBSERVED,
)
from controller.policies.weights import Weights
from controller.sensing.belief import BandwidthBelief

BLIND_S_BOUNDS = (0.01, 3600.0)
"""Seconds after which a policy may ask a silent link: in less, probes would be a flood."""
FEW = 0.9
"""Levels of the bandwidth, times what is hardly probable: one of them is more than that always."""


class LearntCard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the cards of policies and generalists say alike: what is seen, and how it was learnt."""

    format_version: int
    context: tuple[str, ...]
    """Names of what is seen."""
    described: tuple[str, ...]
    """Names of what is said of a plan."""
    candidates: int
    """Plans that are scored at each decision."""
    hidden: int
    """Units of the scorer's hidden layers; 0 where there is no scorer."""
    blind_s: float
    """Nothing measured for so long: the link is asked."""
    weights_digest: str
    """SHA-256 of the arrays' file."""
    training: dict[str, Any]
    """How it was trained."""


CardT = TypeVar("CardT", bound=LearntCard)


def as_packed(card: CardT, raw: bytes) -> CardT:
    """The card of arrays that are written as `raw`: one read with an earlier context has grown."""
    return msgspec.structs.replace(card, context=CONTEXT, weights_digest=digest_bytes(raw))


def learnt_taker(path: Path, card: LearntCard, archive: Path, *, plain: bool = False) -> Taker:
    """The arrays in `archive`, which belong to the `card` at `path`.

    `plain`: of a network that is no scorer.

    Refused where it takes other inputs than observations have, and where the arrays are not those
    of the card.
    """
    earlier = card.context in EARLIER_CONTEXTS
    expected = {
        "context": (str(CONTEXT if earlier else card.context), str(CONTEXT)),
        "described": (str(card.described), str(DESCRIBED)),
        "candidates": (str(card.candidates), str(CANDIDATES)),
    }
    for field, (found, wanted) in expected.items():
        if found != wanted:
            raise ArtefactError(path, field=field, found=found, expected=wanted)
    if (card.hidden < 1) != plain:
        raise ArtefactError(
            path, field="hidden", found=f"{card.hidden}",
            expected="0" if plain else "a number above 0",
        )  # fmt: skip
    least_s, most_s = BLIND_S_BOUNDS
    if not least_s <= card.blind_s <= most_s:
        raise ArtefactError(
            path, field="blind_s", found=f"{card.blind_s:g}",
            expected=f"{least_s:g} to {most_s:g} seconds",
        )  # fmt: skip
    arrays = read_arrays(archive, card.weights_digest)
    return Taker(archive, shown_more(arrays, card.context) if earlier else arrays)


def shown_more(
    arrays: dict[str, npt.NDArray[Any]], context: tuple[str, ...]
) -> dict[str, npt.NDArray[Any]]:
    """Arrays of what was trained on a shorter `context`, as they stand for the whole one.

    They decide as before: what was not shown has no weight, and is outside of no range.
    """
    at = [CONTEXT.index(name) for name in context]
    found = dict(arrays)
    for name, missing in (
        ("weights_context", 0.0), ("layer_0_matrix", 0.0), ("lowest", -MOST_OBSERVED),
        ("highest", MOST_OBSERVED),
    ):  # fmt: skip
        array = arrays.get(name)
        if array is None or len(array) < len(at):
            continue  # refused where it is taken
        shape = (len(CONTEXT), *array.shape[1:])
        grown = np.full(shape, missing, dtype=array.dtype)
        grown[at] = array[: len(at)]
        found[name] = np.concatenate([grown, array[len(at) :]])
    return found


def learnt_arrays(
    weights: Weights, belief: BandwidthBelief, lowest: Float32s, highest: Float32s
) -> dict[str, npt.NDArray[Any]]:
    """What is learnt, by name, as it is taken from an artefact again.

    `weights` are the network's, `belief` is how the bandwidth moves; `lowest` and `highest`
    (context,) are the least and the greatest values met in training.
    """
    return weights.arrays() | {
        "belief_edges_bps": belief.edges_bps,
        "belief_rates_bps": belief.rates_bps,
        "belief_lags_s": belief.lags_s,
        "belief_kernels": belief.kernels.astype(np.float32),
        "lowest": lowest,
        "highest": highest,
    }


def taken_belief(take: Taker) -> BandwidthBelief:
    """The belief from an artefact's arrays."""
    rates = take("belief_rates_bps", None, np.float64)
    lags = take.rising("belief_lags_s", 2)
    k = len(rates)
    kernels = take("belief_kernels", (len(lags), k, k)).astype(np.float64)
    rising = bool((rates >= 0).all() and (np.diff(rates) >= 0).all())
    take.check("belief_rates_bps", rising, "rates of 0 or more that do not fall")
    fits = bool((kernels >= 0).all()) and np.allclose(kernels.sum(axis=-1), 1.0, atol=1e-3)
    take.check("belief_kernels", fits and k * HARDLY <= FEW, "rows of probabilities, few levels")
    edges = take("belief_edges_bps", (k - 1,), np.float64)
    take.check("belief_edges_bps", bool((np.diff(edges) >= 0).all()), "numbers that do not fall")
    return BandwidthBelief(edges, rates, lags, kernels)


def taken_range(take: Taker) -> tuple[Float32s, Float32s]:
    """The contexts met in training, least and greatest."""
    lowest, highest = (take(name, (len(CONTEXT),)) for name in ("lowest", "highest"))
    take.check("lowest", bool((lowest <= highest).all()), "nothing above 'highest'")
    return lowest, highest
