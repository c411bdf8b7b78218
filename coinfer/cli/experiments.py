"""`coinfer compare`, `plan`, `map` and `replay`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coinfer.cli.console import console, emit_json, print_table, progress_bar
from coinfer.cli.controllers import look_here

if TYPE_CHECKING:
    from controller.scenarios import Setting
    from experiments.learning.policy_explanation import Moment
    from traces.library import TraceSet

ScenarioOption = Annotated[str, typer.Option("--scenario", help="A shipped name or a .toml file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Figures as JSON.")]


DeviceSecondOption = Annotated[
    float | None,
    typer.Option(min=0.0, help="Price of a device second in correct answers (the scenario's)."),
]
MegabyteOption = Annotated[float | None, typer.Option(min=0.0, help="The same of a megabyte.")]


def _setting(
    scenario: str, device_second: float | None = None, megabyte: float | None = None
) -> Setting:
    """The scenario loaded, at its own prices or at those given."""
    from controller.scenarios import load_setting, read_scenario

    setting = load_setting(read_scenario(scenario))
    own = setting.scenario.reward
    if device_second is None and megabyte is None:
        return setting
    return setting.at_prices(
        own.device_second if device_second is None else device_second,
        own.megabyte if megabyte is None else megabyte,
    )


def _say_source(traces: TraceSet) -> None:
    console.print(f"traces: {traces.source}")


def compare(
    scenario: ScenarioOption,
    traces: Annotated[
        list[Path] | None, typer.Option(help="Trace files or folders (the test split).")
    ] = None,
    controllers: Annotated[
        str,
        typer.Option(
            help="Names separated by commas, or PACKAGE.MODULE:FACTORY (all but 'planning' and "
            "'generalist', of which the second takes seconds to plan, 'optimum', the clairvoyant "
            "one over the queue, which takes minutes a log: see --frames, and those of other "
            "packages; 'coinfer controllers' lists all)."
        ),
    ] = "",
    policy: Annotated[Path | None, typer.Option(help="Policy folder (the shipped one).")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Phases, samples, compute times.")] = None,
    frames: Annotated[int | None, typer.Option(min=1, help="At most so many a trace.")] = None,
    detector: Annotated[str, typer.Option(help="Change detector of 'map'.")] = "bayes",
    sub_second: Annotated[
        bool,
        typer.Option(
            "--sub-second",
            help="Lay variation within seconds, as of packet-delivery traces, over the traces.",
        ),
    ] = False,
    sub_second_seed: Annotated[
        int | None, typer.Option(min=0, help="Of that variation (0).")
    ] = None,
    sub_second_mean: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            max=1e6,
            help="Mbit/s below which seconds are slow and rough (each trace's own mean).",
        ),
    ] = None,
    device_second: DeviceSecondOption = None,
    megabyte: MegabyteOption = None,
    json: JsonOption = False,
) -> None:
    """Compare controllers in simulation on whole traces.

    With --sub-second every second of a trace keeps its bytes but passes them as unevenly as a real
    link; the training traces that controllers learn from stay as they are. Prices given here count
    for everybody; a policy must have been trained for them ('coinfer train --most-megabyte').
    """
    from experiments.evaluation.comparison import compare as run_comparison
    from experiments.evaluation.comparison import comparison_rows
    from experiments.evaluation.controllers import ControllerFactory, chosen_names

    setting = _setting(scenario, device_second, megabyte)
    if ":" in controllers:
        look_here()
    names = chosen_names(controllers, setting)
    chosen = _uneven(_traces(setting, traces), sub_second, sub_second_seed, sub_second_mean)
    _say_source(chosen)
    with progress_bar() as bar:
        task = bar.add_task("compare", total=len(names), note="")

        def told(name: str, share: float) -> None:
            bar.update(task, completed=names.index(name) + share, note=name)

        factory = ControllerFactory(
            setting,
            policy_folder=policy,
            detector=detector,
            max_frames=frames,
            progress=lambda what: bar.update(task, note=what),
        )

        result = run_comparison(
            setting, chosen, names, factory, seed=seed, progress=told, max_frames=frames
        )
        bar.update(task, completed=len(names), note="")
    if json:
        emit_json(result)
        return
    columns, rows = comparison_rows(result)
    print_table(
        f"{result.scenario}: {len(result.traces)} traces, {result.source}; clairvoyant bound "
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


def _range(found: tuple[float, float] | None) -> str:
    return "" if found is None else f"{found[0]:+.4f} to {found[1]:+.4f}"


def _traces(setting: Setting, paths: list[Path] | None) -> TraceSet:
    from coinfer.cli.trace_files import say_notes
    from traces.library import read_set

    if not paths:
        return setting.traces("test")
    read = read_set(paths)
    say_notes(read)
    factor = setting.scenario.traces.scale
    if factor != 1.0:
        console.print(f"traces: scaled by {factor:g}, as scenario '{setting.scenario.name}' says")
    return setting.scaled(read)


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


def plan(
    scenario: ScenarioOption,
    bandwidth: Annotated[float, typer.Option(min=0.0, max=1e6, help="Bandwidth in Mbit/s.")],
    max_latency: Annotated[
        str, typer.Option(help="As 100ms or 0.1s, instead of the scenario's deadline.")
    ] = "",
    max_device_memory: Annotated[
        str,
        typer.Option(help="As 64MiB: weights, activations, picture, payload (not the runtime)."),
    ] = "",
    order: Annotated[str, typer.Option(help="any, edge-first or device-first.")] = "any",
    policy: Annotated[
        Path | None, typer.Option(help="A policy's folder: explain its decision instead.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Of a policy (the shipped one), at full length.")
    ] = False,
    age: Annotated[str, typer.Option(help="Of the last measurement (50ms; policy).")] = "",
    device_backlog: Annotated[str, typer.Option(help="As 20ms (policy).")] = "",
    uplink_backlog: Annotated[str, typer.Option(help="As 4KiB (policy).")] = "",
    device_second: DeviceSecondOption = None,
    megabyte: MegabyteOption = None,
    json: JsonOption = False,
) -> None:
    """One decision, explained: Algorithm 1's, or (--policy, --explain) a learned policy's."""
    from artefacts import UsageError
    from experiments.learning.explanation import explain_plan

    setting = _setting(scenario, device_second, megabyte)
    if policy is not None or explain:
        for option, given in (
            ("--max-latency", max_latency), ("--max-device-memory", max_device_memory),
            ("--order", "" if order == "any" else order),
        ):  # fmt: skip
            if given:
                raise UsageError(
                    f"{option}: found '{given}' with a policy, which was planned without, expected "
                    "it for Algorithm 1 alone"
                )
        from experiments.learning.policy_explanation import Moment

        moment = Moment(
            max(bandwidth * 1e6, 1.0),
            _quantity("--age", age or "50ms", LATENCY_UNITS) or 0.0,
            _quantity("--device-backlog", device_backlog, LATENCY_UNITS) or 0.0,
            round(_quantity("--uplink-backlog", uplink_backlog, MEMORY_UNITS) or 0.0),
        )
        _explained_policy(setting, policy, moment, json)
        return
    for option, value in (
        ("--age", age), ("--device-backlog", device_backlog), ("--uplink-backlog", uplink_backlog),
    ):  # fmt: skip
        if value:
            raise UsageError(
                f"{option}: found '{value}' for Algorithm 1, expected --policy or --explain with it"
            )
    latency_s = _quantity("--max-latency", max_latency, LATENCY_UNITS)
    memory = _quantity("--max-device-memory", max_device_memory, MEMORY_UNITS)
    found = explain_plan(setting, bandwidth * 1e6, latency_s, order, memory)
    if json:
        emit_json(found)
        return
    print_table(f"{setting.scenario.name} at {bandwidth:g} Mbit/s: {found.plan}", ["part", "ms"], [
        (name, f"{1000 * seconds:.1f}") for name, seconds in found.parts_s.items()
    ] + [("total", f"{1000 * found.latency_s:.1f}")])  # fmt: skip
    console.print(found.reason)
    console.print(
        f"accuracy {100 * found.accuracy:.1f} %, device memory {found.device_bytes / 2**20:.2f} MiB"
    )


def _explained_policy(setting: Setting, folder: Path | None, moment: Moment, as_json: bool) -> None:
    from experiments.evaluation.controllers import ControllerFactory
    from experiments.learning.policy_explanation import explain_policy

    factory = ControllerFactory(setting, policy_folder=folder)
    found = explain_policy(setting, factory.learned, moment, factory)
    if as_json:
        emit_json(found)
        return
    console.print(f"{setting.scenario.name}: {found.plan}, decided by {found.decided_by}")
    console.print(found.reason)
    print_table(
        "what was seen",
        ["feature", "normalised", "stands for"],
        [(name, f"{value:.3f}", found.stands_for[name]) for name, value in found.seen.items()],
    )
    print_table(
        "plans looked at",
        ["score", "by planning", "expected reward", "own answer in time", "plan"],
        [
            (
                f"{c.score:.2f}", f"{c.advantage:+.4f}", f"{c.described['reward']:.3f}",
                f"{c.described['own']:.2f}", c.plan,
            )
            for c in found.candidates
        ],
    )  # fmt: skip
    print_table("others would take", ["controller", "plan"], list(found.baselines.items()))


LATENCY_UNITS = {"ms": 1e-3, "s": 1.0}
MEMORY_UNITS = {"B": 1.0, "kB": 1e3, "KiB": 2.0**10, "MB": 1e6, "MiB": 2.0**20, "GiB": 2.0**30}


def _quantity(option: str, text: str, units: dict[str, float]) -> float | None:
    """A number and its unit, in the unit that counts 1; None where nothing is given."""
    from artefacts import UsageError

    if not text:
        return None
    match = re.fullmatch(r"(?P<number>[0-9]*\.?[0-9]+) ?(?P<unit>[A-Za-z]+)", text)
    if match is None or match["unit"] not in units or not float(match["number"]) > 0:
        raise UsageError(
            f"{option}: found '{text}', expected a number above 0 and one of {', '.join(units)}"
        )
    return float(match["number"]) * units[match["unit"]]


def make_map(
    scenario: ScenarioOption,
    out: Annotated[Path, typer.Option(help="JSON file to write.")],
    states: Annotated[Path | None, typer.Option(help="States file (Oboe's or learnt).")] = None,
    json: JsonOption = False,
) -> None:
    """Build the configuration map (Algorithm 2) and write it."""
    from artefacts import ready_file
    from controller.planners.configuration_map import build_map, write_map
    from experiments.evaluation.maps import map_states
    from traces.states import read_states

    setting = _setting(scenario)
    ready_file(out)
    if states is None:
        train = setting.traces("train")
        _say_source(train)
        known, source = map_states(setting, train.traces)
    else:
        known, source = read_states(states), str(states)
    made = build_map(setting, known, source)
    write_map(out, made)
    counts: dict[str, int] = {}
    for entry in made.entries:
        counts[str(entry.plan)] = counts.get(str(entry.plan), 0) + 1
    if json:
        emit_json({"map": str(out), "states": len(made.entries), "source": source, "plans": counts})
        return
    print_table(
        f"configuration map of {len(made.entries)} states ({source})",
        ["plan", "states"],
        [(name, str(n)) for name, n in sorted(counts.items(), key=lambda kv: -kv[1])],
    )


def replay(
    scenario: ScenarioOption,
    trace: Annotated[Path, typer.Option(help="A trace file in any known format.")],
    controller: Annotated[str, typer.Option(help="Who decides.")] = "learned",
    policy: Annotated[Path | None, typer.Option(help="Policy folder (the shipped one).")] = None,
    start_s: Annotated[float, typer.Option(min=0.0, help="Begin of the part replayed.")] = 0.0,
    seconds: Annotated[float | None, typer.Option(min=1.0, help="Length (to the end).")] = None,
    method: Annotated[str, typer.Option(help="auto, tc or user-space.")] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Of pictures and simulation.")] = 1,
    as_daemon: Annotated[
        bool, typer.Option("--as-daemon", help="Treat frames and link as the daemon does.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Replay a trace on a real link between two real processes, beside the prediction."""
    from coinfer.cli.trace_files import one_trace
    from controller.scenarios import scale_trace
    from experiments.replay.session import ReplayArgs, replay_rows
    from experiments.replay.session import replay as run_replay

    setting = _setting(scenario)
    whole = scale_trace(one_trace(trace), setting.scenario.traces.scale)
    end = whole.duration_s if seconds is None else min(start_s + seconds, whole.duration_s)
    part = whole.slice(start_s, end)
    with progress_bar() as bar:
        task = bar.add_task(f"replay {part.name}", total=round(part.duration_s), note=controller)
        result = run_replay(
            setting,
            part,
            ReplayArgs(scenario, controller, policy, method, seed, as_daemon),
            console.print,
            lambda share: bar.update(task, completed=round(share * part.duration_s)),
        )
    if json:
        emit_json(result)
        return
    print_table(
        f"{controller} on {scenario}, {part.duration_s:.0f} s of {part.name}, link by "
        f"{result.link.method}; {result.pictures}",
        ["figure", "measured", "predicted"],
        replay_rows(result),
    )
    console.print(
        "measured are single answers to the pictures above; predicted rewards take every answer's "
        "accuracy in their place, and predicted goodput accuracy other draws of pictures"
    )
