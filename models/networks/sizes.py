"""Records what every sample takes on the wire: `python -m models.networks.sizes MODEL`.

Takes the pictures that the model's outcomes were recorded on, and writes `sizes.npz` beside them.
A trunk tensor is computed once for all exits behind it.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from artefacts import CoinferError, UsageError
from artefacts.arrays import Float32s
from models.codecs import Shared, codec_named, crossing
from models.data.datasets import Pictures, judged_pictures
from models.executors import Executor, make_executor
from models.facts.cards import Model, load_model
from models.facts.outcomes import Key, Outcomes, read_outcomes
from models.facts.preprocessing import Raw
from models.facts.sizes import FILE, SampleSizes, save_sizes
from models.networks.kept_parts import Keep, KeptParts, arrays_digest, packages

BATCH = 100
HELD_BYTES = 2**27
"""Of the tensors of one batch at all cuts, which are there at once."""
Progress = Callable[[int, int], None]


def record_sizes(
    model: Model,
    outcomes: Outcomes,
    pictures: Pictures,
    progress: Progress = lambda done, total: None,
    keep: Keep | None = None,
) -> SampleSizes:
    """Bytes of every picture by every codec and cut whose mean `outcomes` know.

    `model` is the network that `outcomes` are of, `pictures` those that they were recorded on, in
    their order; `progress` is given how many are done, of how many. Where `keep` is given a pass
    that was cut goes on.
    """
    if outcomes.samples != len(pictures):
        raise UsageError(
            f"sizes of '{model.spec.name}': found {len(pictures)} pictures, expected the "
            f"{outcomes.samples} of its outcomes"
        )
    # a learned codec's latent has the same size for every sample
    wanted = [k for k in outcomes.wire if codec_named(k[1]).carries != "latent"]
    if not wanted:
        return SampleSizes.of(model.digest, {})
    sent: dict[Key, list[int]] = {_shared(model, key): [] for key in wanted}
    executor = make_executor("onnx", model)
    batch = batch_of(model, {(k[0], k[2]) for k in sent})
    parts = None if keep is None else keep(_identity(model, pictures, list(sent), batch))
    kept = _taken_up(parts, sent)
    for start in range(kept, len(pictures), batch):
        stop = min(start + batch, len(pictures))
        part = pictures.x[start:stop]
        tensors = dict(_tensors(model, executor, part, {(k[0], k[2]) for k in sent}))
        for exit_, name, cut in sent:
            codec, shared = codec_named(name), Shared(model.ranges_at(exit_, cut))
            pieces = () if codec.raw else model.spec.parts(exit_, cut)
            for one in part if codec.raw else tensors[exit_, cut]:
                encoded = crossing.encode(codec, pieces, one, shared)
                sent[exit_, name, cut].append(len(encoded.data))
        if parts is not None and (parts.due or (kept and stop == len(pictures))):
            parts.keep(kept, stop, {"sizes": np.array([s[kept:] for s in sent.values()])})
            kept = stop
        progress(stop, len(pictures))
    found = {key: np.array(sent[_shared(model, key)], dtype=np.uint32) for key in wanted}
    return SampleSizes.of(model.digest, found)


def write_sizes(
    folder: Path, model: Model, outcomes: Outcomes, pictures: Pictures, keep: Keep
) -> None:
    """Write `sizes.npz` into `folder`, where any codec's bytes vary.

    As `record_sizes`: `model` is the network that `outcomes` are of, `pictures` those that they
    were recorded on, `keep` says where the pass keeps its parts.
    """
    sizes = record_sizes(model, outcomes, pictures, keep=keep)
    if sizes.keys:
        save_sizes(folder, sizes)


def _identity(model: Model, pictures: Pictures, keys: list[Key], batch: int) -> dict[str, str]:
    """Everything that decides sizes."""
    return {
        "model": model.digest,
        "input": repr(model.card.preprocessing),
        "samples": arrays_digest(pictures.x),
        "keys": repr(keys),
        "batch": str(batch),
        "packages": packages(),
    }


def _taken_up(parts: KeptParts | None, sent: dict[Key, list[int]]) -> int:
    """Take up the parts of a pass that was cut; gives the pictures that are behind it."""
    found = [] if parts is None else parts.read()
    reached = 0
    for start, stop, arrays in found:
        sizes = arrays.get("sizes")
        if sizes is None or sizes.shape != (len(sent), stop - start):
            break  # somebody else has written there
        for known, more in zip(sent.values(), sizes.tolist(), strict=True):
            known.extend(more)
        reached = stop
    return reached


def batch_of(model: Model, cuts: Iterable[tuple[int, int]]) -> int:
    """How many pictures are computed at once, so that their tensors at all cuts fit.

    `cuts` are (exit, layer) of `model`; layer 0 is the input.
    """
    each = sum(4 * math.prod(model.spec.shapes[exit_][layer]) for exit_, layer in cuts)
    return max(1, min(BATCH, HELD_BYTES // max(each, 1)))


def _shared(model: Model, key: Key) -> Key:
    """The same crossing under the deepest exit, where it lies on the trunk that exits share."""
    exit_, codec, cut = key
    exits = model.spec.exits
    return (len(exits) - 1, codec, cut) if cut <= exits[exit_].after else key


def _tensors(
    model: Model, executor: Executor, pictures: Raw, wanted: set[tuple[int, int]]
) -> Iterator[tuple[tuple[int, int], Float32s]]:
    """The tensors (N, ...) before the wanted layers, by branch and cut; 0 is the input."""
    x = model.normalise(pictures)
    for branch in sorted({b for b, _ in wanted}):
        there, at = x, 0
        for cut in sorted(c for b, c in wanted if b == branch):
            if cut > at:
                there, at = executor.run(branch, at, cut, there), cut
            yield (branch, cut), there


def main(argv: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m models.networks.sizes", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("model", help="a shipped name, or the folder of a card")
    args = parser.parse_args(argv)
    try:
        model = load_model(args.model)
        outcomes = read_outcomes(model.folder / "outcomes.npz")
        pictures = judged_pictures(outcomes.dataset)
        if pictures is None:
            raise UsageError(f"pictures: found none of '{outcomes.dataset}', expected them")
        sizes = record_sizes(model, outcomes, pictures, _say)
        save_sizes(model.folder, sizes)
    except CoinferError as error:
        parser.error(str(error))
    print(f"{Path(model.folder) / FILE}: {len(sizes.sizes)} rows of {sizes.samples} samples")
    return 0


def _say(done: int, total: int) -> None:
    if done == total or done % 1000 == 0:
        print(f"{done} of {total} pictures", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
