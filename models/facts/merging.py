"""Profiles in a model's folder: published ones beside measured ones, measured ones taken in.

A scenario names its device's profile `device`. What is measured on the device takes that place, and
the profile that was there stays beside it.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from artefacts import ArtefactError, UsageError
from models.facts.cards import Model
from models.facts.machines import MACHINES, published_profile
from models.facts.profiles import HostFacts, Profile, check_profile, read_profile, write_profile

FOLDER, MEASURED, DEVICE = "profiles", "edge", "device"
BEFORE = "-before"
"""What a profile is called that another one has taken the place of."""


def folder_profile(model: Model, name: str) -> Path:
    """Where a model's profile of that name lies."""
    return model.folder / FOLDER / f"{name}.json"


def timed_codecs(model: Model) -> tuple[str, ...]:
    """Codecs that the folder's profiles have times of, in order; () where there is no profile."""
    for name in (DEVICE, MEASURED):
        if folder_profile(model, name).is_file():
            timed = read_profile(folder_profile(model, name)).codecs
            return tuple(dict.fromkeys(codec.codec for codec in timed))
    return ()


def write_published(model: Model, anchor_s: float, host: HostFacts) -> list[Profile]:
    """Write the profiles of all known machines beside the measured one `edge`; gives them.

    `anchor_s` are the seconds that `host` takes for the network of published benchmarks
    (`models.facts.machines`); `edge` must have been measured there.
    """
    path = folder_profile(model, MEASURED)
    if not path.is_file():
        raise UsageError(
            f"model: found no '{path}', expected a folder that 'coinfer init' or 'coinfer profile "
            "--model MODULE:FACTORY' has made"
        )
    measured = read_profile(path)
    check_profile(measured, model.spec, path)
    there = measured.host.processor if measured.host is not None else "no machine"
    if there != host.processor or measured.emulation is not None:
        raise ArtefactError(
            path, field="host", found=f"{there} ({measured.emulation or 'as it is'})",
            expected=f"this machine as it is, {host.processor}: other machines are held against it",
        )  # fmt: skip
    made = [published_profile(measured, machine, anchor_s) for machine in MACHINES]
    for profile in made:
        write_profile(folder_profile(model, profile.name), profile)
    return made


def merge_profile(model: Model, found: Profile, path: Path, name: str = DEVICE) -> Path:
    """Take `found`, a profile of `model`, in as `name`; gives where it lies.

    It comes from `path`, which a refusal names: a profile of another network, or one that lacks the
    time of a codec that the one in its place has.
    """
    check_profile(found, model.spec, path)
    there = folder_profile(model, name)
    if there.is_file():
        before = read_profile(there)
        timed = {codec.codec for codec in found.codecs}
        lacking = [c for c in dict.fromkeys(c.codec for c in before.codecs) if c not in timed]
        if lacking:
            named = ",".join(dict.fromkeys(c.codec for c in before.codecs))
            raise ArtefactError(
                path, field="codecs", found=f"no time for {', '.join(lacking)}",
                expected=f"those of '{there}' (coinfer profile --on-device --codecs {named})",
            )  # fmt: skip
        if before != found:
            write_profile(there.with_stem(f"{name}{BEFORE}"), before)
    write_profile(there, msgspec.structs.replace(found, name=name))
    return there
