"""The loop of a deployment: run, keep records, learn from them, run again; each step is kept.

Runs are of real processes on a real link (`experiments.replay.session`), or simulated. Either way
controllers know the scenario alone: nobody tells them of the other link or of the slower device.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from artefacts import UsageError, read_json, write_json
from controller.policies.network import load_policy, save_policy
from controller.scenarios import Setting, load_setting, read_scenario
from experiments.evaluation.controllers import ControllerFactory
from experiments.evaluation.evaluator import TraceRun, evaluate
from experiments.evaluation.learned_policies import shipped_policy
from experiments.learning.continued import LEARNING_RATE
from experiments.learning.from_records import learnt, read_material, verdict_on
from experiments.learning.records import check_streams, read_streams
from experiments.learning.training_args import TrainArgs, TrainReport
from experiments.learning.verdict import NEW, Verdict
from experiments.replay.deployment.places import Place, place_of, slower_device
from experiments.replay.deployment.simulated import simulated_records
from experiments.replay.session import ReplayArgs, measured_run, run_processes
from traces.trace import BandwidthTrace

RECORD_SEED, JUDGE_SEED = 11, 12
"""Of phases and pictures, while records are kept and when held-back logs are run."""
LEAST_MINUTES = 2.0
"""The last 15 % of less would be no trace."""
PROFILED, BEFORE, AFTER = "device as profiled", "before", "after"
RUNS = (
    (PROFILED, "learned"), (BEFORE, "learned"), (BEFORE, "robust"), (BEFORE, "device-only"),
    (AFTER, "learned"), (AFTER, "robust"),
)  # fmt: skip
"""When, and who decides. First what the policy does where only the link is another."""
Say = Callable[[str], None]


class Plan(msgspec.Struct, frozen=True):
    """What is deployed where, and for how long."""

    scenario: str
    traces: str
    """Another family than the scenario's, or a file or folder."""
    scale: float | None
    """Of its rates (null: so that the mean is that of training)."""
    slowdown: float
    """The device takes so many times what its profile says."""
    minutes: float
    """Records are kept for so long."""
    logs: int
    """Held back."""
    seconds: float
    """Of each of them."""
    frames: int
    """Of training."""
    simulated: bool
    method: str
    """Of the link, where it is real."""


class Run(msgspec.Struct, frozen=True):
    """One controller on one held-back log; shares of the frames."""

    when: str
    controller: str
    trace: str
    frames: int
    goodput_accuracy: float
    late_share: float
    reward: float
    """Per frame."""


class Judged(msgspec.Struct, frozen=True):
    """A controller in the simulation of held-back records."""

    reward: float
    goodput_accuracy: float
    late_share: float


class Learnt(msgspec.Struct, frozen=True):
    """What `coinfer train --from` says of the records, and of the policy that it made of them."""

    lines: tuple[str, ...]
    device_pace: float
    held_back: dict[str, Judged]
    verdict: tuple[str, ...]
    training: dict[str, float]


