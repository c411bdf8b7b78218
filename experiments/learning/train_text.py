"""`python -m experiments.learning.train_text`: all-MiniLM-L6-v2 with exits, on one GLUE task."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import torch

from artefacts import CoinferError, ready_folder
from experiments.arguments import LineParser, above_0, count
from models.data.sentences import TASKS
from models.networks.text import POOLS
from models.networks.text_recipe import TextListener, arguments, train_task
from models.networks.text_training import Budget
from models.networks.training import EpochReport

SHOWN_EVERY_S = 30.0


class Lines:
    """How far training is, as lines on standard error."""

    def __init__(self) -> None:
        self.what, self.first = "", (0, 0.0)
        self.shown_s = 0.0

    def stage(self, what: str) -> None:
        """Another stage begins."""
        self.what, self.first = what, (0, 0.0)
        print(what, file=sys.stderr, flush=True)

    def epoch(self, report: EpochReport) -> None:
        """One epoch is done."""
        shares = " ".join(f"{100 * a:.1f}" for a in report.accuracies)
        print(
            f"epoch {report.epoch}/{report.epochs}: loss {report.loss:.4f}, held-back accuracy by "
            f"exit {shares} %",
            file=sys.stderr,
            flush=True,
        )

    def step(self, done: int, total: int) -> None:
        """So many steps are done; a line twice a minute, with what is left by the pace so far."""
        now_s = time.monotonic()
        if self.first[1] == 0.0:
            self.first = (done, now_s)
        if now_s - self.shown_s < SHOWN_EVERY_S or done == self.first[0]:
            return
        self.shown_s = now_s
        pace_s = (now_s - self.first[1]) / (done - self.first[0])
        left = f"{pace_s * (total - done) / 60:.0f} min left"
        print(f"{self.what}: {done}/{total}, {left}", file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> int:
    """The command; prints the accuracies by exit as JSON."""
    parser = LineParser(
        prog="python -m experiments.learning.train_text",
        description="Fine-tunes all-MiniLM-L6-v2 with an exit after every layer on a GLUE task; "
        "continues from OUT/checkpoint.pt.",
    )
    parser.add_argument("--task", default="SST-2", help=f"one of {', '.join(TASKS)} (SST-2)")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint and weights")
    parser.add_argument("--weights", type=Path, help="folder of the published ones (the package's)")
    parser.add_argument("--epochs", type=count, help="passes over the sentences (the task's)")
    parser.add_argument("--pool", default="mean", choices=POOLS, help="of an exit's tokens (mean)")
    parser.add_argument("--distilled", type=float, help="share that the last exit teaches (0.5)")
    parser.add_argument("--repeated", type=count, help="how often an epoch has whole sentences")
    parser.add_argument(
        "--minutes", type=above_0, help="that training may take: the rate falls to zero by then"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=count, default=1, help="of torch (1)")
    given = parser.parse_args(argv)
    torch.set_num_threads(given.threads)
    lines = Lines()
    try:
        args = arguments(given.task, given.epochs, given.seed)
        if given.distilled is not None:
            args = replace(args, distilled=given.distilled)
        if given.repeated is not None:
            args = replace(args, repeated=given.repeated)
        ready_folder(given.out)
        made = train_task(
            given.task, given.out, args, TextListener(lines.stage, lines.epoch, lines.step),
            weights=given.weights, pool=given.pool,
            within=Budget(60 * given.minutes) if given.minutes else None,
        )  # fmt: skip
    except CoinferError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        parser.exit(130, f"interrupted: the same command goes on from {given.out}\n")
    print(json.dumps(msgspec.to_builtins(made), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
