"""Profiles as scenarios name them: a reference, one shipped with a model, or a file."""

from __future__ import annotations

from pathlib import Path

from artefacts import UsageError
from models.facts.cards import Model
from models.facts.profiles import Profile, check_profile, read_profile
from models.facts.reference import REFERENCE_NAMES, reference_profile


def load_profile(name: str, model: Model) -> Profile:
    """A profile by name or file; refused where it is of another network.

    Names: the references (`edgent-pi3`), then what was measured of this model and shipped with it.
    """
    file = profile_file(name, model.folder)
    if file is None:
        return reference_profile(name, model.spec)
    profile = read_profile(file)
    check_profile(profile, model.spec, str(file))
    return profile


def profile_file(name: str, model: Path) -> Path | None:
    """The file of a profile by name or path, of the model in a folder; None for a reference."""
    if name in REFERENCE_NAMES:
        return None
    shipped = model / "profiles" / f"{name}.json"
    if shipped.is_file() or Path(name).exists():
        return shipped if shipped.is_file() else Path(name)
    names = sorted(p.stem for p in shipped.parent.glob("*.json"))
    raise UsageError(
        f"profile: found '{name}', expected a profile's file or one of "
        f"{', '.join([*REFERENCE_NAMES, *names])}"
    )
