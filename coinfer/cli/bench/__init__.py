"""`coinfer bench`: parts of coinfer, measured against baselines."""

from __future__ import annotations

import typer

from coinfer.cli.bench import detector, environment, link, models, runtime

__all__ = ["app"]

app = typer.Typer(help="Measure parts of coinfer against baselines.", no_args_is_help=True)
app.callback()(lambda: None)
app.command("detector")(detector.detector)
app.command("codecs")(models.codecs)
app.command("confidence")(models.confidence)
app.command("executors")(models.executors)
app.command("deadlines")(models.deadlines)
app.command("optimum")(models.optimum)
app.command("wire")(runtime.wire)
app.command("decide")(runtime.decide)
app.command("edge")(runtime.edge)
app.command("device")(runtime.device)
app.command("link")(link.link)
app.command("environment")(environment.environment)
