"""From a finished training run to the artefact others load: weights, card, outcomes."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

from models.branchy import BranchySpec
from models.cards import FORMAT_VERSION, Card, load_model, model_digest, save_model
from models.datasets import Pictures
from models.networks.feeds import Normalisation, plain_batches
from models.networks.judging import judge
from models.networks.network import BranchyNetwork
from models.networks.training import TrainingArgs, exit_accuracies
from models.outcomes import Outcomes, save_outcomes

CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip


def publish(
    folder: Path,
    trained: BranchyNetwork,
    args: TrainingArgs,
    pictures: Pictures,
    held_back: Pictures,
    test: Pictures,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Outcomes:
    """Write weights, card and outcomes; the test pictures are run here, once.

    Batch normalisation is folded into the convolutions first: what is judged is what is shipped.
    """
    spec: BranchySpec = trained.spec
    state = trained.eval().folded_state()
    normalisation = Normalisation.of(pictures)
    plain = BranchyNetwork(spec)
    plain.load_folded(state)
    held = exit_accuracies(plain, plain_batches(held_back, normalisation))
    dataset = f"CIFAR-10 test ({len(test)} pictures)"

    def card(accuracies: tuple[float, ...]) -> Card:
        return Card(
            format_version=FORMAT_VERSION,
            name=spec.name,
            network=spec,
            digest=model_digest(spec, state),
            classes=CIFAR10_CLASSES,
            dataset=f"CIFAR-10 (Krizhevsky 2009): trained on {len(pictures)} of the 50,000 "
            f"training pictures, {len(held_back)} held back, tested on {len(test)}",
            mean=normalisation.mean,
            std=normalisation.std,
            training=asdict(args)
            | {
                "loss": "weighted sum of every exit's cross-entropy (BranchyNet)",
                "batch_normalisation": "after every conv in training, folded into it here",
                "torch": str(torch.__version__),
                "machine": platform.machine(),
            },
            held_back_accuracies=held,
            test_accuracies=accuracies,
        )

    save_model(folder, state, card(()))
    outcomes = judge(load_model(folder), test, dataset, progress)
    save_outcomes(folder / "outcomes.npz", outcomes)
    accuracies = tuple(outcomes.accuracy(i) for i in range(len(spec.exits)))
    save_model(folder, state, card(accuracies))
    return outcomes
