"""`coinfer evaluate`, whose figures claims rest on, and `coinfer report`, which shows them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coinfer.cli.console import console, emit_json, print_table, progress_bar, say_interrupted
from coinfer.cli.deciding.controllers import look_here
from coinfer.cli.options import DeviceSecondOption, MegabyteOption
from coinfer.cli.scenario import prices_of

if TYPE_CHECKING:
    from controller.scenarios import Prices
    from experiments.studies.results import Evaluation
    from experiments.studies.study import Study


def evaluate(
    out: Annotated[Path, typer.Option(help="Folder of results; what lies there is not rerun.")],
    study: Annotated[
        Path | None, typer.Argument(help="A study's .toml file (docs/reference/studies.md).")
    ] = None,
    scenario: Annotated[
        str, typer.Option(help="One scenario with defaults, instead of a study.")
    ] = "",
    policy: Annotated[
        list[Path] | None, typer.Option(help="With --scenario: a policy folder a seed.")
    ] = None,
    frames: Annotated[
        int | None, typer.Option(min=1, help="At most so many a trace, in every evaluation.")
    ] = None,
    device_second: DeviceSecondOption = None,
    megabyte: MegabyteOption = None,
    json: Annotated[bool, typer.Option("--json", help="Evaluations as JSON.")] = False,
) -> None:
    """Evaluate policies (a folder a seed) against every baseline, resumably, with statistics."""
    import shlex

    import msgspec

    from artefacts import ready_folder
    from experiments.studies.run import KEPT_RUNS, run_study

    prices = prices_of(device_second, megabyte)
    planned = _study(study, scenario, policy, prices)
    if any(
        ":" in n for e in planned.evaluations for n in (*e.controllers, *e.deadline_controllers)
    ):
        look_here()
    ready_folder(out, make=False)
    command = _command(study, scenario, policy, prices)
    if frames is not None:
        limited = [msgspec.structs.replace(e, frames=frames) for e in planned.evaluations]
        planned = msgspec.structs.replace(planned, evaluations=tuple(limited))
        command += ["--frames", str(frames)]
    with progress_bar() as bar:
        names = [e.name for e in planned.evaluations]
        task = bar.add_task("evaluate", total=100 * len(names), note="")

        def show(what: str, share: float) -> None:
            done = names.index(what.split(":")[0])
            bar.update(task, completed=round(100 * (done + share)), note=what)

        try:
            found = run_study(planned, out, shlex.join([*command, "--out", str(out)]), show)
        except KeyboardInterrupt:
            say_interrupted(out / KEPT_RUNS)
            raise typer.Exit(130) from None
        bar.update(task, completed=100 * len(names), note="")
    if json:
        emit_json(found)
        return
    for evaluation in found:
        _print(evaluation)
    console.print(
        f"results in {out}; 'coinfer report --results {out} --out report.html' shows them"
    )


def _command(
    study: Path | None, scenario: str, policies: list[Path] | None, prices: Prices
) -> list[str]:
    """What was asked for, but for how much of it and where to."""
    command = ["coinfer", "evaluate", *([str(study)] if study else ["--scenario", scenario])]
    command += [part for folder in policies or () for part in ("--policy", str(folder))]
    return command + prices.options()


def _study(path: Path | None, scenario: str, policies: list[Path] | None, prices: Prices) -> Study:
    from artefacts import UsageError
    from controller.scenarios import read_scenario
    from experiments.studies.study import FORMAT_VERSION, EvaluationSpec, Study, read_study

    if (path is None) == (not scenario):
        raise UsageError(
            f"evaluate: found {'both' if scenario else 'neither'}, expected a study's file or "
            "--scenario"
        )
    if path is not None:
        if policies:
            raise UsageError("--policy: found it beside a study, expected it in the study's file")
        if prices.given:
            raise UsageError("prices: found some beside a study, expected them in the study's file")
        return read_study(path)
    own = read_scenario(scenario)
    name = prices.scenario(own).name
    named = tuple(str(folder) for folder in policies or ())
    given = prices.over(own.reward) if prices.given else None
    spec = EvaluationSpec(name, scenario, policies=named, prices=given)
    return Study(FORMAT_VERSION, (spec,), name)


def _print(evaluation: Evaluation) -> None:
    from experiments.reporting.tables import bound_text, controller_rows, headline_lines

    columns, rows = controller_rows(evaluation)
    print_table(
        f"{evaluation.name}: {len(evaluation.traces)} test files, {evaluation.source}; "
        f"{bound_text(evaluation)}",
        columns,
        rows,
    )
    for line in headline_lines(evaluation):
        console.print(line)


def report(
    results: Annotated[Path, typer.Option(help="Folder that 'coinfer evaluate' wrote.")],
    out: Annotated[Path, typer.Option(help="HTML page to write, self-contained.")],
    markdown: Annotated[Path | None, typer.Option(help="Markdown tables to write.")] = None,
    front: Annotated[
        Path | None, typer.Option(help="Picture of accuracy against energy and bytes (.png, .svg).")
    ] = None,
    date: Annotated[str, typer.Option(help="Date to print (none: same input, same bytes).")] = "",
    json: Annotated[bool, typer.Option("--json", help="What was written, as JSON.")] = False,
) -> None:
    """Render a folder of results into one HTML page, Markdown tables and a picture."""
    from experiments.reporting.report import write_report

    written = write_report(results, out, markdown, front, date)
    if json:
        emit_json(written)
        return
    for line in written.missing:
        console.print(f"missing: {line}")
    print_table("Written", ("file",), [(path,) for path in written.files])
