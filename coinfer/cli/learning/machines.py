"""`coinfer machines`: published figures of common devices, and profiles of them for a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coinfer.cli.console import console, emit_json, print_table
from coinfer.cli.options import JsonOption

if TYPE_CHECKING:
    from models.facts.cards import Model
    from models.facts.profiles import Profile


def machines(
    model: Annotated[
        Path | None, typer.Option(help="Folder of a model: write a profile of each machine there.")
    ] = None,
    merge: Annotated[
        Path | None,
        typer.Option(help="With --model: take in this profile, measured by profile --on-device."),
    ] = None,
    name: Annotated[
        str, typer.Option("--as", help="With --merge: what the profile is called there.")
    ] = "device",
    json: JsonOption = False,
) -> None:
    """Common devices, and how many times slower than a PC's core they are by published figures.

    With --model the folder gets a profile of each, made of the profile that was measured on this
    machine: 'coinfer plan' then shows plans for a device before it is bought. --merge takes in what
    was measured on the device itself.
    """
    from artefacts import UsageError
    from models.facts.cards import load_model

    if model is None:
        if merge is not None:
            raise UsageError("--merge: found it alone, expected --model with it")
        _list(json)
        return
    loaded = load_model(model)
    if merge is not None:
        _merge(loaded, merge, name, json)
        return
    from models.facts.merging import folder_profile, write_published
    from models.networks.measuring.anchor import anchor_s
    from models.networks.measuring.profiling import host_facts

    made = write_published(loaded, anchor_s(), host_facts())
    if json:
        emit_json({profile.name: whole_s(profile) for profile in made})
        return
    print_machines(loaded, made)
    console.print(f"written to {folder_profile(loaded, made[0].name).parent}")


def whole_s(profile: Profile) -> list[float]:
    """Seconds of every branch on the profile's machine."""
    return [profile.interval_s(i, 0, len(b)) for i, b in enumerate(profile.branches)]


def print_machines(model: Model, profiles: list[Profile]) -> None:
    """A table of what every exit takes on each machine, and where the figures are from."""
    exits = [f"exit {i + 1} ms" for i in range(len(model.spec.exits))]
    print_table(
        f"{model.spec.name} on one core of other machines (published factors, not measured)",
        ["profile", *exits],
        [(p.name, *(f"{1e3 * s:.1f}" for s in whole_s(p))) for p in profiles],
    )


def _list(json: bool) -> None:
    from models.facts.machines import MACHINES, REFERENCE, TABLE

    if json:
        rows: list[dict[str, Any]] = [
            {"name": m.name, "machine": m.title, "factor": m.factor, "least": min(m.ratios),
             "most": max(m.ratios), "source": m.source}
            for m in MACHINES
        ]  # fmt: skip
        emit_json(rows)
        return
    print_table(
        f"one core against {REFERENCE}; published, not measured",
        ["name", "machine", "times slower", "by network"],
        [
            (m.name, m.title, f"{m.factor:.2f}", f"{min(m.ratios):.1f} to {max(m.ratios):.1f}")
            for m in MACHINES
        ],
    )
    console.print(f"from {TABLE}; what was measured in half precision counts twice")


def _merge(model: Model, path: Path, name: str, json: bool) -> None:
    from artefacts import check_name
    from models.facts.merging import folder_profile, merge_profile
    from models.facts.profiles import read_profile

    check_name(Path("--as"), "name", name)
    there = folder_profile(model, name)
    before = read_profile(there) if there.is_file() else None
    found = read_profile(path)
    merge_profile(model, found, path, name)
    if json:
        emit_json({"profile": str(there), "device_s": whole_s(found)})
        return
    print_change(there, before, found)


def print_change(there: Path, before: Profile | None, found: Profile) -> None:
    """What a profile says that has taken another one's place, exit by exit."""
    old = [f"{1e3 * s:.2f}" for s in whole_s(before)] if before else ["-"] * len(found.branches)
    published = before is not None and before.transcribed is not None
    print_table(
        f"{there}, measured on {found.host.processor if found.host else 'another machine'}",
        ["exit", "ms", "before, published ms" if published else "before ms"],
        [(i + 1, f"{1e3 * s:.2f}", old[i]) for i, s in enumerate(whole_s(found))],
    )
