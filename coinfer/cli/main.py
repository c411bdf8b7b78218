"""`coinfer`: the command line. A user's mistake is one line on standard error and exit code 2."""

from __future__ import annotations

import typer

from coinfer.cli import (
    bench_detector,
    bench_environment,
    bench_models,
    bench_runtime,
    certs,
    gates,
    health,
    runtime,
    training,
)
from coinfer.cli import controllers as controller_commands
from coinfer.cli import demo as demo_command
from coinfer.cli import experiments as experiment_commands
from coinfer.cli import figures as figure_commands
from coinfer.cli import models as models_commands
from coinfer.cli import report as report_commands
from coinfer.cli import traces as trace_commands
from coinfer.cli.entry import run
from coinfer.cli.sweep import sweep
from coinfer.cli.top import top

__all__ = ["app", "run"]

app = typer.Typer(
    name="coinfer",
    help="Device-edge co-inference with branchy networks over links whose bandwidth moves.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _front_door() -> None:
    """Device-edge co-inference with branchy networks over links whose bandwidth moves."""


app.command("train-model")(models_commands.train_model)
app.command("train-gates")(gates.train_gates)
app.command("plan")(experiment_commands.plan)
app.command("map")(experiment_commands.make_map)
app.command("train")(training.train)
app.command("train-generalist")(training.train_generalist)
app.command("adapt")(training.adapt)
app.command("sweep")(sweep)
app.command("compare")(experiment_commands.compare)
app.command("controllers")(controller_commands.controllers)
app.command("tune")(controller_commands.tune)
app.command("evaluate")(report_commands.evaluate)
app.command("report")(report_commands.report)
app.command("demo")(demo_command.demo)
app.command("replay")(experiment_commands.replay)
app.command("edge")(runtime.edge)
app.command("device")(runtime.device)
app.command("top")(top)
app.command("profile")(models_commands.profile)
app.command("figures")(figure_commands.figures)
bench = typer.Typer(help="Measure parts of coinfer against baselines.", no_args_is_help=True)
bench.callback()(lambda: None)
bench.command("detector")(bench_detector.detector)
bench.command("codecs")(bench_models.codecs)
bench.command("confidence")(bench_models.confidence)
bench.command("executors")(bench_models.executors)
bench.command("deadlines")(bench_models.deadlines)
bench.command("optimum")(bench_models.optimum)
bench.command("wire")(bench_runtime.wire)
bench.command("decide")(bench_runtime.decide)
bench.command("edge")(bench_runtime.edge)
bench.command("device")(bench_runtime.device)
bench.command("environment")(bench_environment.environment)
app.add_typer(bench, name="bench")
app.add_typer(trace_commands.app, name="traces")
app.add_typer(certs.app, name="certs")
app.add_typer(health.app, name="health")


if __name__ == "__main__":
    run()
