"""What an evaluation runs on: traces, what was trained on, policies; and digests of all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

from artefacts import UsageError
from controller.policies.network import load_policy, policy_folder, read_card
from controller.scenarios import Setting, read_scenario, scale_trace
from experiments.evaluation.controllers import ControllerFactory, chosen_names
from experiments.studies.study import EvaluationSpec, FoldSpec
from traces.formats import read_trace
from traces.library import FOLDERS, PARTS, TraceSet, load_split, read_set, read_split
from traces.trace import BandwidthTrace, log_digest, trace_digest

SPLIT_FAMILIES = ("belgium", "norway")


@dataclass(frozen=True)
class Group:
    """Traces that share what was trained: one of a plain evaluation, one a fold otherwise."""

    traces: TraceSet
    training: TraceSet
    policies: tuple[Path, ...]


@dataclass
class TrainedOn(ControllerFactory):
    """Controllers that learn from given traces instead of the scenario's training split."""

    given: TraceSet | None = None

    @cached_property
    def training(self) -> TraceSet:
        """What was given, or the training split."""
        return self.setting.traces("train") if self.given is None else self.given


def groups_of(spec: EvaluationSpec, setting: Setting) -> tuple[Group, ...]:
    """The groups of an evaluation; every policy named must be there."""
    if spec.folds:
        groups = tuple(_fold(spec, fold, setting) for fold in spec.folds)
    else:
        policies = tuple(Path(folder) for folder in spec.policies)
        own = policy_folder(spec.scenario, setting.scenario.name)
        if not policies and own is not None:
            policies = (own,)
        groups = (Group(_traces(spec, setting), setting.traces("train"), policies),)
    names = [t.name for group in groups for t in group.traces.traces]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"evaluation '{spec.name}': found two traces named '{name}'")
    for folder in (f for group in groups for f in group.policies):
        if not (folder / "policy.json").exists():
            raise UsageError(
                f"evaluation '{spec.name}', policies: found no policy in '{folder}', expected "
                "policy.json and policy.npz (coinfer train --scenario ... --out ...)"
            )
        load_policy(folder, setting)  # one that does not fit is refused before anything is run
    for group in groups:
        _check_seeds(spec, group)
    return groups


def _check_seeds(spec: EvaluationSpec, group: Group) -> None:
    """Two policies of one training seed are one: what they agree in is no evidence."""
    seeds = [read_card(folder).training.get("seed") for folder in group.policies]
    for k, seed in enumerate(seeds):
        if seed is not None and seed in seeds[:k]:
            raise UsageError(
                f"evaluation '{spec.name}', policies: found training seed {seed} in "
                f"'{group.policies[seeds.index(seed)]}' and in '{group.policies[k]}', expected one "
                "policy a seed"
            )


def baseline_names(
    spec: EvaluationSpec, setting: Setting, groups: Sequence[Group]
) -> tuple[str, ...]:
    """Controllers to run beside 'learned'; where none are named its planning alone is one."""
    names = list(spec.controllers or (*chosen_names("", setting), "planning"))
    if not all(group.policies for group in groups):
        if "planning" in spec.controllers:
            raise UsageError(
                f"evaluation '{spec.name}', controllers: found 'planning', expected policies too"
            )
        names = [n for n in names if n != "planning"]
    return tuple(n for n in names if n != "learned")


def _traces(spec: EvaluationSpec, setting: Setting) -> TraceSet:
    if spec.traces_of:
        other = read_scenario(spec.traces_of)
        return _scaled(load_split(other.traces.family, "test"), other.traces.scale)
    if spec.traces:
        return _scaled(read_set(spec.traces), trace_scale(spec, setting))
    return setting.traces("test")


def trace_scale(spec: EvaluationSpec, setting: Setting) -> float:
    """The factor on the traces' rates."""
    if spec.traces_of:
        return read_scenario(spec.traces_of).traces.scale
    return setting.scenario.traces.scale if spec.scale is None else spec.scale


def _scaled(traces: TraceSet, factor: float) -> TraceSet:
    return replace(traces, traces=tuple(scale_trace(t, factor) for t in traces.traces))


def _fold(spec: EvaluationSpec, fold: FoldSpec, setting: Setting) -> Group:
    family, factor = setting.scenario.traces.family, trace_scale(spec, setting)
    test, generated = _file(fold.test, family)
    training = [_file(file, family) for file in fold.train]
    if trace_digest(test) in {trace_digest(t) for t, _ in training}:
        raise UsageError(
            f"evaluation '{spec.name}': fold '{fold.test}' is tested on a trace it was trained on"
        )
    made = " generated" if generated else ""
    return Group(
        _scaled(TraceSet((test,), generated, f"leave one file out,{made} {family} logs"), factor),
        _scaled(
            TraceSet(tuple(t for t, _ in training), any(g for _, g in training),
                     f"{len(training)}{made} {family} logs, the tested one left out"),
            factor,
        ),
        tuple(Path(folder) for folder in fold.policies),
    )  # fmt: skip


def _file(name: str, family: str) -> tuple[BandwidthTrace, bool]:
    """A trace by path, or by its file's name in the family's split; and whether it is generated."""
    if Path(name).is_file():
        return read_trace(name), False
    known = _family(family)
    if Path(name).name not in known:
        raise UsageError(
            f"fold: found '{name}', expected a trace file or one of {FOLDERS[family]}'s split"
        )
    return known[Path(name).name]


@cache
def _family(family: str) -> dict[str, tuple[BandwidthTrace, bool]]:
    split, found = read_split(family), {}
    for part in PARTS:
        loaded = load_split(family, part)
        for file, trace in zip(getattr(split, part), loaded.traces, strict=True):
            found[file.file] = (trace, loaded.generated)
    return found


def mode_of_trace(name: str) -> str | None:
    """Mode of transport of a split's trace (a stand-in has its file's); None of any other."""
    return _modes().get(name.removesuffix(".generated"))


@cache
def _modes() -> dict[str, str]:
    return {
        Path(file.file).stem: file.mode
        for family in SPLIT_FAMILIES
        for part in PARTS
        for file in getattr(read_split(family), part)
    }


def seen_in_training(groups: Sequence[Group], setting: Setting) -> tuple[str, ...]:
    """Names of the test traces that something evaluated may have been trained or chosen on."""
    found = []
    for group in groups:
        known = list(group.training.traces)
        if len(groups) == 1:
            known += setting.traces("validation").traces
        digests = {log_digest(t) for t in known}
        for folder in group.policies:
            # what a policy says of itself, wherever it was trained
            digests |= set(read_card(folder).training.get("trace_digests", ()))
        found += [t.name for t in group.traces.traces if log_digest(t) in digests]
    return tuple(found)
