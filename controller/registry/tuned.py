"""What baselines are tuned to on the training traces: an artefact, made once and found by its key.

A fixed plan and the rate rule's margin are chosen by running every plan and every margin over the
training traces, which takes minutes. `coinfer tune` does it (`experiments.evaluation.tuning`);
coinfer brings the values for its own scenarios, with the real logs and with their stand-ins; others
are kept in the user's cache. The key covers the scenario with all that it names and the training
traces. Belief and configuration map take less than a second and are made anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from artefacts import DEVICE_JSON_BYTES, CoinferError, UsageError, digest_bytes, read_json
from artefacts.cache import is_guarded, private_folder
from controller.planners.fixed import hedging_plans
from controller.planners.rate_rule import MARGINS
from controller.scenarios import Setting
from traces.trace import BandwidthTrace, traces_digest

FORMAT_VERSION = 1
SHIPPED_VALUES = Path(__file__).parent / "tuned_values"
KEPT = "tuned"
"""Folder of the cache, and how files of tuned values are called elsewhere."""
CHOICE_FRAMES = 16_000
"""Of every training trace, for what is chosen there: whole Belgium logs and all but few Norwegian
ones (with the first minutes alone others are chosen, which do worse)."""
FIRST_FRAMES, FINALISTS = 1500, 3
"""The rate rule's margins are tried on so many first; so many of the best on all of the above."""


class Tuned(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Tuned values of one scenario on one set of training traces; an empty tuple is not made yet.

    Rewards are mean rewards per frame on the training traces, traces counted as they were run.
    """

    format_version: int
    key: str
    """SHA-256 of what the values depend on: the scenario with all it names, the training traces,
    how values are chosen."""
    scenario: str
    """The scenario's name."""
    training: str
    """Where the training traces came from."""
    check: tuple[float, ...]
    """What every plan, and the rate rule, earns on the first frames of one training trace: values
    are made anew where the same code no longer gives the same."""
    single_rewards: tuple[float, ...] = ()
    """Of every plan of the scenario's table, used alone (P,)."""
    margins: tuple[float, ...] = ()
    """Margins of the rate rule that were tried."""
    margin_rewards: tuple[float, ...] = ()
    """Of the rate rule with each of `margins`; a large negative number where one was out early."""

    @property
    def margin(self) -> float:
        """The rate rule's margin that did best."""
        return self.margins[int(np.argmax(self.margin_rewards))]

    def fixed_plan(self, setting: Setting) -> int:
        """The plan without hedging that did best."""
        return int(np.argmax(np.where(hedging_plans(setting), -np.inf, self.single_rewards)))

    def hedged_plan(self, setting: Setting) -> int:
        """The plan with hedging that did best."""
        return int(np.argmax(np.where(hedging_plans(setting), self.single_rewards, -np.inf)))


def tuned_key(setting: Setting, training: Sequence[BandwidthTrace]) -> str:
    """SHA-256 of what tuned values depend on, the code aside."""
    how = (FORMAT_VERSION, CHOICE_FRAMES, FIRST_FRAMES, FINALISTS, *MARGINS)
    parts = (setting.digest, traces_digest(training), repr(how))
    return digest_bytes("\n".join(parts).encode())


def kept_values(setting: Setting, key: str, folder: Path | None) -> list[Tuned]:
    """Values that are known for a key: those in `folder` (the user's cache), then shipped ones."""
    found: list[Tuned] = []
    own = values_file(key, folder)
    if own is not None and is_guarded(own):
        found += _read(own, key, len(setting.table))
    return found + _read(shipped_file(setting, key), key, len(setting.table))


def values_file(key: str, folder: Path | None) -> Path | None:
    """Where values of a key are kept; None where there is no cache."""
    place = private_folder(KEPT) if folder is None else folder
    return None if place is None else place / f"{KEPT}-{key}.json"


def shipped_file(setting: Setting, key: str, folder: Path = SHIPPED_VALUES) -> Path:
    """Where coinfer brings the values of a key."""
    return folder / f"{setting.scenario.name}-{key[:16]}.json"


def _read(path: Path, key: str, plans: int) -> list[Tuned]:
    """The values of a file; none of one that is cut short, or of something else."""
    try:
        found = read_json(path, Tuned, version=FORMAT_VERSION, most_bytes=DEVICE_JSON_BYTES)
    except CoinferError:
        return []
    fits = len(found.single_rewards) in (0, plans)
    fits = fits and len(found.margins) == len(found.margin_rewards)
    return [found] if found.key == key and fits else []


def tuned_values(setting: Setting, training: Sequence[BandwidthTrace], named: str) -> Tuned:
    """The values that are known; `UsageError` saying what to run where there are none.

    `named`: the scenario as commands take it, a shipped name or a file.
    """
    key = tuned_key(setting, training)
    for found in kept_values(setting, key, None):
        if found.single_rewards and found.margins:
            return found
    name = setting.scenario.name
    raise UsageError(
        f"tuned values of scenario '{name}': found none for these training traces and prices, "
        f"expected some (coinfer tune --scenario {named})"
    )
