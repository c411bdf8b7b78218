"""What `coinfer init` keeps in the folder that it makes: the answers, and how far it came."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from artefacts import UsageError, digest_file, read_json, ready_folder, write_json
from coinfer.cli.learning.picture_options import NO_MEAN, NO_STD, RGB, SQUASH, PictureOptions
from coinfer.cli.learning.profile_module import BEGUN as FILE
from coinfer.cli.learning.signature import SignatureOptions

FORMAT_VERSION = 1
CHOSEN = "exits.json"
"""Where exits were placed (`models.networks.brought.exit_placement`, which imports torch)."""


class ModelAnswers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the network is made of; another answer makes another folder."""

    model: str
    """MODULE:FACTORY."""
    data: str = ""
    """Labelled samples, as `--data` names them ('': generated ones)."""
    input: str = ""
    """HEIGHTxWIDTH that pictures are made to fit ('': they have a size), or another input."""
    classes: str = ""
    """File of the classes' names."""
    exits: int = 5
    """To put into it."""
    epochs: int = 15
    """Passes over the samples that train the exits' heads."""
    mean: str = NO_MEAN
    """R,G,B (of bgr: B,G,R) or one number, subtracted from pixels of 0 to 1."""
    std: str = NO_STD
    """What is divided by after that, in the same order."""
    seed: int = 0
    """Of the split of the samples, and of the heads."""
    answers: str = ""
    """What is answered, as `--answers` says it ('': found out)."""
    judge: str = ""
    """How good an answer is ('': the usual one of its kind)."""
    confidence: str = ""
    """How sure an exit is ('': the usual one)."""
    head_kind: str = "auto"
    """Kind of the exits' heads."""
    train_data: str = ""
    """More samples, which train the heads alone ('': none)."""
    channels: str = RGB
    """What the network is given of pictures: rgb, bgr or grey."""
    fit: str = SQUASH
    """How pictures of another size are made to fit, as `--fit` says it."""

    @property
    def of_pictures(self) -> bool:
        """Whether the input is a picture."""
        return self.signature.of_pictures

    @property
    def signature(self) -> SignatureOptions:
        """What the network takes and gives, as the answers say it."""
        pictures = PictureOptions(self.mean, self.std, self.channels, self.fit)
        return SignatureOptions(self.input, self.answers, self.judge, self.confidence, pictures)


class WorldAnswers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where it will run; another answer changes the scenario alone."""

    device: str = "pi4"
    """A known machine, or 'this' one."""
    link: str = "lte"
    """'3g', 'lte', 'wifi', or a trace's file."""
    rate_fps: float | None = None
    """Frames a second (null: what suits the device)."""
    deadline_s: float | None = None
    """How late is too late (null: what suits the device)."""


class Begun(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`init.json`."""

    format_version: int
    network: ModelAnswers
    """What the network is made of."""
    world: WorldAnswers
    """Where it will run."""
    profiled: bool = False
    """Whether the network, its outcomes and the profile of this machine are there."""
    anchor_s: float | None = None
    """Seconds of the published benchmarks' network on the machine that profiled."""
    written: dict[str, str] = {}
    """SHA-256 of every file as it was written, by name: another digest is somebody's own."""


def opened(out: Path, make: Callable[[Begun | None], Begun]) -> Begun:
    """The folder's own beginning, or a new one: `make` gives it from the answers that are there.

    Refuses a folder of something else.
    """
    found = None
    if (out / FILE).is_file():
        found = read_json(out / FILE, Begun, version=FORMAT_VERSION)
    elif out.is_dir() and (others := sorted(p.name for p in out.iterdir())):
        raise UsageError(
            f"--out: found the folder '{out}' of something else ({', '.join(others[:3])}), "
            "expected a new one, or one that 'coinfer init' has begun"
        )
    elif out.exists() and not out.is_dir():
        raise UsageError(f"--out: found the file '{out}', expected a folder")
    begun = make(found)
    if found is not None:
        _check_same(out, found.network, begun.network)
    ready_folder(out, make=True)
    write_json(out / FILE, begun)
    return begun


def _check_same(out: Path, before: ModelAnswers, now: ModelAnswers) -> None:
    for field in before.__struct_fields__:
        old, new = getattr(before, field), getattr(now, field)
        if old != new:
            named = field if field == "model" else f"--{field.replace('_', '-')}"
            raise UsageError(
                f"{named}: found '{new}', expected '{old}', with which '{out}' was begun (another "
                "--out begins anew)"
            )


class Kept:
    """A folder's files and its `init.json`, which knows each as it was written."""

    def __init__(self, out: Path, begun: Begun) -> None:
        self.out, self.begun = out, begun

    def forget_nothing_made(self) -> None:
        """Remove the folder where nothing in it was trained yet: its answers could not be meant."""
        found = {path.name for path in self.out.iterdir()}
        if found <= {FILE, CHOSEN}:
            for name in found:
                (self.out / name).unlink()
            self.out.rmdir()

    def note(self, **changes: object) -> None:
        """Remember that something is done."""
        self.begun = msgspec.structs.replace(self.begun, **changes)
        write_json(self.out / FILE, self.begun)

    def place(self, name: str, write: Callable[[Path], None]) -> bool:
        """Write a file by `write`, unless it was changed since it was written here; whether so."""
        path = self.out / name
        last = self.begun.written.get(name)
        if last is not None and path.is_file() and digest_file(path) != last:
            return False
        write(path)
        self.note(written={**self.begun.written, name: digest_file(path)})
        return True
