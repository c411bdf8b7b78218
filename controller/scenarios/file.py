"""The scenario file: one setting of network, nodes, links, traces, deadline and reward, in TOML.

Shipped scenarios are named without a path (`edgent`, `3g-alexnet`). Formats 1 and 2 are read, and
checked field by field. What a file names is loaded by `controller.scenarios.loading`.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from artefacts import ArtefactError, UsageError, check_name, read_toml
from controller.scenarios.format1 import FIELDS, ScenarioFormat1
from controller.scenarios.profiles import profile_file
from controller.scenarios.sections import FORMAT_VERSION, PRICED, NodeLinkSection, Scenario
from controller.scenarios.world import check_world
from models.codecs import codec_named, known_codecs
from models.facts.cards import model_folder

SHIPPED = Path(__file__).parent / "shipped"
MOST = 1e5
"""Of any scale or rate: beyond that nothing here is meant."""
MOST_S, MOST_RTT_S = 60.0, 10.0
"""Of a deadline, and of a round trip: what is longer was meant in milliseconds."""
MOST_BYTES = 1e6
"""Of what is added to a message or a packet."""
MOST_THRESHOLDS = 16
"""Each makes plans of its own."""
MOST_BPS = 1e12
"""Of a link's constant rate."""


class _Version(msgspec.Struct, frozen=True):
    """The one field that says how the others are to be read."""

    format_version: object = None


def shipped_scenarios() -> tuple[str, ...]:
    """Names of the scenarios that come with coinfer."""
    return tuple(sorted(p.stem for p in SHIPPED.glob("*.toml")))


def read_scenario(name_or_path: str | Path) -> Scenario:
    """A shipped scenario by name, or a TOML file by path."""
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = SHIPPED / f"{name_or_path}.toml"
        if not path.exists():
            _refuse_priced(str(name_or_path))
            raise UsageError(
                f"scenario: found '{name_or_path}', expected one of "
                f"{', '.join(shipped_scenarios())} or the path of a .toml file"
            )
    scenario, names = _read(path)
    _check(path, scenario, names)
    found = msgspec.structs.replace(scenario, network=_beside(path, scenario.network))
    for number, node in enumerate(scenario.topology.nodes):
        found = found.with_node(number, profile=_beside(path, node.profile))
    _check_names(path, found, names)
    return found


def _refuse_priced(name: str) -> None:
    """Prices are options; there were scenarios that had them, and their names are still known."""
    plain = name.removesuffix(PRICED)
    if plain != name and plain in shipped_scenarios():
        raise UsageError(
            f"scenario: found '{name}', expected '{plain}' with prices: --device-second 0.5 "
            "--megabyte 3 (in a study prices = [0.5, 3.0], in device.toml [prices], in Python "
            "device_second=0.5, megabyte=3.0)"
        )


def _read(path: Path) -> tuple[Scenario, dict[str, str]]:
    """A file of either format, and what its own fields are called where that differs."""
    version = read_toml(path, _Version).format_version
    if version == 1:
        return read_toml(path, ScenarioFormat1, version=1).scenario(), FIELDS
    if version == FORMAT_VERSION:
        return read_toml(path, Scenario, version=FORMAT_VERSION), {}
    found = "nothing" if version is None else str(version)
    raise ArtefactError(
        path, field="format_version", found=found, expected=f"1 or {FORMAT_VERSION}"
    )


def _beside(scenario: Path, name: str) -> str:
    """A file or folder named by a scenario: beside it where it is there, else as it stands."""
    there = scenario.parent / name
    return str(there.resolve()) if there.exists() else name


def _check(path: Path, scenario: Scenario, names: dict[str, str]) -> None:
    """Refuse what cannot be meant; `names`: how the file calls fields of format 2."""
    _check_topology(path, scenario)
    nodes, links = scenario.topology.nodes, scenario.topology.links
    positive = {}
    _check_positive(path, "frames.deadline_s", scenario.frames.deadline_s, MOST_S, "seconds")
    for k, node in enumerate(nodes):
        positive[f"topology.nodes[{k}].slowdown"] = node.slowdown
    for k, link in enumerate(links):
        if link.traces is not None:
            positive[f"topology.links[{k}].traces.scale"] = link.traces.scale
    if scenario.kind == "frame-stream":
        positive["frames.rate_fps"] = scenario.frames.rate_fps
    for field, value in positive.items():
        _check_positive(path, names.get(field, field), value, MOST)
    check_name(path, "name", scenario.name)
    _check_codecs(path, scenario.plans.codecs)
    _check_confidence(path, scenario)
    check_world(path, scenario.world)
    for k, one in enumerate(links):
        field = f"topology.links[{k}]"
        for part, most, unit in (
            ("rtt_s", MOST_RTT_S, "seconds"), ("message_bytes", MOST_BYTES, "bytes"),
            ("packet_bytes", MOST_BYTES, "bytes"),
        ):  # fmt: skip
            named = names.get(f"{field}.{part}", f"{field}.{part}")
            _check_least_0(path, named, getattr(one, part), most, unit)
    for part in ("device_second", "megabyte"):
        price = getattr(scenario.reward, part)
        _check_least_0(path, f"reward.{part}", price, MOST, "correct answers")