class Figures(msgspec.Struct, frozen=True):
    """Everything that was found."""

    plan: Plan
    scale: float
    source: str
    """Of the link's logs."""
    learnt: Learnt
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Deployment:
    """A plan, loaded; `folder` holds what has been made of it."""

    plan: Plan
    folder: Path
    setting: Setting
    place: Place
    training: TrainArgs

    @classmethod
    def of(cls, plan: Plan, folder: Path) -> Deployment:
        """Load, and refuse a folder that holds another plan's runs."""
        if plan.minutes < LEAST_MINUTES:
            raise UsageError(
                f"--minutes: found {plan.minutes:g}, expected {LEAST_MINUTES:g} or more: a part of "
                "them is held back"
            )
        setting = load_setting(read_scenario(plan.scenario))
        if setting.closed_loop:
            raise UsageError(
                f"scenario '{setting.scenario.name}': found a closed loop, expected a frame stream"
            )
        place = place_of(
            setting, plan.traces, plan.scale, plan.minutes, plan.logs, plan.seconds
        )  # fmt: skip
        kept = folder / "plan.json"
        if not kept.exists():
            write_json(kept, plan)
        elif read_json(kept, Plan) != plan:
            raise UsageError(
                f"--out: found runs of other options in '{folder}', expected the same options or "
                "another folder"
            )
        training = TrainArgs(
            frames=plan.frames, seed=setting.scenario.seeds.train, learning_rate=LEARNING_RATE
        )
        return cls(plan, folder, setting, place, training)

    def at(self, slowdown: float) -> Setting:
        """The setting as it is on a device so much slower."""
        return slower_device(self.setting, slowdown)

    def recorded(self, say: Say) -> Path:
        """The folder of records, made where they are not kept yet."""
        records, marks = self.folder / "records", self.folder / "recorded"
        logs = self.place.recorded
        if self.plan.simulated:
            if not marks.exists():
                shutil.rmtree(records, ignore_errors=True)
                make = ControllerFactory(self.setting).maker("learned", logs)
                place = self.at(self.plan.slowdown)
                simulated_records(self.setting, place, logs, make, records, RECORD_SEED)
                marks.mkdir()
            say(f"records are kept of {len(logs)} logs")
            return records
        records.mkdir(exist_ok=True)
        for number, log in enumerate(logs):
            mark = marks / f"{number + 1}.json"
            if not mark.exists():
                write_json(mark, self._record(log, records))
            say(f"records are kept of log {number + 1} of {len(logs)}, {log.duration_s:.0f} s")
        return records

    def _record(self, log: BandwidthTrace, records: Path) -> Run:
        """A real run whose records are moved to the others once it is whole."""
        unfinished = self.folder / "recording"
        shutil.rmtree(unfinished, ignore_errors=True)
        found = self._real(log, "learned", None, self.plan.slowdown, RECORD_SEED, unfinished)
        for path in unfinished.iterdir():
            path.rename(records / path.name)
        return _run_of("recording", "learned", found)

    def learnt(self, records: Path, say: Say) -> Learnt:
        """The policy of the records in `policy`, and what is said of it."""
        kept = self.folder / "learnt.json"
        if kept.exists():
            return read_json(kept, Learnt)
        streams = read_streams(records)
        check_streams(records, streams, self.setting)
        found, before = read_material(self.setting, records, streams), shipped_policy(self.setting)
        for line in found.lines:
            say(line)
        made = learnt(found, before, self.training, _tenths(say, self.plan.frames))
        save_policy(self.folder / "policy", made)
        verdict = verdict_on(found, before, made)
        training = {
            name: float(value) for name, value in made.card.training.items()
            if name.startswith("validation_reward_of") or name == "validation_reward"
        }  # fmt: skip
        learnt_here = _learnt(found.lines, found.material.pace, verdict, training)
        write_json(kept, learnt_here)
        return learnt_here

    def runs(self) -> Iterator[Run]:
        """Every run on held-back logs, made where it is not kept yet; those after need `learnt`."""
        for when, controller in RUNS:
            paths = [
                self.folder / "runs" / f"{when.replace(' ', '-')}-{controller}-{k + 1}.json"
                for k in range(len(self.place.held_back))
            ]
            slowdown = 1.0 if when == PROFILED else self.plan.slowdown
            policy = self.folder / "policy" if when == AFTER else None
            if self.plan.simulated and not all(path.exists() for path in paths):
                found = self._simulated(controller, policy, slowdown)
                for path, one in zip(paths, found, strict=True):
                    write_json(path, _run_of(when, controller, one))
            for path, log in zip(paths, self.place.held_back, strict=True):
                if not path.exists():
                    one = self._real(log, controller, policy, slowdown, JUDGE_SEED)
                    write_json(path, _run_of(when, controller, one))
                yield read_json(path, Run)

    def _simulated(self, controller: str, policy: Path | None, slowdown: float) -> list[TraceRun]:
        logs = self.place.held_back
        made = None if policy is None else load_policy(policy, self.setting)
        factory = ControllerFactory(self.setting, made, policy_tells=made is not None)
        make = factory.maker(controller, logs)
        return evaluate(self.at(slowdown), logs, make, seed=JUDGE_SEED, as_daemon=True)

    def _real(
        self,
        log: BandwidthTrace,
        controller: str,
        policy: Path | None,
        slowdown: float,
        seed: int,
        keep: Path | None = None,
    ) -> TraceRun:
        plan = self.plan
        args = ReplayArgs(
            plan.scenario, controller, policy, plan.method, seed, as_daemon=True,
            slowdown=slowdown, keep=keep,
        )  # fmt: skip
        record, _ = run_processes(self.setting, log, args, lambda note: None)
        return measured_run(self.setting, log, record)


def _run_of(when: str, controller: str, found: TraceRun) -> Run:
    quality = np.where(found.in_time, found.quality, 0.0)
    return Run(
        when, controller, found.trace, len(quality), float(quality.mean()),
        float((~found.in_time).mean()), float(found.reward.mean()),
    )  # fmt: skip


def _learnt(
    lines: Sequence[str], pace: float, verdict: Verdict, training: dict[str, float]
) -> Learnt:
    judged = {
        name: Judged(float(np.mean(one.rewards)), one.goodput_accuracy, one.late_share)
        for name, one in verdict.controllers.items()
    }
    others = [name for name in verdict.controllers if name != NEW]
    return Learnt(tuple(lines), pace, judged, tuple(verdict.said(n) for n in others), training)


def _tenths(say: Say, frames: int) -> Callable[[TrainReport], None]:
    """Says how far training is, ten times."""
    said = [0]

    def report(now: TrainReport) -> None:
        tenth = 10 * now.frames // max(frames, 1)
        if tenth > said[0]:
            said[0] = tenth
            say(f"trained on {now.frames:,} of {frames:,} frames, {now.frames_per_s:,.0f} a second")

    return report
