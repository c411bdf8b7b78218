"""The scenario file: one setting of network, profiles, link, traces, deadline and reward, in TOML.

`Scenario` is the file, validated. Shipped scenarios are named without a path (`edgent`,
`3g-alexnet`). What a file names is loaded by `controller.scenarios.loading`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from artefacts import ArtefactError, UsageError, check_name, digest_bytes, read_toml
from controller.scenarios.profiles import profile_file
from models.codecs import codec_named, known_codecs
from models.facts.cards import model_folder

FORMAT_VERSION = 1
SHIPPED = Path(__file__).parent / "shipped"
MOST = 1e5
"""Of any scale, rate or deadline: beyond that nothing here is meant."""


class LinkSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[link]`: what surrounds the trace's rate (see `controller.physics.LinkModel`)."""

    rtt_s: float = 0.0
    """Round trip of the link, beside what its rate takes."""
    message_bytes: float = 0.0
    """Added to every message: header and metadata of the wire."""
    packet_bytes: float = 0.0
    """Added to every packet of a message: headers of Ethernet, IP and TCP (66)."""


class TraceSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[traces]`: the family whose split is used, and the factor on its rates."""

    family: Literal["belgium", "norway"]
    """Whose logs, and which split of them."""
    scale: float = 1.0
    """Factor on every rate."""


class FrameSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[frames]`: deadline (latency requirement) and, in a frame stream, the frame rate."""

    deadline_s: float
    """From a frame's arrival to the latest answer that counts."""
    rate_fps: float = 0.0
    """Frames a second; of a closed loop 0."""


class PlanSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[plans]`: which plans exist.

    `confidence`: thresholds at which a frame ends at an exit on its way ("unless confident
    before").
    """

    codecs: tuple[str, ...] = ("float32",)
    """What tensors may be sent as."""
    edge_first: bool = True
    """Plans whose first layers run on the edge, the rest on the device."""
    device_first: bool = True
    """Plans whose first layers run on the device, the rest on the edge."""
    hedge: bool = False
    """Plans in which the device goes on computing while the edge is awaited."""
    no_rescue: bool = False
    """Plans without a local answer, which leave the device free."""
    confidence: tuple[float, ...] = ()
    """Thresholds at which a frame ends at an exit on its way."""
    anytime: bool = True
    """Whether what was computed on the way answers where the plan does not (false: for ablations,
    in simulation only; the runtime always answers)."""


class RewardSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[reward]`: prices in correct answers (frame stream); the closed loop has the paper's."""

    device_second: float = 0.0
    """Of a second of the device's processor."""
    megabyte: float = 0.0
    """Of a megabyte that crosses the link."""


class SeedSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[seeds]`: of training and of evaluation (phases, samples, compute times)."""

    train: int = 0
    """Of training."""
    evaluate: int = 1
    """Of evaluation."""


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A scenario file; every key is checked, an unknown one is refused."""

    format_version: int
    name: str
    """What it is called in results and policies."""
    kind: Literal["frame-stream", "closed-loop"]
    """'frame-stream': at a fixed rate; 'closed-loop': each after the answer to the one before."""
    description: str
    """One line for people."""
    network: str
    """A shipped network, or the folder of a card."""
    device_profile: str
    """A shipped profile, or a file beside the network."""
    edge_profile: str
    """The same of the edge."""
    traces: TraceSection
    """What the link's bandwidth does."""
    frames: FrameSection
    """How often frames come, and by when they must be answered."""
    link: LinkSection = LinkSection()
    """What surrounds the trace's rate."""
    plans: PlanSection = PlanSection()
    """Which plans there are."""
    reward: RewardSection = RewardSection()
    """What is paid for."""
    seeds: SeedSection = SeedSection()
    """Of what is random."""
    device_slowdown: float = 1.0
    """How many times slower the device is than its profile."""

    @property
    def digest(self) -> str:
        """SHA-256 of the scenario's content; policies record what they were trained for."""
        # where the files lie is no part of what was trained for
        bare = msgspec.structs.replace(
            self,
            network=Path(self.network).name,
            device_profile=Path(self.device_profile).name,
            edge_profile=Path(self.edge_profile).name,
        )
        plain = msgspec.to_builtins(bare)
        # what came after the first published digests counts only where it is used
        if not self.plans.confidence:
            del plain["plans"]["confidence"]
        if self.plans.anytime:
            del plain["plans"]["anytime"]
        if self.device_slowdown == 1.0:
            del plain["device_slowdown"]
        return digest_bytes(msgspec.json.encode(plain))


def shipped_scenarios() -> tuple[str, ...]:
    """Names of the scenarios that come with coinfer."""
    return tuple(sorted(p.stem for p in SHIPPED.glob("*.toml")))


def read_scenario(name_or_path: str | Path) -> Scenario:
    """A shipped scenario by name, or a TOML file by path."""
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = SHIPPED / f"{name_or_path}.toml"
        if not path.exists():
            raise UsageError(
                f"scenario: found '{name_or_path}', expected one of "
                f"{', '.join(shipped_scenarios())} or the path of a .toml file"
            )
    scenario = read_toml(path, Scenario, version=FORMAT_VERSION)
    _check(path, scenario)
    found = msgspec.structs.replace(
        scenario,
        network=_beside(path, scenario.network),
        device_profile=_beside(path, scenario.device_profile),
        edge_profile=_beside(path, scenario.edge_profile),
    )
    _check_names(path, found)
    return found


def _beside(scenario: Path, name: str) -> str:
    """A file or folder named by a scenario: beside it where it is there, else as it stands."""
    there = scenario.parent / name
    return str(there.resolve()) if there.exists() else name


def _check(path: Path, scenario: Scenario) -> None:
    positive = {
        "frames.deadline_s": scenario.frames.deadline_s,
        "traces.scale": scenario.traces.scale,
        "device_slowdown": scenario.device_slowdown,
    }
    if scenario.kind == "frame-stream":
        positive["frames.rate_fps"] = scenario.frames.rate_fps
    for field, value in positive.items():
        if not value > 0:
            raise ArtefactError(path, field=field, found=str(value), expected="a number above 0")
        if value > MOST:
            raise ArtefactError(path, field=field, found=f"{value:g}", expected=f"{MOST:g} at most")
    check_name(path, "name", scenario.name)
    for codec in scenario.plans.codecs:
        try:
            codec_named(codec)
        except UsageError:
            raise ArtefactError(
                path, field="plans.codecs", found=f"'{codec}'", expected=f"one of {known_codecs()}"
            ) from None
    _check_confidence(path, scenario)
    for field, value in (
        ("link.rtt_s", scenario.link.rtt_s),
        ("link.message_bytes", scenario.link.message_bytes),
        ("link.packet_bytes", scenario.link.packet_bytes),
        ("reward.device_second", scenario.reward.device_second),
        ("reward.megabyte", scenario.reward.megabyte),
    ):
        if not value >= 0:
            raise ArtefactError(path, field=field, found=str(value), expected="0 or more")


def _check_names(path: Path, scenario: Scenario) -> None:
    """Refuse a network or a profile that is not there, before anything is loaded."""
    field = "network"
    try:
        folder = model_folder(scenario.network)
        for field in ("device_profile", "edge_profile"):
            profile_file(getattr(scenario, field), folder)
    except UsageError as error:
        raise UsageError(f"{path}, field '{field}': {error}") from None


def _check_confidence(path: Path, scenario: Scenario) -> None:
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
