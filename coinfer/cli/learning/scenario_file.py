"""The scenario file of a network that is brought, by `coinfer init` or `coinfer profile`."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

from models.facts.profiles import Profile

DEADLINE_FACTOR = 1.25
LEAST_DEADLINE_S = 0.1
CAMERA_FPS = (30.0, 25.0, 20.0, 15.0, 12.0, 10.0, 8.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0)
SUITED = (
    f"suits the device: the fastest usual rate that it keeps up with by exit 1, and\n"
    f"# {DEADLINE_FACTOR:g} times what that exit takes, {1e3 * LEAST_DEADLINE_S:g} ms at least"
)
SCENARIO = """format_version = 1
name = {name}
kind = "frame-stream"
description = {description}
network = "."
{about_device}
device_profile = "device"
edge_profile = "edge"

[traces]
# {link_why}
family = "{family}"
scale = {scale:g}

[frames]
# {frames_why}
rate_fps = {rate:g}
deadline_s = {deadline:g}

[link]
rtt_s = {rtt:g}
message_bytes = 256.0
packet_bytes = 66.0

[plans]
codecs = [{codecs}]
edge_first = false
no_rescue = true
# how sure an exit must be to answer by itself ("exit i unless confident before")
confidence = [0.5, 0.7, 0.9]
"""


@dataclass(frozen=True, slots=True)
class Link:
    """A link to choose: the family of recorded rates, the factor on them, the round trip."""

    family: str
    scale: float
    rtt_s: float
    why: str


LINKS = {
    "3g": Link("norway", 1.0, 0.04, "3G in Norway, as recorded"),
    "lte": Link(
        "belgium", 0.1, 0.03, "4G in Belgium; an uplink has about a tenth of what was recorded down"
    ),
    "wifi": Link(
        "belgium", 1.0, 0.005, "no Wi-Fi was recorded: the rates of 4G in Belgium stand in"
    ),
}


@dataclass(frozen=True, slots=True)
class Frames:
    """Frames a second and deadline, and which of the two somebody asked for."""

    rate_fps: float
    deadline_s: float
    asked: int = 0
    """How many of the two."""

    @property
    def why(self) -> str:
        """Where both come from."""
        if self.asked == 2:
            return "as it was asked for"
        return f"what was not asked for {SUITED}" if self.asked else f"what {SUITED}"


def scenario_file(
    named: tuple[str, str],
    about_device: tuple[str, ...],
    link: Link,
    frames: Frames,
    codecs: tuple[str, ...],
) -> str:
    """A scenario in TOML, for a network in its own folder with the profiles `device` and `edge`.

    `named` are its name and its description, `about_device` lines that the device's profile is
    remarked by, `codecs` those that profiles time.
    """
    name, description = named
    return SCENARIO.format(
        # a JSON string is a TOML string too, whatever is in it
        name=json.dumps(name),
        description=json.dumps(description),
        about_device="\n".join(f"# {' '.join(line.split())}" for line in about_device),
        link_why=link.why,
        family=link.family,
        scale=link.scale,
        frames_why=frames.why,
        rate=frames.rate_fps,
        deadline=frames.deadline_s,
        rtt=link.rtt_s,
        codecs=", ".join(json.dumps(codec) for codec in codecs),
    )


def suggested_frames(first_s: float) -> tuple[float, float]:
    """Frames a second and deadline (s) for a device whose first exit takes `first_s`."""
    # rounded down: at a rate rounded up the device would fall behind
    slow = math.floor(100.0 / first_s) / 100.0
    rate = next((rate for rate in CAMERA_FPS if rate * first_s <= 1.0), slow)
    return rate, max(math.ceil(100.0 * DEADLINE_FACTOR * first_s) / 100.0, LEAST_DEADLINE_S)


def first_exit_s(device: Profile) -> float:
    """Seconds of the first exit on the device."""
    return device.interval_s(0, 0, len(device.branches[0]))
