"""The networks of the tables: architecture, recorded answers, and profiles of both ends.

A folder has `card.json`, `outcomes.npz` and `profiles/`. Weights are not asked for: no figure here
needs them, so that networks whose weights may not be copied can stand in the tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from artefacts import ArtefactError, UsageError
from models.facts.branchy import BranchySpec
from models.facts.cards import SHIPPED, read_card
from models.facts.outcomes import Outcomes, read_outcomes
from models.facts.profiles import Profile, check_profile, read_profile

KEPT = Path(__file__).parent / "profiled"
DEVICE_PROFILES, EDGE_PROFILES = ("pi4-one-core", "device"), ("edge-x86", "edge")
"""Names of the profiles by end; the first that a folder has counts."""


@dataclass(frozen=True)
class ProfiledNetwork:
    """A network, what it answered, and what it costs on both ends."""

    name: str
    spec: BranchySpec
    temperatures: tuple[float, ...]
    """Of every exit's confidence; none: 1 each."""
    outcomes: Outcomes
    device: Profile
    edge: Profile

    @property
    def last(self) -> int:
        """The network's own end, counted as an exit from 0."""
        return len(self.spec.exits) - 1


def network_names() -> tuple[str, ...]:
    """Names that `read_network` takes beside folders: the shipped one, and those kept here."""
    kept = sorted(path.parent.name for path in KEPT.glob("*/card.json"))
    return ("mobilenetv2", *kept)


def read_network(named: str | Path) -> ProfiledNetwork:
    """A network by name, or of a folder that `coinfer profile` made.

    `UsageError` where there is none, `ArtefactError` where the files are not of one network.
    """
    folder = _folder(named)
    card = read_card(folder)
    path = folder / "outcomes.npz"
    outcomes = read_outcomes(path)
    if outcomes.model_digest != card.digest:
        raise ArtefactError(
            path, field="model_digest", found=outcomes.model_digest, expected=card.digest
        )
    device, edge = (_profile(folder, names, card.network) for names in (DEVICE_PROFILES,
                                                                        EDGE_PROFILES))  # fmt: skip
    if len(card.network.exits) < 2:
        raise UsageError(f"{folder}: found a network without early exits, expected one or more")
    return ProfiledNetwork(card.name, card.network, card.temperatures, outcomes, device, edge)


def _folder(named: str | Path) -> Path:
    for folder in (Path(named), KEPT / str(named), SHIPPED / str(named)):
        if (folder / "card.json").is_file():
            return folder
    raise UsageError(
        f"network: found '{named}', expected {', '.join(network_names())} or a folder with "
        "card.json that coinfer profile made"
    )


def _profile(folder: Path, names: tuple[str, ...], spec: BranchySpec) -> Profile:
    paths = [folder / "profiles" / f"{name}.json" for name in names]
    path = next((path for path in paths if path.is_file()), paths[-1])
    profile = read_profile(path)
    check_profile(profile, spec, path)
    return profile
