"""`coinfer train-gates`: heads and gates trained together, and what that gives."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coinfer.cli.console import console, emit_json, print_table, progress_bar, say_interrupted
from coinfer.cli.options import JsonOption, TorchThreadsOption

if TYPE_CHECKING:
    from experiments.analyses.confidence.records import JointPoint, JointRecord


def train_gates(
    out: Annotated[Path, typer.Option(help="File for the record (JSON); checkpoint beside it.")],
    model: Annotated[str, typer.Option(help="alexnet or mobilenetv2, as shipped.")] = "mobilenetv2",
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training pictures.")] = 4,
    threads: TorchThreadsOption = 2,
    json: JsonOption = False,
) -> None:
    """Train heads together with confidence gates (JEI-DNN), for six prices on compute at once.

    The trunk stays frozen. Continues from OUT.checkpoint.pt; the test pictures are run at the end.
    """
    import torch

    from artefacts import ready_file
    from experiments.analyses.confidence.curves import exit_costs
    from experiments.analyses.confidence.joint import JointArgs, report_half, train_jointly
    from experiments.analyses.confidence.records import write_record
    from models.facts.cards import load_model
    from models.facts.outcomes import read_outcomes
    from models.networks.recipes import lessons

    loaded = load_model(model)
    ready_file(out)
    torch.set_num_threads(threads)
    data, judged = lessons(loaded.spec.name, int(loaded.card.training.get("seed", 0)))
    outcomes = read_outcomes(loaded.folder / "outcomes.npz")
    checkpoint = out.with_suffix(".checkpoint.pt")
    with progress_bar() as bar:
        task = bar.add_task("pictures", total=None, note="")

        def report(epoch: int, points: tuple[JointPoint, ...]) -> None:
            bar.update(task, note=f"epoch {epoch}/{epochs} done")
            said = ", ".join(f"{100 * p.accuracy:.2f} at {p.compute:.2f}" for p in points)
            console.print(f"epoch {epoch}/{epochs}: held-back accuracy (%) at compute {said}")

        try:
            record = train_jointly(
                loaded,
                data,
                lambda: report_half(judged(), outcomes.half("report")),
                f"{outcomes.dataset}, report half",
                exit_costs(loaded.spec),
                JointArgs(epochs=epochs),
                checkpoint,
                report,
                lambda done, total: bar.update(
                    task, description="epochs", completed=done, total=total
                ),
            )
        except KeyboardInterrupt:
            say_interrupted(checkpoint)
            raise typer.Exit(130) from None
    write_record(out, record)
    if json:
        emit_json(record)
        return
    _print(record)


def _print(record: JointRecord) -> None:
    print_table(
        f"{record.model}: heads and gates trained together ({record.judged_on})",
        ["price", "compute", "accuracy", "accuracy by exit"],
        [
            (
                f"{p.price:g}",
                f"{p.compute:.3f}",
                f"{100 * p.accuracy:.2f} %",
                " ".join(f"{100 * a:.1f}" for a in p.exit_accuracies),
            )
            for p in record.as_trained()
        ],
    )
