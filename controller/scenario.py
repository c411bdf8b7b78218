"""A scenario: one setting of network, profiles, link, traces, deadline and reward, from TOML.

`Scenario` is the file, validated; `Setting` is what it names, loaded: model, profiles, outcomes,
plan table. Shipped scenarios are named without a path (`edgent`, `3g-alexnet`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from artefacts import (
    ArtefactError,
    UsageError,
    check_name,
    digest_bytes,
    digest_file,
    read_toml,
)
from controller.physics import LinkModel, PlanTable, Timing
from controller.physics.stops import StopRows, with_stops
from controller.physics.table import (
    build_table,
    candidate_plans,
    gated_plans,
    outcome_key,
    stopped_at,
)
from controller.rewards import shortlist
from models.branchy import BranchySpec
from models.cards import Model, load_model, model_folder
from models.codecs import KNOWN, LEARNED, carries_picture, check_codec
from models.outcomes import Outcomes, read_outcomes
from models.profiles import Profile, check_profile, read_profile
from models.reference import REFERENCE_NAMES, reference_profile
from traces.library import TraceSet, load_split
from traces.subsecond import subsecond_set
from traces.trace import BandwidthTrace

FORMAT_VERSION = 1
SHIPPED = Path(__file__).parent / "scenarios"
MOST = 1e5
"""Of any scale, rate or deadline: beyond that nothing here is meant."""


class LinkSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[link]`: what surrounds the trace's rate (see `controller.physics.LinkModel`)."""

    rtt_s: float = 0.0
    message_bytes: float = 0.0
    packet_bytes: float = 0.0


class TraceSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[traces]`: the family whose split is used, and the factor on its rates."""

    family: Literal["belgium", "norway"]
    scale: float = 1.0


class FrameSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[frames]`: deadline (latency requirement) and, in a frame stream, the frame rate."""

    deadline_s: float
    rate_fps: float = 0.0


class PlanSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[plans]`: which plans exist.

    `confidence`: thresholds at which a frame ends at an exit on its way ("unless confident
    before").
    """

    codecs: tuple[str, ...] = ("float32",)
    edge_first: bool = True
    device_first: bool = True
    hedge: bool = False
    no_rescue: bool = False
    confidence: tuple[float, ...] = ()
    anytime: bool = True
    """Whether what was computed on the way answers where the plan does not (false: for ablations,
    in simulation only; the runtime always answers)."""


class RewardSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[reward]`: prices in correct answers (frame stream); the closed loop has the paper's."""

    device_second: float = 0.0
    megabyte: float = 0.0


class SeedSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[seeds]`: of training and of evaluation (phases, samples, compute times)."""

    train: int = 0
    evaluate: int = 1


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A scenario file; every key is checked, an unknown one is refused."""

    format_version: int
    name: str
    kind: Literal["frame-stream", "closed-loop"]
    description: str
    network: str
    device_profile: str
    edge_profile: str
    traces: TraceSection
    frames: FrameSection
    link: LinkSection = LinkSection()
    plans: PlanSection = PlanSection()
    reward: RewardSection = RewardSection()
    seeds: SeedSection = SeedSection()
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
            check_codec(codec)
        except UsageError:
            raise ArtefactError(
                path, field="plans.codecs", found=f"'{codec}'", expected=f"one of {KNOWN}"
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


@dataclass(frozen=True)
class OutcomeRows:
    """Whether each sample is answered correctly, and where gated plans end for it.

    `correct` is uint8 (E + R, S) over the samples of one half; row `exit` serves local answers,
    row E + r the own answer of row r of `stops`. `at` (P, S): the row that a plan becomes for a
    sample; None where no plan has gates.
    """

    correct: npt.NDArray[np.uint8]
    exits: int
    stops: StopRows
    at: npt.NDArray[np.int32] | None

    @property
    def samples(self) -> int:
        """Samples in this half."""
        return int(self.correct.shape[1])

    def ending(
        self, plan: npt.NDArray[np.int64], sample: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """The row of `stops` that each plan becomes for its sample."""
        if self.at is None:
            return plan
        return self.at.take(plan * self.samples + sample).astype(np.int64)

    def row(
        self,
        ending: npt.NDArray[np.int64],
        exit_: npt.NDArray[np.int64],
        by_plan: npt.NDArray[np.bool_],
    ) -> npt.NDArray[np.int64]:
        """Row of `correct` of an answer given by exit `exit_`, by the plan itself or on the way."""
        return np.where(by_plan, self.exits + ending, exit_)

    @cached_property
    def share(self) -> npt.NDArray[np.float64]:
        """Share of its plan's samples that each row of `stops` is of, (R,)."""
        return self._by_row[0]

    def accuracy(
        self,
        ending: npt.NDArray[np.int64],
        exit_: npt.NDArray[np.int64],
        by_plan: npt.NDArray[np.bool_],
    ) -> npt.NDArray[np.float64]:
        """Accuracy of answers among the samples that end in that row (harder ones go on)."""
        _, own, local = self._by_row
        return np.where(by_plan, own[ending], local[ending, exit_])

    @cached_property
    def _by_row(
        self,
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Share (R,), accuracy of the own answer (R,) and of every local one (R, E)."""
        mean = self.correct.mean(axis=1)
        rows = len(self.stops.owner)
        share, own = np.ones(rows), mean[self.exits :].copy()
        local = np.tile(mean[: self.exits], (rows, 1))
        gated = () if self.at is None else np.flatnonzero((self.stops.row >= 0).any(axis=1))
        for plan in gated:
            for row in np.flatnonzero(self.stops.owner == plan):
                mine = self.at[plan] == row if self.at is not None else np.array([])
                share[row] = mine.mean()
                if mine.any():
                    own[row] = self.correct[self.exits + row, mine].mean()
                    local[row] = self.correct[: self.exits, mine].mean(axis=1)
        return share, own, local


@dataclass(frozen=True, repr=False)
class Setting:
    """Everything a scenario names, loaded and checked against one another."""

    scenario: Scenario
    model: Model
    device: Profile
    edge: Profile
    outcomes: Outcomes
    table: PlanTable
    """The plans that are worth choosing among; controllers answer with an index into it."""
    candidates: PlanTable
    """Every plan the scenario allows, gates aside."""
    sub_second_seed: int | None = None
    """Of the variation within seconds that is laid over every part's traces; None for none."""
    given_prices: RewardSection | None = None
    """Prices given at run time, in the place of the scenario's."""

    def __repr__(self) -> str:
        return f"Setting({self.scenario.name}, {len(self.table)} plans)"

    @property
    def spec(self) -> BranchySpec:
        """The branchy network's architecture."""
        return self.model.spec

    @property
    def closed_loop(self) -> bool:
        """Whether the next inference starts when the last ends (the paper's loop)."""
        return self.scenario.kind == "closed-loop"

    @property
    def interval_s(self) -> float:
        """Seconds between two frames of a stream; infinite in the closed loop."""
        rate = self.scenario.frames.rate_fps
        return float("inf") if self.closed_loop or rate <= 0 else 1.0 / rate

    @property
    def prices(self) -> RewardSection:
        """What device seconds and megabytes cost now."""
        return self.scenario.reward if self.given_prices is None else self.given_prices

    @cached_property
    def inputs_digest(self) -> str:
        """SHA-256 of what was measured: both profiles, outcomes, temperatures of confidence."""
        parts = (
            digest_bytes(msgspec.json.encode(self.device)),
            digest_bytes(msgspec.json.encode(self.edge)),
            digest_file(self.model.folder / "outcomes.npz"),
            repr(self.model.temperatures),
        )
        return digest_bytes(" ".join(parts).encode())

    def at_prices(self, device_second: float, megabyte: float) -> Setting:
        """The same plans, traces and samples at other prices."""
        for field, value in (("device_second", device_second), ("megabyte", megabyte)):
            if not 0 <= value < float("inf"):
                raise UsageError(f"prices, {field}: found {value:g}, expected 0 or more")
        if self.closed_loop and (device_second or megabyte):
            raise UsageError(
                f"prices: found some for '{self.scenario.name}', expected none: a closed loop has "
                "the paper's reward"
            )
        made = replace(self, given_prices=RewardSection(device_second, megabyte))
        # what prices do not change is not worked out again
        kept = ("stops", "_rows", "link_model", "timing")
        made.__dict__.update({name: self.__dict__[name] for name in kept if name in self.__dict__})
        return made

    @cached_property
    def link_model(self) -> LinkModel:
        """What surrounds the trace's rate."""
        link = self.scenario.link
        return LinkModel(link.rtt_s, link.message_bytes, link.packet_bytes)

    @cached_property
    def timing(self) -> Timing:
        """The physics' clock: no cancelling in the closed loop."""
        return Timing(None if self.closed_loop else self.scenario.frames.deadline_s)

    def traces(self, part: str) -> TraceSet:
        """The scenario's traces of 'train', 'validation' or 'test', scaled."""
        found = self.scaled(load_split(self.scenario.traces.family, part))
        if self.sub_second_seed is None:
            return found
        return subsecond_set(found, self.sub_second_seed)

    def with_sub_second(self, seed: int) -> Setting:
        """The same with variation within seconds on every part's traces (`traces.subsecond`)."""
        return replace(self, sub_second_seed=seed)

    def scaled(self, traces: TraceSet) -> TraceSet:
        """Other traces, scaled as this scenario's are."""
        factor = self.scenario.traces.scale
        if factor == 1.0:
            return traces
        return replace(traces, traces=tuple(scale_trace(t, factor) for t in traces.traces))

    @cached_property
    def stops(self) -> StopRows:
        """What the table's plans become once their gates have been asked."""
        return with_stops(self.table)

    def rows(self, half: str) -> OutcomeRows:
        """Outcomes of one half of the samples, by exit and by every way a plan may end."""
        if half not in self._rows:
            self._rows[half] = self._made_rows(half)
        return self._rows[half]

    @cached_property
    def _rows(self) -> dict[str, OutcomeRows]:
        return {}

    def _made_rows(self, half: str) -> OutcomeRows:
        index, exits = self.outcomes.half(half), len(self.spec.exits)
        rows = [self.outcomes.correct(i)[index] for i in range(exits)]
        for plan in self.stops.table.plans:
            codec, cut = outcome_key(plan)
            rows.append(self.outcomes.correct(plan.exit, codec, cut)[index])
        at = None
        if self.table.gated.any():
            at = np.tile(np.arange(len(self.table), dtype=np.int32)[:, None], (1, len(index)))
            for p, plan in enumerate(self.table.plans):
                stopped = stopped_at(self.outcomes, plan, self.model.temperatures)[index]
                for g in range(len(plan.gates)):
                    at[p, stopped == g] = self.stops.row[p, g]
        return OutcomeRows(np.stack(rows).astype(np.uint8), exits, self.stops, at)


def scale_trace(trace: BandwidthTrace, factor: float) -> BandwidthTrace:
    """The trace at `factor` times its rates."""
    return trace.scale(factor)


def load_setting(scenario: Scenario) -> Setting:
    """Load what a scenario names; every artefact is checked against the network."""
    model = load_model(scenario.network)
    device = load_profile(scenario.device_profile, model).slowed(scenario.device_slowdown)
    edge = load_profile(scenario.edge_profile, model)
    for named, profile in ((scenario.device_profile, device), (scenario.edge_profile, edge)):
        _check_codecs(named, profile, scenario.plans.codecs)
    outcomes = read_outcomes(model.folder / "outcomes.npz")
    if outcomes.model_digest != model.digest:
        raise ArtefactError(
            model.folder / "outcomes.npz",
            field="model_digest",
            found=outcomes.model_digest,
            expected=model.digest,
        )
    plans = candidate_plans(
        model.spec,
        scenario.plans.codecs,
        edge_first=scenario.plans.edge_first,
        device_first=scenario.plans.device_first,
        hedge=scenario.plans.hedge,
        no_rescue=scenario.plans.no_rescue,
    )
    stream = scenario.kind == "frame-stream"
    anytime = stream and scenario.plans.anytime
    every = build_table(model.spec, device, edge, outcomes, plans, anytime=anytime)
    table = every.undominated(scenario.link.rtt_s, queues=stream)
    setting = Setting(scenario, model, device, edge, outcomes, table, every)
    setting = replace(setting, table=table.take(shortlist(setting)))
    if not scenario.plans.confidence:
        return setting
    # gates on what is worth choosing without them: on every plan there would be thousands
    plain = setting.table.plans
    gated = gated_plans(model.spec, plain, scenario.plans.confidence)
    both = build_table(
        model.spec, device, edge, outcomes, (*plain, *gated), anytime=anytime,
        temperatures=model.temperatures,
    )  # fmt: skip
    setting = replace(setting, table=both)
    # who knows no confidence chooses among the same plans as without it
    chosen = set(range(len(plain))) | set(shortlist(setting))
    return replace(setting, table=both.take(sorted(chosen)))


def load_profile(name: str, model: Model) -> Profile:
    """A profile by name or file; refused where it is of another network.

    Names: the references (`edgent-pi3`), then what was measured of this model and shipped with it.
    """
    file = profile_file(name, model.folder)
    if file is None:
        return reference_profile(name, model.spec)
    profile = read_profile(file)
    check_profile(profile, model.spec, str(file))
    return profile


def profile_file(name: str, model: Path) -> Path | None:
    """The file of a profile by name or path, of the model in a folder; None for a reference."""
    if name in REFERENCE_NAMES:
        return None
    shipped = model / "profiles" / f"{name}.json"
    if shipped.is_file() or Path(name).exists():
        return shipped if shipped.is_file() else Path(name)
    names = sorted(p.stem for p in shipped.parent.glob("*.json"))
    raise UsageError(
        f"profile: found '{name}', expected a profile's file or one of "
        f"{', '.join([*REFERENCE_NAMES, *names])}"
    )


def _check_codecs(path: str, profile: Profile, codecs: tuple[str, ...]) -> None:
    """Refuse a profile that says nothing of a codec that takes real time (it would be free)."""
    timed = {c.codec for c in profile.codecs}
    for codec in codecs:
        heavy = codec == LEARNED or (carries_picture(codec) and codec != "uint8")
        if heavy and codec not in timed:
            raise ArtefactError(
                path,
                field="codecs",
                found=f"no time for '{codec}'",
                expected=f"one (coinfer profile --codecs {','.join(codecs)})",
            )
