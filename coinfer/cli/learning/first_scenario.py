"""The scenario and the two daemons' files that suit a network, a device and a link."""

from __future__ import annotations

from pathlib import Path

from artefacts import UsageError
from coinfer.cli.learning.begun import WorldAnswers
from coinfer.cli.learning.scenario_file import (
    LINKS,
    Frames,
    Link,
    first_exit_s,
    scenario_file,
    suggested_frames,
)
from models.facts.profiles import Profile

OWN = Link("belgium", 1.0, 0.03, "your own trace is given to each command; this family trains")
OTHERS = "profiles/ has others: pi3, pi4, pi5, jetson-nano, phone (published), edge (this machine)"
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
    asked = sum(answer is not None for answer in (answers.rate_fps, answers.deadline_s))
    where = "this machine" if answers.device == "this" else answers.device
    return scenario_file(
        (name, f"{name} on {where} over {Path(answers.link).name}"),
        (device.transcribed or "measured", OTHERS),
        link,
        Frames(rate, deadline, asked),
        codecs,
    )


def frames_of(answers: WorldAnswers, device: Profile) -> tuple[float, float]:
    """Frames a second and deadline (s): as asked for, else as the device's first exit allows."""
    rate, deadline = suggested_frames(first_exit_s(device))
    return answers.rate_fps or rate, answers.deadline_s or deadline


def remarks(answers: WorldAnswers, device: Profile) -> list[str]:
    """What the device cannot do by itself, a line each."""
    rate, deadline = frames_of(answers, device)
    first = first_exit_s(device)
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
