"""A profile: what every layer of every branch costs on one machine, measured or transcribed.

Owns the artefact and its checks; knows neither how times are measured
(`models.networks.measuring.profiling`) nor what they are used for.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from artefacts import DEVICE_JSON_BYTES, ArtefactError, read_json, write_json
from artefacts.arrays import Floats
from models.facts.branchy import BranchySpec

FORMAT_VERSION = 1


class LayerProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One layer: seconds, shape, bytes."""

    name: str
    """Of the layer."""
    kind: str
    """Of the layer."""
    median_s: float
    """Median of `samples` runs."""
    p95_s: float
    """Their 95th percentile."""
    samples: int
    """Runs."""
    output_shape: tuple[int, ...]
    """Of one sample."""
    output_bytes: int
    """Of one sample, in float32."""
    parameter_bytes: int
    """Of its weights."""
    peak_memory_bytes: int
    """Its weights, and the activations alive at most while it runs."""


class FittedPredictor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A regression of one layer kind's seconds, and its errors on layers held out of the fit."""

    kind: str
    """Of layers."""
    variables: tuple[str, ...]
    """Explanatory variables."""
    coefficients: tuple[float, ...]
    """One a variable, seconds."""
    intercept: float
    """Seconds."""
    layers: int
    """That were fitted."""
    held_out: int
    """That were not."""
    mape: float
    """Mean absolute percentage error on the held-out ones, a fraction."""
    r2: float
    """Of the held-out ones."""
    leave_one_out_mape: float = 0.0
    """Every fitted layer predicted from the others."""
    own_mape: float | None = None
    """Of the profiled network's own layers, none of which was fitted."""
    reading: str = "maps"
    """Names the set of variables (`models.facts.regression`)."""


class CodecProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Median seconds to encode and to decode what layer `after` gives ('' is the picture)."""

    codec: str
    """Its name."""
    after: str
    """Layer whose output it carries ('': the picture)."""
    encode_s: float
    """Median seconds."""
    decode_s: float
    """Median seconds."""


class PowerModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a device draws, in watts: always, more while it computes, more while it sends.

    Sending at r Mbit/s draws `radio_w` + r x `radio_w_per_mbps` (Huang et al., MobiSys 2012,
    section 5.2). `source` says where the figures are from.
    """

    idle_w: float
    """Always."""
    compute_w: float
    """More while it computes."""
    radio_w: float
    """More while it sends."""
    radio_w_per_mbps: float
    """And for each Mbit/s that it sends."""
    source: str
    """Where the figures are from."""

    def energy_j(self, compute_s: Floats, sending_s: Floats, sent_bytes: Floats) -> Floats:
        """Joules beyond idling of computing so long, and sending so many bytes in so long."""
        radio = self.radio_w * sending_s + self.radio_w_per_mbps * 8e-6 * sent_bytes
        return np.asarray(self.compute_w * compute_s + radio, dtype=np.float64)


class HostFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The machine a profile was taken on."""

    machine: str
    """Its architecture."""
    processor: str
    """As the system names it."""
    cores: int
    """Processors that the process could use there."""
    system: str
    """Its operating system."""


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """A network's profile on one machine; `emulation` and `transcribed` say what it really is.

    `spread` is p95 / median of a whole branch as measured (1.0 where none is published): p95s of
    layers do not add up, so intervals take the median sum times this factor. `layer_scale`: what
    layers were multiplied by so that they add up to what is run at once: those of the trunk between
    two exits, stretch by stretch, then those of every head (empty: nothing was).
    `process_peak_bytes` is the process's greatest resident memory; `memory` says where the layers'
    activation bytes are from.
    """

    format_version: int
    name: str
    """Of the profile."""
    network: str
    """Whose layers these are."""
    network_digest: str
    """Of its architecture."""
    executor: str
    """What computed them."""
    threads: int
    """Of one computation."""
    host: HostFacts | None
    """The machine (null: transcribed)."""
    emulation: str | None
    """How a slower machine was made of it."""
    transcribed: str | None
    """Where published figures are from."""
    model_loading_s: float
    """Loading the network, which a closed loop pays before its first inference."""
    spread: float
    """p95 / median of a whole branch."""
    branches: tuple[tuple[LayerProfile, ...], ...]
    """Layers of every exit's branch."""
    predictors: tuple[FittedPredictor, ...] = ()
    """Regressions of layers' seconds."""
    layer_scale: tuple[float, ...] = ()
    """What layers were multiplied by so that they add up to a whole run."""
    process_peak_bytes: int | None = None
    """Greatest resident memory of the process."""
    codecs: tuple[CodecProfile, ...] = ()
    """Seconds of encoding and decoding."""
    memory: Literal["measured", "from shapes"] = "from shapes"
    """Where the activations' bytes are from."""
    power: PowerModel | None = None
    """None: nothing is known of it."""

    def crossing(self, branch: int, cut: int) -> str:
        """Name of the layer whose output crosses before layer `cut`; '' is the picture."""
        return self.branches[branch][cut - 1].name if cut > 0 else ""

    def encode_s(self, codec: str, after: str) -> float:
        """Seconds of encoding what layer `after` gives; 0 where it was not measured."""
        return self._codec_s.get((codec, after), (0.0, 0.0))[0]

    def decode_s(self, codec: str, after: str) -> float:
        """Seconds of decoding it; 0 where it was not measured."""
        return self._codec_s.get((codec, after), (0.0, 0.0))[1]

    @cached_property
    def _codec_s(self) -> dict[tuple[str, str], tuple[float, float]]:
        return {(c.codec, c.after): (c.encode_s, c.decode_s) for c in self.codecs}

    def device_bytes(self, *parts: tuple[int, int, int]) -> int:
        """Memory of running intervals (branch, start, stop) one after the other.

        The parameters of all their layers, each once, and the greatest activations.
        """
        layers = {layer.name: layer for i, a, b in parts for layer in self.branches[i][a:b]}
        held = sum(layer.parameter_bytes for layer in layers.values())
        alive = [x.peak_memory_bytes - x.parameter_bytes for x in layers.values()]
        return held + max(alive, default=0)

    def slowed(self, factor: float) -> Profile:
        """The profile of a machine so many times slower."""
        if factor == 1.0:
            return self
        replace = msgspec.structs.replace
        return replace(
            self,
            emulation=f"{self.emulation or self.name}, {factor:g} times slower",
            model_loading_s=factor * self.model_loading_s,
            branches=tuple(
                tuple(
                    replace(x, median_s=factor * x.median_s, p95_s=factor * x.p95_s) for x in branch
                )
                for branch in self.branches
            ),
            codecs=tuple(
                replace(c, encode_s=factor * c.encode_s, decode_s=factor * c.decode_s)
                for c in self.codecs
            ),
        )

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
    """Read a profile; refuses unknown versions, missing fields and impossible figures."""
    profile = read_json(path, Profile, version=FORMAT_VERSION, most_bytes=DEVICE_JSON_BYTES)
    for i, branch in enumerate(profile.branches):
        for k, layer in enumerate(branch):
            where = f"branches[{i}][{k}]"
            _require(path, f"{where}.median_s", layer.median_s, 0.0)
            _require(path, f"{where}.p95_s", layer.p95_s, layer.median_s)
            _require(path, f"{where}.output_bytes", layer.output_bytes, 0.0)
    for n, codec in enumerate(profile.codecs):
        _require(path, f"codecs[{n}].encode_s", codec.encode_s, 0.0)
        _require(path, f"codecs[{n}].decode_s", codec.decode_s, 0.0)
    _require(path, "model_loading_s", profile.model_loading_s, 0.0)
    _require(path, "spread", profile.spread, 1.0)
    if profile.power is not None:
        for name in ("idle_w", "compute_w", "radio_w", "radio_w_per_mbps"):
            _require(path, f"power.{name}", getattr(profile.power, name), 0.0)
    return profile


def _require(path: str | Path, field: str, value: float, least: float) -> None:
    if not least <= value < float("inf"):
        raise ArtefactError(
            path, field=field, found=str(value), expected=f"a finite number, {least:g} or more"
        )


def check_profile(profile: Profile, spec: BranchySpec, path: str | Path = "profile") -> None:
    """Refuse a profile taken of another network."""
    if profile.network_digest != spec.digest:
        raise ArtefactError(
            path,
            field="network_digest",
            found=f"{profile.network_digest[:12]}… ({profile.network})",
            expected=f"{spec.digest[:12]}… ({spec.name})",
        )
    found = tuple(tuple(layer.name for layer in branch) for branch in profile.branches)
    for i, branch in enumerate(spec.branches):
        names = tuple(layer.name for layer in branch)
        if len(found) != len(spec.branches) or found[i] != names:
            raise ArtefactError(
                path,
                field=f"branches[{i}]",
                found=f"layers {', '.join(found[i]) if i < len(found) else 'of no branch'}",
                expected=f"{', '.join(names)}",
            )
