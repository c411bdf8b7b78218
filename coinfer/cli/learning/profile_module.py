"""`coinfer profile --model MODULE:FACTORY`: a folder that plan, train and compare go on with."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coinfer.cli.console import console, progress_bar, say_interrupted
from coinfer.cli.learning.brought_table import Brought, goes_on_from, print_brought
from coinfer.cli.learning.profile_heads import (
    HeadOptions,
    epochs_on,
    exit_accuracies,
    exits_wanted,
)
from coinfer.cli.learning.scenario_file import (
    LINKS,
    Frames,
    first_exit_s,
    scenario_file,
    suggested_frames,
)
from coinfer.cli.learning.signature import SignatureOptions

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from models.facts.profiles import Profile
    from models.networks.brought.brought_module import ProfileArgs

BEGUN = "init.json"
"""Kept by `coinfer init`, which writes a scenario of its own and says what comes next."""


@dataclass(frozen=True, slots=True)
class ModuleOptions:
    """What the command says of a model that is brought; `data` or `side` gives the pictures."""

    named: str
    out: Path
    data: Path | None
    side: str
    classes: Path | None
    exits: int | None
    exit_after: tuple[str, ...]
    exit_accuracy: str
    placement: str
    heads: str
    epochs: int
    joint_epochs: int
    seed: int
    more: HeadOptions = field(default_factory=HeadOptions)
    signature: SignatureOptions = field(default_factory=SignatureOptions)

    def arguments(self, slowdown: float) -> ProfileArgs:
        """The same, checked, for a device that is `slowdown` times slower than this machine."""
        from models.data.own_pictures import read_class_names
        from models.networks.brought.brought_module import ProfileArgs

        exits, fewer = exits_wanted(self.exits, bool(self.exit_after or self.exit_accuracy))
        return ProfileArgs(
            exits, self.placement, self.epochs, self.joint_epochs, self.exit_after,
            exit_accuracies(self.exit_accuracy), self.seed,
            () if self.classes is None else read_class_names(self.classes),
            fewer=fewer, **self.more.arguments(slowdown),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class TimingOptions:
    """What the command says of how the model is timed, and what may cross its cuts."""

    threads: int
    repeats: int
    slowdown: float
    codec_slowdown: float | None
    codecs: tuple[str, ...]


def bring(given: ModuleOptions, timing: TimingOptions) -> dict[str, Any]:
    """Capture, give exits, judge, profile as device and as edge, and write a scenario."""
    import torch

    from artefacts import UsageError
    from models.facts.profiles import write_profile

    out = given.out
    if out.suffix == ".json" or out.is_file():
        raise UsageError(f"--out: found '{out}', expected a folder (for a model that is brought)")
    torch.set_num_threads(timing.threads)
    brought = _converted(given, timing)
    write_profile(out / "profiles" / "edge.json", brought.edge)
    write_profile(out / "profiles" / "device.json", brought.device)
    scenario = out / "scenario.toml"
    begun = (out / BEGUN).exists()  # by `coinfer init`, which writes its own
    if begun:
        pass
    elif scenario.exists():
        console.print(
            f"{scenario} is kept as it is; remove it and run again for one that fits this profile"
        )
    else:
        _write_scenario(scenario, brought.device, brought.codecs)
    print_brought(
        brought, out, given.exits, given.exit_accuracy, given.more.max_latency_s, given.placement
    )
    if not begun:
        limits = given.more.for_plan
        console.print(f"go on with: coinfer plan --scenario {scenario} --bandwidth 2{limits}")
    outcomes, device = brought.outcomes, brought.device
    return {
        "folder": str(out),
        "scenario": str(scenario),
        "accuracies": [outcomes.accuracy(i) for i in range(outcomes.exits)],
        "judged_on": outcomes.dataset,
        "device_s": [device.interval_s(i, 0, len(b)) for i, b in enumerate(device.branches)],
    }


def _converted(given: ModuleOptions, timing: TimingOptions) -> Brought:
    """Take the module in, and profile it as device and as edge."""
    from artefacts import ready_folder
    from models.facts.cards import load_model
    from models.networks.brought.factories import load_head, load_named
    from models.networks.brought.taking_in import NamedModule, Source, interrupted_at, take_in
    from models.networks.measuring.memory import measured_activations
    from models.networks.measuring.profiling import profile_model
    from models.networks.measuring.timing import ProfilingArgs

    args, out, signature = given.arguments(timing.slowdown), given.out, given.signature
    picture = signature.picture()
    head = load_head(given.heads) if given.heads else None
    plain = ProfilingArgs("onnxruntime", timing.threads, timing.repeats, grid=0)
    slow = replace(plain, slowdown=timing.slowdown, codec_slowdown=timing.codec_slowdown)
    module, likely = load_named(given.named)
    side = None
    if signature.of_pictures and (given.side or given.data is None):
        side = _side(given.side)
    source = Source(
        given.data, side, given.more.train_data, signature.of_pictures,
        signature.taken, picture.fitting,
    )  # fmt: skip
    ready_folder(out, make=False)
    with progress_bar() as bar:
        task = bar.add_task("capture", total=None, note="")
        try:
            outcomes, codecs = take_in(
                out, NamedModule(module, _name(out), likely), source, args, epochs_on(bar, task),
                head, timing.codecs,
            )  # fmt: skip
            plain, slow = (replace(timed, codecs=codecs) for timed in (plain, slow))
            model = load_model(out)
            memory = measured_activations(out, "onnxruntime") or {}  # the same on both machines
            edge, device = (
                profile_model(model, name, timed, _timed(bar, task, name), activations=memory)
                for name, timed in (("edge", plain), ("device", slow))
            )
        except KeyboardInterrupt:
            say_interrupted(goes_on_from(out, interrupted_at(out)))
            raise SystemExit(130) from None
    places = tuple(model.card.training["exits_at"])
    return Brought(model, places, outcomes, device, edge, codecs)


def _name(out: Path) -> str:
    """A model that is brought is called as its folder is."""
    return out.name or "model"


def _timed(bar: Progress, task: TaskID, name: str) -> Callable[[str, int, int], None]:
    """Shows on a bar how far the timing of one end is."""

    def step(what: str, done: int, total: int) -> None:
        bar.update(task, description=f"{name}: {what}", completed=done, total=total)

    return step


def _write_scenario(path: Path, device: Profile, codecs: tuple[str, ...]) -> None:
    """A scenario that fits the profile, to go on with."""
    from artefacts import atomic_write

    name = _name(path.parent)
    made = device.emulation or "as it is"
    text = scenario_file(
        (name, f"{name}, a model that was brought: device and edge are this machine ({made})"),
        (f"measured on this machine, {made}",),
        LINKS["lte"],
        Frames(*suggested_frames(first_exit_s(device))),
        codecs,
    )
    with atomic_write(path) as stream:
        stream.write(text)


def _side(text: str) -> tuple[int, int]:
    from artefacts import UsageError

    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None or not all(8 <= int(n) <= 4096 for n in match.groups()):
        raise UsageError(
            f"--input: found '{text}', expected HEIGHTxWIDTH (8 to 4096), or --data with pictures"
        )
    return int(match[1]), int(match[2])
