"""One controller (or one seed of the learned policy) on one group's traces, run once and kept.

A kept lies in a folder as KEY.json (figures, for people and tools) and KEY.npz (every frame). The
key is a digest of all that the result depends on, sources included: whatever changed is run anew,
whatever did not is read. The frames are written first and both by rename, so that an interrupted
command goes on where it was.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from artefacts import (
    CoinferError,
    atomic_write,
    digest_bytes,
    read_bytes,
    read_json,
    write_json,
)
from artefacts.arrays import unpack_npz
from artefacts.cache import is_guarded
from controller.physics import TraceBank
from controller.policies import SHIPPED_GENERALIST
from controller.registry import installed_controllers
from controller.scenarios import Setting
from experiments.evaluation.bound import bound_per_frame
from experiments.evaluation.comparison import ControllerFigures, controller_figures
from experiments.evaluation.controllers import ControllerFactory
from experiments.evaluation.digests import code_digest, package_digest, policy_digest
from experiments.evaluation.evaluator import TraceRun, evaluate
from experiments.studies.inputs import Group, TrainedOn
from traces.trace import traces_digest

FORMAT_VERSION = 1
PER_FRAME = ("plan", "arrival_s", "latency_s", "quality", "in_time", "reward", "bytes_sent",
             "device_s", "energy_j")  # fmt: skip
PER_TRACE = ("probe_bytes", "loading_s", "duration_s")
STORED = {"plan": "<i4", "quality": "<f4", "in_time": "?", "bytes_sent": "<f4", "device_s": "<f4",
          "energy_j": "<f4"}  # fmt: skip
"""Types on disk; what is not named is float64."""
RIGHT = "correct"
"""In the place of `quality`, as bits, where every answer is either right or wrong."""


class KeptRunsFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """KEY.json."""

    format_version: int
    key: str
    scenario: str
    controller: str
    policy: str
    seed: int
    frames_digest: str
    bound_sums: tuple[float, ...]
    figures: ControllerFigures


@dataclass(frozen=True)
class KeptRuns:
    """A kept's runs, one a trace, and the sum of the clairvoyant bound over each."""

    runs: tuple[TraceRun, ...]
    bound_sums: tuple[float, ...]


@dataclass
class GroupRunner:
    """Runs a setting's runs on one group, or reads what is kept in `folder`."""

    setting: Setting
    group: Group
    folder: Path
    frames: int | None = None
    detector: str = "bayes"
    progress: Callable[[str, float], None] = lambda name, share: None

    def baseline(self, name: str, seed: int) -> KeptRuns:
        """A controller that is no trained policy."""
        return self._kept_runs(name, None, seed)

    def learned(self, policy: Path, seed: int) -> KeptRuns:
        """One seed of the learned policy."""
        return self._kept_runs("learned", policy, seed)

    def _kept_runs(self, name: str, policy: Path | None, seed: int) -> KeptRuns:
        key = self._key(name, policy, seed)
        kept = read_kept_runs(self.folder, key)
        if kept is not None:
            self.progress(name, 1.0)
            return kept
        self.progress(name, 0.0)
        factory = self._factory
        if policy is not None:
            factory = ControllerFactory(self.setting, policy_folder=policy)
            _ = factory.learned  # refused before anything is run
        traces = self.group.traces.traces
        runs = evaluate(
            self.setting, traces, factory.maker(name, traces), seed=seed,
            progress=lambda share: self.progress(name, share), max_frames=self.frames,
            bank=self._bank,
        )  # fmt: skip
        # as they will be read: what is reported now and what is reported later are the same figures
        packed = pack_runs(runs)
        kept = KeptRuns(unpack_runs(packed), self._bound_sums(runs, seed))
        bounds = [np.array([total]) for total in kept.bound_sums]
        figures = controller_figures(self.setting, kept.runs, bounds, seed)
        named = "" if policy is None else str(policy)
        self._keep(KeptRunsFile(
            FORMAT_VERSION, key, self.setting.scenario.name, name, named, seed,
            digest_bytes(packed), kept.bound_sums, figures,
        ), packed)  # fmt: skip
        return kept

    @cached_property
    def _bank(self) -> TraceBank:
        return TraceBank(self.group.traces.traces)

    @cached_property
    def _factory(self) -> ControllerFactory:
        # planning draws nothing: of a group's policies the first one's stands for all
        return TrainedOn(
            self.setting, detector=self.detector, given=self.group.training,
            policy_folder=next(iter(self.group.policies), None), max_frames=self.frames,
            tuned_folder=self.folder,
            progress=lambda what: self.progress(what, 0.0),
        )  # fmt: skip

    @cached_property
    def _common(self) -> tuple[str, ...]:
        return (
            str(FORMAT_VERSION), code_digest(), self.setting.digest, str(self.frames),
            traces_digest(self.group.traces.traces),
        )  # fmt: skip

    @cached_property
    def _training(self) -> str:
        return traces_digest(self.group.training.traces)

    def _key(self, name: str, policy: Path | None, seed: int) -> str:
        # what is learnt from training traces depends on them; a policy is its own file
        own = (self._training, self.detector) if policy is None else (policy_digest(policy),)
        if name == "generalist":
            own = (policy_digest(SHIPPED_GENERALIST, "generalist"),)
        if name == "planning":
            own = (policy_digest(self.group.policies[0]),)
        if name in installed_controllers():
            own = (*own, package_digest(installed_controllers()[name].value))
        elif ":" in name:
            own = (*own, package_digest(name))
        return digest_bytes("\n".join((*self._common, name, str(seed), *own)).encode())

    def _bound_sums(self, runs: Sequence[TraceRun], seed: int) -> tuple[float, ...]:
        """Of every trace; in a stream every controller's frames start alike, so it is kept."""
        path = self.folder / f"bound-{self._key('bound', None, seed)}.json"
        kept = None if self.setting.closed_loop else _kept_values(path)
        if kept is not None and len(kept) == len(runs):
            return kept
        self.progress("clairvoyant bound", 0.0)
        found = []
        for done, (trace, run) in enumerate(zip(self.group.traces.traces, runs, strict=True)):
            found.append(float(bound_per_frame(self.setting, trace, run.arrival_s).sum()))
            self.progress("clairvoyant bound", (done + 1) / len(runs))
        if not self.setting.closed_loop:
            write_json(path, _Values(FORMAT_VERSION, tuple(found)))
        return tuple(found)

    def _keep(self, kept: KeptRunsFile, packed: bytes) -> None:
        with atomic_write(self.folder / f"{kept.key}.npz", "wb") as stream:
            stream.write(packed)
        write_json(self.folder / f"{kept.key}.json", kept)


