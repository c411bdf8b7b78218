"""What became of a model that was brought, and the table that shows it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from coinfer.cli.console import console, print_table
from coinfer.cli.learning.exit_remarks import (
    below_chance,
    dear_exits,
    fewer_exits,
    out_of_reach,
    weak_exits,
)
from coinfer.cli.learning.profile_heads import beyond_limit, exit_accuracies, reasons
from coinfer.cli.scenario import say_samples

if TYPE_CHECKING:
    from models.facts.cards import Model
    from models.facts.outcomes import Outcomes
    from models.facts.profiles import Profile


@dataclass(frozen=True, slots=True)
class Brought:
    """A model that was brought, judged and profiled."""

    model: Model
    places: tuple[str, ...]
    """Where its exits hang, by the names that `--exit-after` takes."""
    outcomes: Outcomes
    device: Profile
    edge: Profile
    codecs: tuple[str, ...]


def goes_on_from(out: Path, trained: Path) -> Path:
    """Where an interrupted taking in goes on: what it has judged, or before that the `trained`."""
    from models.networks.kept_parts import FOLDER, is_begun

    return out / FOLDER if is_begun(out) else trained


def print_brought(
    brought: Brought, out: Path, exits: int | None, accuracies: str, limit_s: float | None,
    placement: str,
) -> None:  # fmt: skip
    """The table of a model's exits, and what is odd of them.

    `brought` is what was made in the folder `out`. `exits`, `accuracies`, `limit_s` (seconds) and
    `placement` are what was asked for.
    """
    from models.facts.judges import usual_judge_name
    from models.networks.brought.exit_placement import read_probes

    spec, device, edge = brought.model.spec, brought.device, brought.edge
    outcomes = brought.outcomes
    shares = [outcomes.accuracy(i) for i in range(outcomes.exits)]
    card = brought.model.card
    classes = spec.classes if card.answers.one_class else 0
    labelled = card.training.get("labelled") is True
    for line in below_chance(shares[-1], classes, labelled):
        console.print(line)
    for line in weak_exits(brought.places, shares, read_probes(out)):
        console.print(line)
    for line in reasons(brought.places, brought.model.card.training.get("exits_why", ())):
        console.print(line)
    device_s = [device.interval_s(i, 0, len(b)) for i, b in enumerate(device.branches)]
    for line in beyond_limit(limit_s, device_s):
        console.print(line)
    for line in dear_exits(brought.places, device_s):
        console.print(line)
    for line in out_of_reach(exit_accuracies(accuracies), read_probes(out)):
        console.print(line)
    asked = brought.model.card.training.get("placement") is not None  # no exits of its own
    for line in fewer_exits(len(spec.exits) - 1, exits, placement) if asked else ():
        console.print(line)
    answers = brought.model.answers
    if not answers.one_class:
        kind, judged = answers.__struct_config__.tag, card.judge or usual_judge_name(answers)
        console.print(f"an answer is taken as {kind}, and judged by {judged}")
    print_table(
        f"{brought.model.card.name}: {len(spec.trunk)} stretches, {len(spec.exits)} exits; "
        f"accuracy on {brought.outcomes.dataset}",
        ["exit", "after", "accuracy", "device ms", "edge ms", "device MiB"],
        [
            (
                i + 1,
                "the end" if not e.head else brought.places[i] if brought.places else "its own",
                f"{100 * brought.outcomes.accuracy(i):.2f} %",
                f"{1e3 * device.interval_s(i, 0, len(spec.branches[i])):.2f}",
                f"{1e3 * edge.interval_s(i, 0, len(spec.branches[i])):.2f}",
                f"{device.device_bytes((i, 0, len(spec.branches[i]))) / 2**20:.1f}",
            )
            for i, e in enumerate(spec.exits)
        ],
    )
    say_samples(outcomes, least_error=0.0)
