"""`python -m experiments.learning.publish_text`: a fine-tuned text encoder as a model's folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from artefacts import CoinferError, ready_folder
from experiments.arguments import LineParser, count
from experiments.learning.train_text import Lines
from models.codecs import codec_named
from models.facts.cards import load_model
from models.facts.machines import NAMES, machine_named, published_profile
from models.facts.merging import folder_profile
from models.facts.profiles import Profile, write_profile
from models.networks.measuring.anchor import anchor_s
from models.networks.measuring.profiling import profile_model
from models.networks.measuring.timing import SYSTEM_CLOCK, ProfilingArgs
from models.networks.text_publishing import CODECS, publish_text, read_trained

MEASURED = "edge-x86"
"""What the profile of this machine is called."""
MACHINES = ("pi3", "pi4")
REPEATS = 100


class OwnTime:
    """A clock that counts what this thread computes: another process's turn is not the network's.

    On one thread that is the wall's time on a machine that does nothing else.
    """

    def wall_s(self) -> float:
        """CPU seconds this thread has used."""
        return self.cpu_s()

    def cpu_s(self) -> float:
        """CPU seconds this thread has used."""
        return SYSTEM_CLOCK.cpu_s()


def write_profiles(
    folder: Path, machines: tuple[str, ...], codecs: tuple[str, ...], repeats: int, lines: Lines
) -> None:
    """Time the model in `folder` on this machine, and write what others should take.

    `machines` are names of `models.facts.machines`: their profiles are published factors, which say
    so. `codecs` are timed too. `repeats`: timed runs of every layer; `lines` hear how far it is.
    """
    lines.stage("profile")
    model = load_model(folder)
    args = ProfilingArgs("onnxruntime", repeats=repeats, grid=0, codecs=codecs)
    measured = profile_model(
        model, MEASURED, args, lambda what, done, total: lines.step(done, total), OwnTime()
    )
    anchor = anchor_s()
    found: list[Profile] = [measured]
    found += [published_profile(measured, machine_named(name), anchor) for name in machines]
    for profile in found:
        write_profile(folder_profile(model, profile.name), profile)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def main(argv: list[str] | None = None) -> int:
    """The command; prints the accuracies by exit, and what each takes by profile, as JSON."""
    parser = LineParser(
        prog="python -m experiments.learning.publish_text",
        description="Makes a model's folder of what train_text has written: the network lowered, "
        "its weights in int8, outcomes on the task's published test sentences, profiles.",
    )
    parser.add_argument("--trained", type=Path, required=True, help="train_text's --out")
    parser.add_argument("--out", type=Path, required=True, help="the model's folder")
    parser.add_argument(
        "--machines", default=",".join(MACHINES),
        help=f"published profiles, of {', '.join(NAMES)} ({','.join(MACHINES)})",
    )  # fmt: skip
    parser.add_argument(
        "--codecs", default=",".join(CODECS),
        help=f"what is judged and timed ({','.join(CODECS)}); int4c and the like take at every cut "
        "of the network about as long as all exits",
    )  # fmt: skip
    parser.add_argument(
        "--profiles-only", action="store_true", help="time the model that OUT has already"
    )
    parser.add_argument("--repeats", type=count, default=REPEATS, help=f"timed runs ({REPEATS})")
    parser.add_argument("--threads", type=count, default=1, help="of one computation (1)")
    given = parser.parse_args(argv)
    torch.set_num_threads(given.threads)
    lines = Lines()
    try:
        machines, codecs = _listed(given.machines), _listed(given.codecs)
        for name in machines:
            machine_named(name)
        for name in codecs:
            codec_named(name)
        ready_folder(given.out)
        if not given.profiles_only:
            lines.stage("outcomes")
            publish_text(read_trained(given.trained), given.out, lines.step, codecs)
        write_profiles(given.out, machines, codecs, given.repeats, lines)
        model = load_model(given.out)
    except CoinferError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        parser.exit(130, "interrupted\n")
    print(json.dumps({"folder": str(given.out), "accuracies": model.card.test_accuracies}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
