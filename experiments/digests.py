"""What a figure depends on, as digests: traces, a scenario with what it names, policies, sources.

A result that was kept is read again only where all of them are what they were.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import msgspec

from artefacts import digest_bytes, digest_file
from controller.scenario import Setting
from traces.trace import BandwidthTrace, trace_digest

ROOT = Path(__file__).resolve().parent.parent
DECIDING = (
    "controller",
    "envs",
    "models",
    "traces",
    "experiments/controllers.py",
    "experiments/evaluation.py",
    "experiments/comparison.py",
    "experiments/learned_lanes.py",
    "experiments/optimum_play.py",
    "experiments/optimum_queue.py",
    "experiments/detectors",
)
"""Sources that a figure depends on: a result kept from before they changed is no result."""
NOT_DECIDING = ("controller/daemon", "controller/runtime", "controller/wire", "models/networks",
                "models/capture")  # fmt: skip


def traces_digest(traces: Sequence[BandwidthTrace]) -> str:
    """SHA-256 of named traces in their order."""
    return digest_bytes(msgspec.json.encode([(t.name, trace_digest(t)) for t in traces]))


def setting_digest(setting: Setting) -> str:
    """SHA-256 of a scenario and of every artefact it names."""
    parts = (
        setting.scenario.digest,
        repr(setting.given_prices),
        setting.model.digest,
        setting.inputs_digest,
    )
    return digest_bytes(" ".join(parts).encode())


def policy_digest(folder: Path, stem: str = "policy") -> str:
    """SHA-256 of a policy's files (of the generalist's: `stem` 'generalist')."""
    files = sorted(p for p in folder.glob(f"{stem}.*") if p.suffix in (".json", ".npz"))
    return digest_bytes(" ".join(f"{p.name} {digest_file(p)}" for p in files).encode())


def _sources(folder: Path) -> Iterator[Path]:
    """Code, and the fits and splits beside it (models, profiles and policies have digests)."""
    for file in folder.rglob("*"):
        data = file.suffix in (".json", ".toml") and file.is_relative_to(ROOT / "traces")
        if file.suffix == ".py" or data:
            yield file


@cache
def code_digest(*more: str) -> str:
    """SHA-256 of the sources that figures depend on, and of `more` files and folders."""
    digest = hashlib.sha256()
    for name in (*DECIDING, *more):
        place = ROOT / name
        files = sorted(_sources(place)) if place.is_dir() else [place]
        for file in files:
            relative = file.relative_to(ROOT).as_posix()
            if not relative.startswith(NOT_DECIDING):
                digest.update(relative.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
