"""The scenario and the two daemons' files that suit a network, a device and a link."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from artefacts import UsageError
from coinfer.cli.learning.begun import WorldAnswers
from coinfer.cli.learning.profile_module import suggested_frames
from models.facts.profiles import Profile


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
OWN = Link("belgium", 1.0, 0.03, "your own trace is given to each command; this family trains")
SCENARIO = """format_version = 1
name = {name}
kind = "frame-stream"
description = {description}
network = "."
# {device_source}
# profiles/ has others: pi3, pi4, pi5, jetson-nano, phone (published), edge (this machine)
device_profile = "device"
edge_profile = "edge"

[traces]
# {link_why}
family = "{family}"
scale = {scale:g}

[frames]
{frames_why}
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
EDGE = """format_version = 1
models = ["."]                   # this folder; shipped names, too
host = "127.0.0.1"               # this machine alone; beyond it [tls] is needed
port = 7700
"""
DEVICE = """format_version = 1
scenario = "scenario.toml"
edges = ["127.0.0.1:7700"]       # where edge.toml listens
controller = "robust"            # "learned" after 'coinfer train'

[http]
port = 8700
"""


def link_of(text: str) -> Link:
    """The link of that name, or a trace of one's own by its path; a `UsageError` says which."""
    if text in LINKS:
        return LINKS[text]
    if not Path(text).exists():
        raise UsageError(
            f"--link: found '{text}', expected {', '.join(LINKS)} or the file of a trace"
        )
    return OWN


def scenario_text(
    name: str, answers: WorldAnswers, device: Profile, codecs: tuple[str, ...]
) -> str:
    """A scenario for a network in this file's folder; `codecs` are those that profiles time."""
    link = link_of(answers.link)
    rate, deadline = frames_of(answers, device)
    asked = answers.rate_fps is not None and answers.deadline_s is not None
    where = "this machine" if answers.device == "this" else answers.device
    return SCENARIO.format(
        # a JSON string is a TOML string too, whatever is in it
        name=json.dumps(name),
        description=json.dumps(f"{name} on {where} over {Path(answers.link).name}"),
        device_source=" ".join((device.transcribed or "measured").split()),
        link_why=link.why,
        family=link.family,
        scale=link.scale,
        frames_why="# as it was asked for" if asked else "# what was not asked for suits exit 1",
        rate=rate,
        deadline=deadline,
        rtt=link.rtt_s,
        codecs=", ".join(f'"{c}"' for c in codecs),
    )


def frames_of(answers: WorldAnswers, device: Profile) -> tuple[float, float]:
    """Frames a second and deadline (s): as asked for, else as the device's first exit allows."""
    rate, deadline = suggested_frames(first_s(device))
    return answers.rate_fps or rate, answers.deadline_s or deadline


def first_s(device: Profile) -> float:
    """Seconds of the first exit on the device."""
    return device.interval_s(0, 0, len(device.branches[0]))


def remarks(answers: WorldAnswers, device: Profile) -> list[str]:
    """What the device cannot do by itself, a line each."""
    rate, deadline = frames_of(answers, device)
    first = first_s(device)
    said = []
    if rate * first > 1.0:
        said.append(
            f"the device alone falls behind at {rate:g} frames/s: exit 1 takes {1e3 * first:.1f} ms"
        )
    if first > deadline:
        said.append(
            f"the device alone is always late: exit 1 takes {1e3 * first:.1f} ms, the deadline is "
            f"{1e3 * deadline:g} ms"
        )
    return said
