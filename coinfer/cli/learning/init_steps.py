"""What `coinfer init` does: profiles, other machines, files. Each step is done once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from coinfer.cli.console import console
from coinfer.cli.learning.begun import Kept
from coinfer.cli.learning.init_questions import THIS
from coinfer.cli.learning.init_sample import write_sample

if TYPE_CHECKING:
    from models.facts.cards import Model
    from models.facts.profiles import Profile


def profile_network(kept: Kept, repeats: int) -> None:
    """Capture, exits, judging, the profile of this machine: what `coinfer profile` does."""
    from coinfer.cli.learning.models import profile

    given = kept.begun.network
    if kept.begun.profiled:
        console.print(f"{kept.out}: the network and its profile are there, it goes on from them")
        return
    profile(
        kept.out, given.model, repeats=repeats, seed=given.seed,
        data=Path(given.data) if given.data else None, side=given.input,
        classes=Path(given.classes) if given.classes else None, exits=given.exits,
        placement="front", epochs=given.epochs, mean=given.mean, std=given.std,
        channels=given.channels, fit=given.fit,
        answers=given.answers, judge=given.judge, confidence=given.confidence,
        head_kind=given.head_kind,
        train_data=Path(given.train_data) if given.train_data else None,
    )  # fmt: skip
    kept.note(profiled=True)


def write_profiles(kept: Kept) -> tuple[Model, Profile]:
    """Write profiles of other machines and the device's own; the network, and the device's."""
    from models.facts.cards import load_model
    from models.facts.machines import machine_named, published_profile
    from models.facts.merging import DEVICE, MEASURED, folder_profile, write_published
    from models.facts.profiles import read_profile, write_profile
    from models.networks.measuring.anchor import anchor_s
    from models.networks.measuring.profiling import host_facts

    loaded, world = load_model(kept.out), kept.begun.world
    measured = read_profile(folder_profile(loaded, MEASURED))
    anchor = kept.begun.anchor_s
    if anchor is None:
        anchor = anchor_s()
        write_published(loaded, anchor, host_facts())
        kept.note(anchor_s=anchor)
    if world.device == THIS:
        made = measured
    else:
        made = published_profile(measured, machine_named(world.device), anchor)
    made = msgspec.structs.replace(made, name=DEVICE)
    path = folder_profile(loaded, DEVICE)
    name = str(path.relative_to(kept.out))
    if not kept.place(name, lambda there: write_profile(there, made)):
        console.print(f"{path} is kept as it is: it was measured, or changed, since")
    return loaded, read_profile(path)


def write_files(kept: Kept, model: Model, device: Profile) -> None:
    """Write the scenario, both daemons' files and a frame to ask with; see the scenario load."""
    from artefacts import atomic_write
    from coinfer.cli.learning.first_scenario import DEVICE, EDGE, remarks, scenario_text
    from controller.scenarios import load_setting, read_scenario
    from models.facts.merging import timed_codecs

    scenario = scenario_text(
        model.card.name, kept.begun.world, device, timed_codecs(model)
    )  # fmt: skip
    for name, text in (("scenario.toml", scenario), ("edge.toml", EDGE), ("device.toml", DEVICE)):

        def write(path: Path, text: str = text) -> None:
            with atomic_write(path) as stream:
                stream.write(text)

        if not kept.place(name, write):
            console.print(f"{kept.out / name} is kept as it is: it was changed since")
    write_sample(kept, model)
    load_setting(read_scenario(kept.out / "scenario.toml"))
    for line in remarks(kept.begun.world, device):
        console.print(line)
