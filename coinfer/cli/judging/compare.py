"""`coinfer compare`: controllers beside one another in simulation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from artefacts.printing import number_of
from coinfer.cli.console import console, emit_json, print_table, progress_bar
from coinfer.cli.deciding.controllers import look_here
from coinfer.cli.options import (
    DeviceSecondOption,
    JsonOption,
    MegabyteOption,
    PolicyOption,
    ScenarioOption,
)
from coinfer.cli.scenario import (
    policy_of,
    prices_of,
    say_no_policy,
    say_samples,
    say_source,
    setting_of,
)
from coinfer.cli.trace_files import LeftOut, OwnScaleOption, own_traces

if TYPE_CHECKING:
    from controller.scenarios import Setting
    from experiments.evaluation.closed_gap import ClosedGap
    from experiments.evaluation.comparison import Comparison
    from traces.library import TraceSet

TracesOption = Annotated[
    list[Path] | None, typer.Option(help="Trace files or folders (the test split).")
]
ControllersOption = Annotated[
    str,
    typer.Option(
        help="Names separated by commas, or PACKAGE.MODULE:FACTORY (all but those that "
        "'coinfer controllers' lists as on demand, and 'learned' where there is no policy)."
    ),
]
SeedOption = Annotated[int | None, typer.Option(min=0, help="Phases, samples, compute times.")]
FramesOption = Annotated[int | None, typer.Option(min=1, help="At most so many a trace.")]
DetectorOption = Annotated[str, typer.Option(help="Change detector of 'map'.")]
SubSecondOption = Annotated[
    bool,
    typer.Option(
        "--sub-second",
        help="Lay variation within seconds, as of packet-delivery traces, over the traces.",
    ),
]
SubSecondSeedOption = Annotated[int | None, typer.Option(min=0, help="Of that variation (0).")]
SubSecondMeanOption = Annotated[
    float | None,
    typer.Option(
        min=0.001,
        max=1e6,
        help="Mbit/s below which seconds are slow and rough (each trace's own mean).",
    ),
]
AsDaemonOption = Annotated[
    bool,
    typer.Option(
        "--as-daemon",
        help="Decide after the controller what a daemon does: breaker, time for a local answer.",
    ),
]


def compare(
    scenario: ScenarioOption,
    traces: TracesOption = None,
    scale: OwnScaleOption = None,
    controllers: ControllersOption = "",
    policy: PolicyOption = None,
    seed: SeedOption = None,
    frames: FramesOption = None,
    detector: DetectorOption = "bayes",
    sub_second: SubSecondOption = False,
    sub_second_seed: SubSecondSeedOption = None,
    sub_second_mean: SubSecondMeanOption = None,
    device_second: DeviceSecondOption = None,
    megabyte: MegabyteOption = None,
    as_daemon: AsDaemonOption = False,
    json: JsonOption = False,
) -> None:
    """Compare controllers in simulation on whole traces.

    With --sub-second every second of a trace keeps its bytes but passes them as unevenly as a real
    link, in place of the variation that the scenario's world has; the training traces that
    controllers learn from stay as they are. Prices given here count for everybody; a policy must
    have been trained for them ('coinfer train' takes the same options, and --most-megabyte).
    """
    from experiments.evaluation.controllers import chosen_names

    setting = setting_of(scenario, device_second, megabyte)
    prices = prices_of(device_second, megabyte)
    if ":" in controllers:
        look_here()
    policy = policy_of(scenario, policy, prices)
    if policy is None and not controllers.strip():
        say_no_policy(scenario, "compared without 'learned'", prices)
    names = chosen_names(controllers, setting, policy=policy is not None)
    left_out = LeftOut()
    # steps that vary already have nothing within them to vary
    chosen = _traces(_even(setting) if sub_second else setting, traces, scale, left_out)
    chosen = _uneven(chosen, sub_second, sub_second_seed, sub_second_mean)
    say_samples(setting.outcomes)
    say_source(chosen)
    result = _compared(setting, chosen, names, policy, detector, seed, frames, as_daemon)
    if json:
        emit_json(result)
    else:
        _print(result)
    left_out.end()


def _compared(
    setting: Setting,
    traces: TraceSet,
    names: list[str],
    policy: Path | None,
    detector: str,
    seed: int | None,
    frames: int | None,
    as_daemon: bool,
) -> Comparison:
    """The comparison, with a bar of the controllers that are done."""
    from experiments.evaluation.comparison import compare as run_comparison
    from experiments.evaluation.controllers import ControllerFactory

    with progress_bar() as bar:
        task = bar.add_task("compare", total=len(names), note="")

        def report(name: str, share: float) -> None:
            bar.update(task, completed=names.index(name) + share, note=name)

        factory = ControllerFactory(
            setting,
            policy_folder=policy,
            detector=detector,
            max_frames=frames,
            progress=lambda what: bar.update(task, note=what),
        )
        result = run_comparison(
            setting, traces, names, factory, seed=seed, progress=report, max_frames=frames,
            as_daemon=as_daemon,
        )  # fmt: skip
        bar.update(task, completed=len(names), note="")
    return result


def _print(result: Comparison) -> None:
    from experiments.evaluation.comparison import comparison_rows

    columns, rows = comparison_rows(result)
    traces = number_of(len(result.traces), "trace")
    print_table(
        f"{result.scenario}: {traces}, {result.source}; clairvoyant bound "
        f"{result.bound:.4f} per frame"
        + ("" if result.optimum is None else f", optimum over the queue {result.optimum:.4f}"),
        columns,
        rows,
    )
    print_table(
        "plans chosen most often",
        ["controller", "frames", "plan"],
        [
            (name, f"{100 * share:.1f} %", chosen_plan)
            for name, figures in result.controllers.items()
            for chosen_plan, share in figures.plans.items()
        ],
    )
    if result.differences:
        print_table(
            "reward per frame, learned over each other controller, paired over traces",
            ["over", "difference", "95 % interval", "sign-flip p", "one trace left out"],
            [
                (
                    d.over,
                    f"{d.mean:+.4f}",
                    _range(d.interval95),
                    f"{d.p_value:.4f}",
                    _range(d.leave_one_out),
                )
                for d in result.differences
            ],
        )
    if result.gap is not None:
        console.print(_gap_line(result.gap))


def _gap_line(gap: ClosedGap) -> str:
    line = (
        f"learned closes {100 * gap.of_bound:.1f} % of the gap between {gap.rival} and the bound, "
    )
    if gap.of_optimum is None:
        return line + "which nobody reaches; add 'optimum' to --controllers for the gap to that"
    return line + f"{100 * gap.of_optimum:.1f} % of that to the optimum"


def _range(found: tuple[float, float] | None) -> str:
    return "" if found is None else f"{found[0]:+.4f} to {found[1]:+.4f}"


def _traces(
    setting: Setting, paths: list[Path] | None, scale: float | None, left_out: LeftOut
) -> TraceSet:
    from artefacts import UsageError

    if paths:
        return own_traces(setting, paths, scale, left_out)
    if scale is not None:
        raise UsageError("--scale: found it alone, expected --traces with it")
    return setting.traces("test")


def _even(setting: Setting) -> Setting:
    """The setting with rates that hold for the whole second."""
    import msgspec

    return setting.in_world(msgspec.structs.replace(setting.scenario.world, sub_second=False))


def _uneven(
    traces: TraceSet, sub_second: bool, seed: int | None, mean_mbps: float | None
) -> TraceSet:
    from artefacts import UsageError
    from traces.subsecond import subsecond_set

    if sub_second:
        reference_bps = None if mean_mbps is None else 1e6 * mean_mbps
        return subsecond_set(traces, seed or 0, reference_bps=reference_bps)
    for name, value in (("seed", seed), ("mean", mean_mbps)):
        if value is not None:
            raise UsageError(f"--sub-second-{name}: found {value}, expected --sub-second with it")
    return traces
