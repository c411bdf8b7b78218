"""`coinfer init`: from a torch module to a folder in which everything else starts."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
import typer

from artefacts import UsageError
from coinfer.cli.console import console, emit_json
from coinfer.cli.learning import begun as keeping
from coinfer.cli.learning import profile_options as options
from coinfer.cli.options import JsonOption
from coinfer.cli.quantities import LATENCY_UNITS, quantity

if TYPE_CHECKING:
    from coinfer.cli.learning.begun import Begun, Kept, ModelAnswers, WorldAnswers
    from models.facts.cards import Model
    from models.facts.profiles import Profile

T = TypeVar("T")
FRAME = "frame.jpg"
THIS = "this"
HELP = "(asked for where none is given and somebody is there to answer)"
NamedModule = Annotated[str, typer.Argument(metavar="MODULE:FACTORY", help="Of a torch model.")]
OutOption = Annotated[
    Path | None, typer.Option(help="Folder for everything (the module's own name).")
]
DataOption = Annotated[str | None, typer.Option(help="As of 'coinfer profile --data'.")]
SideOption = Annotated[str | None, typer.Option("--input", help="As of 'coinfer profile'.")]
ClassesOption = Annotated[Path | None, typer.Option(help="File of the classes' names.")]
ExitsOption = Annotated[int | None, typer.Option(min=0, max=16, help="To put into it (5).")]
EpochsOption = Annotated[int | None, typer.Option(min=1, help="That train the exits (15).")]
ScaleOption = Annotated[str | None, typer.Option(help="As of 'coinfer profile'.")]
SeedOption = Annotated[int | None, typer.Option(min=0, help="Of pictures and heads (0).")]
DeviceOption = Annotated[
    str | None, typer.Option(help=f"A name of 'coinfer machines', or this {HELP}.")
]
LinkOption = Annotated[str | None, typer.Option(help=f"3g, lte, wifi or a trace's file {HELP}.")]
FpsOption = Annotated[
    float | None, typer.Option(min=0.01, max=1000.0, help=f"Frames a second {HELP}.")
]
DeadlineOption = Annotated[
    str | None, typer.Option(help=f"How late is too late, as 200ms or 0.2s {HELP}.")
]


def init(
    model: NamedModule,
    out: OutOption = None,
    data: DataOption = None,
    side: SideOption = None,
    classes: ClassesOption = None,
    exits: ExitsOption = None,
    epochs: EpochsOption = None,
    mean: ScaleOption = None,
    std: ScaleOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    link: LinkOption = None,
    fps: FpsOption = None,
    deadline: DeadlineOption = None,
    repeats: options.Repeats = 100,
    json: JsonOption = False,
) -> None:
    """Begin with a torch model of your own: exits, profiles, a scenario, two daemons' files.

    The folder then holds everything, and the next three commands are printed. An interrupted
    command goes on where it was when it is given again; other answers about device, link, frames
    and deadline write the scenario anew.
    """
    folder = out or Path(model.partition(":")[0].rpartition(".")[2])
    of_model = {
        "data": data, "input": side, "classes": None if classes is None else str(classes),
        "exits": exits, "epochs": epochs, "mean": mean, "std": std, "seed": seed,
    }  # fmt: skip
    of_world = {
        "device": device, "link": link, "rate_fps": fps,
        "deadline_s": _seconds("--deadline", deadline) if deadline is not None else None,
    }  # fmt: skip
    ask = Questions(sys.stdin.isatty())

    def make(found: Begun | None) -> Begun:
        return answered(model, _given(of_model), _given(of_world), found, ask)

    begun = keeping.opened(folder, make)
    kept = keeping.Kept(folder, begun)
    # figures alone stand on standard output
    with contextlib.redirect_stdout(sys.stderr):
        _profile(kept, repeats)
        loaded, profile = _machines(kept)
        _files(kept, loaded, profile)
    _say(kept, loaded, profile, json=json)


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _seconds(what: str, text: str) -> float:
    found = quantity(what, text, LATENCY_UNITS)
    if found is None or not 0.0 < found <= 60.0:
        raise UsageError(f"{what}: found '{text}', expected more than 0 and at most 60s")
    return found


class Questions:
    """Asks on a terminal, again where an answer cannot be meant; gives the default elsewhere."""

    def __init__(self, there: bool, prompt: Callable[..., str] = typer.prompt) -> None:
        self.there, self._prompt = there, prompt

    def __call__(self, text: str, default: str, read: Callable[[str], T]) -> T:
        """What `read` makes of the answer to `text` (of `default`, where Enter is pressed)."""
        while self.there:
            try:
                shown = default or "none"
                answer = self._prompt(text, default=shown, err=True).strip()
                return read("" if answer == "none" else answer)
            except UsageError as error:
                console.print(str(error))
        return read(default)


def answered(
    model: str, of_model: dict[str, Any], of_world: dict[str, Any], found: Begun | None,
    ask: Questions,
) -> Begun:  # fmt: skip
    """All answers: options first, then those of an earlier call (`found`), then questions."""
    from coinfer.cli.learning.begun import FORMAT_VERSION, Begun, ModelAnswers, WorldAnswers

    replace = msgspec.structs.replace
    if found is not None:
        network = replace(found.network, model=model, **of_model)
        world = _checked(replace(found.world, **of_world))
        return replace(found, network=network, world=world)
    if "data" not in of_model and "input" not in of_model:
        of_model = of_model | _ask_data(ask)
    network = ModelAnswers(model, **of_model)
    _check_data(network)
    world = _checked(WorldAnswers(**(_ask_world(ask, of_world) | of_world)))
    return Begun(FORMAT_VERSION, network, world)


def _ask_data(ask: Questions) -> dict[str, str]:
    data = ask("Labelled pictures: npz, CSV, folder by class, MODULE:FUNCTION", "", str)
    side = ask("Height x width that the model takes (of an npz: none)", "", str)
    return {"data": data, "input": side}


def _check_data(network: ModelAnswers) -> None:
    from artefacts.imported import is_named
    from coinfer.cli.learning.profile_module import _side
    from models.data.own_pictures import has_own_size

    if not network.data or network.input:
        _side(network.input)
    if not network.data:
        return
    if not Path(network.data).exists() and not is_named(network.data):
        raise UsageError(
            f"--data: found no '{network.data}', expected a file, a folder or MODULE:FUNCTION"
        )
    if network.input and has_own_size(Path(network.data)):
        raise UsageError(
            f"--input: found '{network.input}' beside '{network.data}', expected none: an npz's "
            "pictures have their size"
        )


def _ask_world(ask: Questions, given: dict[str, Any]) -> dict[str, Any]:
    from coinfer.cli.learning.begun import WorldAnswers
    from coinfer.cli.learning.first_scenario import LINKS
    from models.facts.machines import NAMES

    usual = WorldAnswers()
    asked: dict[str, Any] = {}

    def later(name: str, text: str, default: str, read: Callable[[str], Any]) -> None:
        if name not in given:
            asked[name] = ask(text, default, read)

    names, links = ", ".join((*NAMES, THIS)), ", ".join(LINKS)
    later("device", f"Which device ({names})", usual.device, _device)
    later("link", f"Which link ({links}, or a trace's file)", usual.link, _link)
    later("rate_fps", "How many frames a second (none: what suits the device)", "", _rate)
    later(
        "deadline_s", "How late is too late, as 200ms (none: what suits the device)", "",
        lambda text: _seconds("deadline", text) if text else None,
    )  # fmt: skip
    return asked


def _checked(world: WorldAnswers) -> WorldAnswers:
    _device(world.device)
    _link(world.link)
    return world


def _device(text: str) -> str:
    from models.facts.machines import NAMES

    if text not in (*NAMES, THIS):
        raise UsageError(f"--device: found '{text}', expected {', '.join(NAMES)} or {THIS}")
    return text


def _link(text: str) -> str:
    from coinfer.cli.learning.first_scenario import LINKS, link_of
    from traces.library import read_set

    link_of(text)
    if text not in LINKS:
        read_set([Path(text)])  # what cannot be read is said before hours of training
    return text


def _rate(text: str) -> float | None:
    try:
        found = float(text) if text else None
    except ValueError:
        found = 0.0
    if found is not None and not 0.01 <= found <= 1000.0:
        raise UsageError(f"frames a second: found '{text}', expected a number from 0.01 to 1000")
    return found


def _profile(kept: Kept, repeats: int) -> None:
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
        placement="pareto", epochs=given.epochs, mean=given.mean, std=given.std,
    )  # fmt: skip
    kept.note(profiled=True)


def _machines(kept: Kept) -> tuple[Model, Profile]:
    """Profiles of other machines beside the measured one, and the device's own."""
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


