"""`coinfer profile` of a network of ours: its layers timed, or a published reference written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import typer

from coinfer.cli.console import console, emit_json, print_table, progress_bar

if TYPE_CHECKING:
    from models.facts.branchy import BranchySpec
    from models.facts.cards import Model
    from models.facts.profiles import LayerProfile, Profile
    from models.networks.measuring.timing import Executor, ProfilingArgs


@dataclass(frozen=True, slots=True)
class OursTiming:
    """What the command says of how a network of ours is timed."""

    executor: str
    threads: int
    repeats: int
    slowdown: float
    grid: int | None
    seed: int
    codecs: tuple[str, ...]
    codec_slowdown: float | None

    def arguments(self) -> ProfilingArgs:
        """The same, checked."""
        from models.networks.measuring.timing import ProfilingArgs

        return ProfilingArgs(
            executor=cast("Executor", self.executor or "torch"),  # refused there if it is none
            threads=self.threads,
            repeats=self.repeats,
            slowdown=self.slowdown,
            grid=24 if self.grid is None else self.grid,
            seed=self.seed,
            codecs=self.codecs,
            codec_slowdown=self.codec_slowdown,
        )


def profile_ours(
    model: str, out: Path, reference: str | None, reading: str, timing: OursTiming, *, json: bool
) -> None:
    """Profile a network of ours on this machine, or write a published reference of it."""
    from artefacts import ready_file
    from models.facts.cards import load_model
    from models.facts.profiles import write_profile

    loaded = load_model(model)
    ready_file(out)
    if reference is None:
        taken = _measure(loaded, out, timing.arguments())
    else:
        taken = _reference(reference, loaded.spec, reading)
    write_profile(out, taken)
    if json:
        emit_json(taken)
        return
    _print_profile(taken)
    if reference is None:
        _print_predictors(taken)
    else:
        _print_readings(loaded.spec)
    console.print(f"written to {out}")


def _measure(model: Model, out: Path, args: ProfilingArgs) -> Profile:
    from models.networks.measuring.profiling import profile_model

    with progress_bar() as bar:
        task = bar.add_task("model", total=None, note="")

        def progress(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total)

        try:
            return profile_model(model, out.stem, args, progress)
        except KeyboardInterrupt:
            console.print("interrupted: nothing was written")
            raise typer.Exit(130) from None


def _reference(name: str, spec: BranchySpec, reading: str) -> Profile:
    from artefacts import UsageError
    from models.facts.reference import reference_profile

    if reading not in ("maps", "elements"):
        raise UsageError(f"reading: found '{reading}', expected maps or elements")
    return reference_profile(name, spec, "maps" if reading == "maps" else "elements")


def _layers(profile: Profile) -> Iterable[LayerProfile]:
    named: dict[str, LayerProfile] = {}
    for branch in reversed(profile.branches):  # the trunk first, then the heads
        for layer in branch:
            named.setdefault(layer.name, layer)
    return named.values()


def _print_profile(profile: Profile) -> None:
    print_table(
        f"{profile.name}: {profile.network} on {profile.executor}, {profile.threads} thread(s)",
        [
            "layer",
            "kind",
            "median ms",
            "p95 ms",
            "runs",
            "output",
            "output B",
            "param. B",
            "peak B",
        ],
        [
            (
                layer.name,
                layer.kind,
                f"{1e3 * layer.median_s:.4f}",
                f"{1e3 * layer.p95_s:.4f}",
                layer.samples,
                "x".join(map(str, layer.output_shape)),
                layer.output_bytes,
                layer.parameter_bytes,
                layer.peak_memory_bytes,
            )
            for layer in _layers(profile)
        ],
    )
    print_table(
        "whole branches",
        ["branch", "layers", "median ms", "p95 ms"],
        [
            (
                f"exit {i + 1}",
                len(branch),
                f"{1e3 * profile.interval_s(i, 0, len(branch)):.3f}",
                f"{1e3 * profile.interval_p95_s(i, 0, len(branch)):.3f}",
            )
            for i, branch in enumerate(profile.branches)
        ],
    )
    peak = profile.process_peak_bytes
    remarks = [
        f"model loading {1e3 * profile.model_loading_s:.1f} ms",
        f"peak B: parameters and activations, {profile.memory}",
        f"greatest process memory {peak / 2**20:.0f} MiB" if peak is not None else None,
        profile.emulation,
        f"transcribed, not measured: {profile.transcribed}" if profile.transcribed else None,
    ]
    for remark in remarks:
        if remark:
            print(remark)


def _print_predictors(profile: Profile) -> None:
    if not profile.predictors:
        return

    def share(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:.0f} %"

    print_table(
        "regression: mean absolute percentage error on layers not fitted",
        ["kind", "variables", "fitted", "held out", "error", "R2", "leave one out", "own layers"],
        [
            (
                p.kind,
                " + ".join(p.variables),
                p.layers,
                p.held_out,
                share(p.mape),
                f"{p.r2:.2f}",
                share(p.leave_one_out_mape),
                share(p.own_mape),
            )
            for p in profile.predictors
        ],
    )


def _print_readings(spec: BranchySpec) -> None:
    from models.facts.reference import PAPER_ANCHOR, anchor_gap, whole_branch_s

    maps, elements = whole_branch_s(spec, "maps"), whole_branch_s(spec, "elements")
    print_table(
        "what each reading of conv's x1 gives without transfer, ms",
        ["machine", "reading", *(f"exit {i + 1}" for i in range(len(spec.exits)))],
        [
            (name, reading, *(f"{1e3 * s:.1f}" for s in table[name]))
            for name in maps
            for reading, table in (("maps", maps), ("elements", elements))
        ],
    )
    gap = anchor_gap(spec)
    print_table(
        "the paper's edge-only against Input / B + edge layers",
        ["bandwidth", "paper s", "ours s"],
        [
            (f"{rate_bps / 1e6:g} Mbit/s", f"{paper:.3f}", f"{ours:.3f}")
            for (rate_bps, _), paper, ours in zip(
                PAPER_ANCHOR, gap.paper_s, gap.ours_s, strict=True
            )
        ],
    )
    print(
        f"the paper's two times imply {gap.implied_bytes:,.0f} bytes on the link and "
        f"{1e3 * gap.implied_constant_s:.1f} ms beside it: {100 * gap.excess:.1f} % more than "
        f"{gap.input_bytes:,} bytes; headers are {100 * gap.header_bytes / gap.input_bytes:.1f} %"
    )
