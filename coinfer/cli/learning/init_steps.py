"""What `coinfer init` does: profiles, other machines, files. Each step is done once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from coinfer.cli.console import console
from coinfer.cli.learning.begun import Kept
from coinfer.cli.learning.init_questions import THIS

if TYPE_CHECKING:
    from models.facts.cards import Model
    from models.facts.profiles import Profile

FRAME = "frame.jpg"
"""One of the pictures, to ask the daemon with."""
SAMPLE = "sample.npz"
"""The same of a network of another input: its arrays by their names."""


def sample_name(model: Model) -> str:
    """The file of the sample that the daemon is asked with."""
    from models.facts.preprocessing import PictureInput

    return FRAME if isinstance(model.card.preprocessing, PictureInput) else SAMPLE


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
    if not (kept.out / sample_name(model)).exists():
        (_write_frame if sample_name(model) == FRAME else _write_sample)(kept, model)
    load_setting(read_scenario(kept.out / "scenario.toml"))
    for line in remarks(kept.begun.world, device):
        console.print(line)


def _write_frame(kept: Kept, model: Model) -> None:
    """One of the pictures as a JPEG file, to ask the daemon with."""
    from PIL import Image

    from artefacts import atomic_write
    from models.data.own_pictures import read_pictures
    from models.data.pictures import unlabelled_pictures

    height, width = model.spec.input_shape[1:]
    data = kept.begun.network.data
    if data:
        one_class = model.card.answers.one_class
        x = read_pictures(
            Path(data), (height, width), likely=model.card.classes, one_class=one_class
        ).x
    else:
        x = unlabelled_pictures((height, width), kept.begun.network.seed)
    with atomic_write(kept.out / FRAME, "wb") as stream:
        Image.fromarray(x[0]).save(stream, "JPEG", quality=95)


def _write_sample(kept: Kept, model: Model) -> None:
    """One of the samples as an npz, or a made-up one where there is no data."""
    import numpy as np

    from artefacts import atomic_write
    from artefacts.arrays import read_npz
    from models.codecs.tensors import NUMPY_TYPES
    from models.data.own_samples import MOST_BYTES, read_samples
    from models.facts.made_up import made_up_sample
    from models.facts.preprocessing import TensorInput

    takes, shape = model.card.preprocessing, model.spec.input_shape
    data = Path(kept.begun.network.data) if kept.begun.network.data else None
    if isinstance(takes, TensorInput):
        found = {} if data is None else read_npz(data, "an npz of samples", None, MOST_BYTES)
        arrays = {
            t.name: found[t.name][0] if t.name in found else np.ones(t.shape) for t in takes.tensors
        }
        arrays = {t.name: arrays[t.name].astype(NUMPY_TYPES[t.datatype]) for t in takes.tensors}
    elif data is None:
        arrays = {takes.name: made_up_sample(takes, shape)}
    else:
        arrays = {takes.name: read_samples(data, takes, shape).x[0]}
    with atomic_write(kept.out / SAMPLE, "wb") as stream:
        saved: Any = np.savez
        saved(stream, **arrays)