def _files(kept: Kept, model: Model, device: Profile) -> None:
    """The scenario, both daemons' files, a frame to ask with; and whether the scenario loads."""
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
    if not (kept.out / FRAME).exists():
        _write_frame(kept, model)
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
        x = read_pictures(Path(data), (height, width), likely=model.card.classes).x
    else:
        x = unlabelled_pictures((height, width), kept.begun.network.seed)
    with atomic_write(kept.out / FRAME, "wb") as stream:
        Image.fromarray(x[0]).save(stream, "JPEG", quality=95)


def commands(kept: Kept) -> tuple[str, ...]:
    """The next three commands, as a shell takes them."""
    from coinfer.cli.learning.first_scenario import LINKS

    out, link = kept.out, kept.begun.world.link
    compare = [
        "coinfer", "compare", "--scenario", str(out / "scenario.toml"), "--frames", "200",
        "--controllers", "device-only,edge-only,robust",
    ]  # fmt: skip
    if link not in LINKS:
        compare += ["--traces", link]
    return tuple(
        shlex.join(command)
        for command in (
            compare,
            ["coinfer", "edge", "--config", str(out / "edge.toml")],
            ["coinfer", "device", "--config", str(out / "device.toml")],
        )
    )


def _say(kept: Kept, model: Model, device: Profile, *, json: bool) -> None:
    from coinfer.cli.learning.first_scenario import frames_of
    from models.facts.outcomes import read_outcomes

    outcomes = read_outcomes(kept.out / "outcomes.npz")
    frame = shlex.quote(f"@{kept.out / FRAME}")
    asking = (
        f"curl -H 'Content-Type: image/jpeg' --data-binary {frame} "
        "'localhost:8700/infer?deadline_ms=1000'"
    )
    if json:
        emit_json({
            "folder": str(kept.out), "scenario": str(kept.out / "scenario.toml"),
            "accuracies": [outcomes.accuracy(i) for i in range(outcomes.exits)],
            "device_s": [device.interval_s(i, 0, len(b)) for i, b in enumerate(device.branches)],
            "device": device.transcribed or "measured", "classes": list(model.card.classes),
            "commands": list(commands(kept)), "ask": asking,
        })  # fmt: skip
        return
    rate, deadline_s = frames_of(kept.begun.world, device)
    lines = [
        f"{kept.out}: {rate:g} frames/s, each to be answered within {1e3 * deadline_s:g} ms. The "
        "folder has the network, its exits' accuracies, profiles, scenario.toml, edge.toml and "
        "device.toml.",
        "Next:",
        *(f"  {command}" for command in commands(kept)),
        "While the last two run, each in a terminal of its own, a frame is answered:",
        f"  {asking}",
    ]
    for line in lines:
        print(line)
