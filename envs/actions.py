"""What may be asked of an environment: actions within its space, seeds, resets of real lanes.

Every environment checks with these before anything is changed: an index below zero would stand for
the last plan, and a fraction for a neighbour.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from artefacts import UsageError
from artefacts.arrays import Bools, Ints


def checked_actions(actions: Any, lanes: int, count: int) -> Ints:
    """`actions` (lanes,) as numbers from 0 to `count` - 1; anything else is a `UsageError`."""
    found = np.asarray(actions)
    if found.shape != (lanes,):
        raise UsageError(f"actions: found shape {found.shape}, expected ({lanes},)")
    if found.dtype.kind not in "iu":
        raise UsageError(f"actions: found {found.dtype}, expected whole numbers")
    outside = (found < 0) | (found >= count)
    if outside.any():
        lane = int(np.argmax(outside))
        raise UsageError(f"action of lane {lane}: found {found[lane]}, expected 0 to {count - 1}")
    return found.astype(np.int64)


def reset_mask(options: Mapping[str, Any] | None, lanes: int) -> Bools | None:
    """The lanes that `options["reset_mask"]` names (Gymnasium's vector API); None: all of them."""
    if not options:
        return None
    unknown = sorted(set(options) - {"reset_mask"})
    if unknown:
        raise UsageError(f"options: found {unknown[0]!r}, expected reset_mask")
    mask = options["reset_mask"]
    fits = isinstance(mask, np.ndarray) and mask.dtype == np.bool_ and mask.shape == (lanes,)
    if not fits or not mask.any():
        found = f"{mask.dtype} {mask.shape}" if isinstance(mask, np.ndarray) else repr(mask)[:60]
        if fits:
            found = "no lane in it"
        raise UsageError(
            f"options['reset_mask']: found {found}, expected booleans ({lanes},), one true at least"
        )
    return np.asarray(mask, dtype=np.bool_)


def checked_seed(seed: Any) -> None:
    """Refuse a seed that is no whole number from 0 (None is none)."""
    if seed is None:
        return
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise UsageError(f"seed: found {seed!r}, expected whole numbers from 0")


def lane_seeds(seed: Any, lanes: int) -> int | list[int] | None:
    """One seed for all lanes, or a list with one for each of them; None: no seed."""
    known = [s for s in (seed if isinstance(seed, list) else [seed]) if s is not None]
    for one in known:
        checked_seed(one)
    if not isinstance(seed, list):
        return None if seed is None else int(seed)
    if len(seed) != lanes or 0 < len(known) < len(seed):
        raise UsageError(
            f"seed: found {len(known)} of a list of {len(seed)}, expected one for each of "
            f"{lanes} lanes, or none at all"
        )
    return known or None
