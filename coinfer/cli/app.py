"""`coinfer`: the command line. A user's mistake is one line on standard error and exit code 2.

Each command is a function of its own module; here they get their names, in the order of `--help`.
"""

from __future__ import annotations

from typing import Annotated

import typer

from coinfer import __version__
from coinfer.cli import bench, deciding, judging, learning, running, traces

app = typer.Typer(
    name="coinfer",
    help="Device-edge co-inference with branchy networks over links whose bandwidth moves.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"coinfer {__version__}")
        raise typer.Exit


@app.callback()
def _whole(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Device-edge co-inference with branchy networks over links whose bandwidth moves."""


app.command("init")(learning.init.init)
app.command("train-model")(learning.models.train_model)
app.command("train-gates")(learning.gates.train_gates)
app.command("plan")(deciding.plan.plan)
app.command("map")(deciding.configuration_map.make_map)
app.command("train")(learning.train.train)
app.command("train-generalist")(learning.generalist.train_generalist)
app.command("adapt")(learning.generalist.adapt)
app.command("sweep")(judging.sweep.sweep)
app.command("compare")(judging.compare.compare)
app.command("controllers")(deciding.controllers.controllers)
app.command("tune")(deciding.controllers.tune)
app.command("evaluate")(judging.evaluate.evaluate)
app.command("report")(judging.evaluate.report)
app.command("demo")(judging.demo.demo)
app.command("replay")(running.replay.replay)
app.command("calibrate")(running.calibrate.calibrate)
app.command("link", context_settings={"allow_interspersed_args": False})(running.link.link)
app.command("edge")(running.runtime.edge)
app.command("device")(running.runtime.device)
app.command("ask")(running.ask.ask)
app.command("top")(running.top.top)
app.command("profile")(learning.models.profile)
app.command("machines")(learning.machines.machines)
app.command("weights")(learning.weights.weights)
app.command("figures")(judging.figures.figures)
app.add_typer(bench.app, name="bench")
app.add_typer(traces.app, name="traces")
app.add_typer(running.certs.app, name="certs")
app.add_typer(running.health.app, name="health")