def _check_codecs(path: Path, codecs: tuple[str, ...]) -> None:
    for number, codec in enumerate(codecs):
        if codec in codecs[:number]:
            raise ArtefactError(
                path, field="plans.codecs", found=f"'{codec}' twice", expected="every codec once"
            )
        try:
            codec_named(codec)
        except UsageError:
            raise ArtefactError(
                path, field="plans.codecs", found=f"'{codec}'", expected=f"one of {known_codecs()}"
            ) from None


def _check_positive(path: Path, field: str, value: float, most: float, unit: str = "") -> None:
    if not value > 0:
        raise ArtefactError(path, field=field, found=str(value), expected="a number above 0")
    _check_least_0(path, field, value, most, unit)


def _check_least_0(path: Path, field: str, value: float, most: float, unit: str) -> None:
    if not value >= 0:
        raise ArtefactError(path, field=field, found=str(value), expected="0 or more")
    if value > most:
        expected = f"{most:g} {unit}".rstrip() + " at most"
        raise ArtefactError(path, field=field, found=f"{value:g}", expected=expected)


def _check_topology(path: Path, scenario: Scenario) -> None:
    """Nodes have names, links a rate of one kind, and both together make a tree."""
    nodes, links = scenario.topology.nodes, scenario.topology.links
    for field, count, least in (("nodes", len(nodes), 2), ("links", len(links), 1)):
        if count < least:
            raise ArtefactError(
                path, field=f"topology.{field}", found=f"{count} of them",
                expected=f"{least} at least",
            )  # fmt: skip
    for k, node in enumerate(nodes):
        check_name(path, f"topology.nodes[{k}].name", node.name)
    for k, link in enumerate(links):
        _check_rate(path, f"topology.links[{k}]", link, first=k == 0)
    try:
        scenario.make_topology()
    except UsageError as error:
        raise UsageError(f"{path}, field 'topology': {error}") from None


def _check_rate(path: Path, field: str, link: NodeLinkSection, *, first: bool) -> None:
    if (link.traces is None) == (link.rate_bps is None):
        found = "neither" if link.traces is None else "both"
        raise ArtefactError(path, field=field, found=found, expected="traces or rate_bps")
    if link.traces is not None and not first:
        raise ArtefactError(
            path, field=f"{field}.traces", found="traces",
            expected="rate_bps: the first link alone may follow traces",
        )  # fmt: skip
    if link.rate_bps is not None:
        _check_positive(path, f"{field}.rate_bps", link.rate_bps, MOST_BPS)


def _check_names(path: Path, scenario: Scenario, names: dict[str, str]) -> None:
    """Refuse a network or a profile that is not there, before anything is loaded."""
    field = "network"
    try:
        folder = model_folder(scenario.network)
        for k, node in enumerate(scenario.topology.nodes):
            field = f"topology.nodes[{k}].profile"
            profile_file(node.profile, folder)
    except UsageError as error:
        raise UsageError(f"{path}, field '{names.get(field, field)}': {error}") from None


def _check_confidence(path: Path, scenario: Scenario) -> None:
    if len(scenario.plans.confidence) > MOST_THRESHOLDS:
        raise ArtefactError(
            path,
            field="plans.confidence",
            found=f"{len(scenario.plans.confidence)} thresholds",
            expected=f"{MOST_THRESHOLDS} at most",
        )
    for threshold in scenario.plans.confidence:
        if not 0.0 < threshold < 1.0:
            raise ArtefactError(
                path,
                field="plans.confidence",
                found=f"{threshold:g}",
                expected="probabilities between 0 and 1",
            )
    if scenario.plans.confidence and scenario.kind == "closed-loop":
        raise ArtefactError(
            path,
            field="plans.confidence",
            found="thresholds in a closed loop",
            expected="none: the paper's reward knows an exit's accuracy, not a sample's confidence",
        )
