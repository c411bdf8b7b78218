"""`coinfer train-model` and `coinfer profile`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coinfer.cli.console import console, emit_json, print_table, progress_bar


def train_model(
    out: Annotated[Path, typer.Option(help="Folder for checkpoint, weights, card, outcomes.")],
    network: Annotated[str, typer.Option(help="Architecture: alexnet.")] = "alexnet",
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training pictures.")] = 60,
    seed: Annotated[int, typer.Option(help="Of initialisation, order, augmentation.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Figures as JSON.")] = False,
) -> None:
    """Train a branchy network jointly on CIFAR-10; continues from OUT/checkpoint.pt."""
    from artefacts import UsageError
    from models.alexnet import alexnet
    from models.datasets import cifar10, hold_back
    from models.networks.publishing import publish
    from models.networks.training import EpochReport, TrainingArgs, train

    if network != "alexnet":
        raise UsageError(f"network: found '{network}', expected alexnet")
    pictures, held = hold_back(cifar10("train"), seed)
    args = TrainingArgs(epochs=epochs, seed=seed)
    checkpoint = out / "checkpoint.pt"
    with progress_bar() as bar:
        task = bar.add_task("epoch", total=None, note="")

        def step(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        def report(epoch: EpochReport) -> None:
            shares = " ".join(f"{100 * a:.1f}" for a in epoch.accuracies)
            console.print(
                f"epoch {epoch.epoch}/{epoch.epochs}: loss {epoch.loss:.3f}, "
                f"held-back accuracy by exit {shares} %"
            )

        try:
            trained = train(alexnet(), args, pictures, held, checkpoint, report, step)
        except KeyboardInterrupt:
            console.print(f"interrupted: the same command goes on from {checkpoint}")
            raise typer.Exit(130) from None
        bar.update(task, description="outcomes")
        outcomes = publish(out, trained, args, pictures, held, cifar10("test"), step)
    accuracies = [outcomes.accuracy(i) for i in range(outcomes.exits)]
    if json:
        emit_json({"test_accuracies": accuracies, "folder": str(out)})
        return
    print_table(
        f"{network}: accuracy on the 10,000 test pictures",
        ["exit", "accuracy"],
        [(f"exit {i + 1}", f"{100 * a:.2f} %") for i, a in enumerate(accuracies)],
    )
