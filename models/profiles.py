"""A profile: what every layer of every branch costs on one machine, measured or transcribed."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from artefacts import ArtefactError, read_json, write_json
from models.branchy import BranchySpec

FORMAT_VERSION = 1


class LayerProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One layer: seconds (median and 95th percentile of `samples` runs), shape, bytes."""

    name: str
    kind: str
    median_s: float
    p95_s: float
    samples: int
    output_shape: tuple[int, ...]
    output_bytes: int
    parameter_bytes: int
    peak_memory_bytes: int


class FittedPredictor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A regression of one layer kind's seconds, and its errors on layers held out of the fit.

    `held_out` layers, mean absolute percentage error and R2 of the predictions for them.
    """

    kind: str
    variables: tuple[str, ...]
    coefficients: tuple[float, ...]
    intercept: float
    layers: int
    held_out: int
    mape: float
    r2: float


class HostFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The machine a profile was taken on."""

    machine: str
    processor: str
    cores: int
    system: str


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A network's profile on one machine; `emulation` and `transcribed` say what it really is.

    `spread` is p95 / median of a whole branch as measured (1.0 where none is published): p95s of
    layers do not add up, so intervals take the median sum times this factor.
    """

    format_version: int
    name: str
    network: str
    network_digest: str
    executor: str
    threads: int
    host: HostFacts | None
    emulation: str | None
    transcribed: str | None
    model_loading_s: float
    spread: float
    branches: tuple[tuple[LayerProfile, ...], ...]
    predictors: tuple[FittedPredictor, ...] = ()

    def layer_s(self, branch: int) -> npt.NDArray[np.float64]:
        """Median seconds of every layer of a branch."""
        return np.array([layer.median_s for layer in self.branches[branch]])

    def interval_s(self, branch: int, start: int, stop: int) -> float:
        """Median seconds of layers [start, stop) of a branch: the sum of the layers' medians."""
        return float(sum(layer.median_s for layer in self.branches[branch][start:stop]))

    def interval_p95_s(self, branch: int, start: int, stop: int) -> float:
        """95th percentile of an interval: its median times the whole branch's spread."""
        return self.interval_s(branch, start, stop) * self.spread


def write_profile(path: str | Path, profile: Profile) -> None:
    """Write a profile as JSON, atomically."""
    write_json(path, profile)


def read_profile(path: str | Path) -> Profile:
    """Read a profile; refuses unknown versions, missing fields and impossible times."""
    profile = read_json(path, Profile, version=FORMAT_VERSION)
    for i, branch in enumerate(profile.branches):
        for k, layer in enumerate(branch):
            if not (np.isfinite(layer.median_s) and layer.median_s >= 0):
                raise ArtefactError(
                    path,
                    field=f"branches[{i}][{k}].median_s",
                    found=str(layer.median_s),
                    expected="seconds >= 0",
                )
    if not profile.spread >= 1.0:
        raise ArtefactError(path, field="spread", found=str(profile.spread), expected="1 or more")
    return profile


def check_profile(profile: Profile, spec: BranchySpec, path: str | Path = "profile") -> None:
    """Refuse a profile taken of another network."""
    if profile.network_digest != spec.digest:
        raise ArtefactError(
            path,
            field="network_digest",
            found=f"{profile.network_digest[:12]}… ({profile.network})",
            expected=f"{spec.digest[:12]}… ({spec.name})",
        )