class _Values(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format_version: int
    values: tuple[float, ...]


def _kept_values(path: Path) -> tuple[float, ...] | None:
    if not is_guarded(path):
        return None
    try:
        return read_json(path, _Values, version=FORMAT_VERSION).values
    except CoinferError:
        return None


def read_kept_runs(folder: Path, key: str) -> KeptRuns | None:
    """A kept that was kept; None where there is none, or none that is whole."""
    try:
        paths = folder / f"{key}.json", folder / f"{key}.npz"
        if not all(is_guarded(path) for path in paths):
            return None
        card = read_json(paths[0], KeptRunsFile, version=FORMAT_VERSION)
        packed = read_bytes(paths[1])
        if card.key != key or digest_bytes(packed) != card.frames_digest:
            return None
        return KeptRuns(unpack_runs(packed), card.bound_sums)
    except (CoinferError, OSError, ValueError, KeyError):
        return None


def pack_runs(runs: Sequence[TraceRun]) -> bytes:
    """Every frame of every run as one compressed npz (no objects)."""
    arrays = {
        name: np.concatenate([getattr(r, name) for r in runs]).astype(STORED.get(name, "<f8"))
        for name in PER_FRAME
    }
    quality = arrays["quality"]
    if np.isin(quality, (0.0, 1.0)).all():
        arrays[RIGHT] = arrays.pop("quality") > 0
    arrays |= {name: np.array([getattr(r, name) for r in runs]) for name in PER_TRACE}
    arrays["frames"] = np.array([len(r.plan) for r in runs])
    arrays["trace"] = np.array([r.trace for r in runs])
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def unpack_runs(packed: bytes) -> tuple[TraceRun, ...]:
    """What `pack_runs` packed."""
    arrays = unpack_npz("kept runs", io.BytesIO(packed), "an npz of frames")
    if "quality" not in arrays:
        arrays["quality"] = arrays[RIGHT]
    ends = np.cumsum(arrays["frames"])
    whole = {
        name: arrays[name] if name == "in_time" else arrays[name].astype(
            np.int64 if name == "plan" else np.float64
        )
        for name in PER_FRAME
    }  # fmt: skip
    found = []
    for k, end in enumerate(ends.tolist()):
        begin = end - int(arrays["frames"][k])
        fields: dict[str, Any] = {name: whole[name][begin:end] for name in PER_FRAME}
        fields |= {name: float(arrays[name][k]) for name in PER_TRACE}
        found.append(TraceRun(trace=str(arrays["trace"][k]), **fields))
    return tuple(found)
