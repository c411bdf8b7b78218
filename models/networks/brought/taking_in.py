"""A user's module and samples, whatever they are, taken in: read, converted, published."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from artefacts import UsageError
from models.data.datasets import Samples
from models.data.own_pictures import has_own_size, read_pictures
from models.data.own_samples import read_samples
from models.facts.outcomes import Outcomes
from models.facts.picture_fit import SQUASH, PictureFit
from models.networks.brought.brought_module import Listener, ProfileArgs
from models.networks.brought.converting import convert
from models.networks.brought.exit_placement import CHOSEN
from models.networks.brought.factories import HeadFactory
from models.networks.brought.signatures import Taken

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Source:
    """Where samples come from, and what the module takes of them."""

    data: Path | None
    """A file or folder of labelled samples; None: made-up ones."""
    side: Size | None
    """(height, width) that pictures are made to fit, or made in; None: they have their own."""
    train_data: Path | None
    """Samples that train exits and never judge."""
    of_pictures: bool
    taken: Callable[[Size | None], Taken]
    """What the module takes and gives, by the size of pictures."""
    fit: PictureFit = SQUASH
    """How pictures of another size are made to fit."""


@dataclass(frozen=True, slots=True)
class NamedModule:
    """A user's module, its name, and the names that it has for its classes."""

    module: nn.Module
    name: str
    classes: tuple[str, ...] = ()


def take_in(
    folder: Path,
    brought: NamedModule,
    source: Source,
    args: ProfileArgs,
    listener: Listener,
    head: HeadFactory | None,
    codecs: tuple[str, ...],
) -> tuple[Outcomes, tuple[str, ...]]:
    """Write the model's folder; gives the outcomes, and the codecs that may cross its cuts.

    `folder` is the model's, `brought` the module, `source` its samples. `args` say how it is done,
    `listener` hears of it, `head` makes exits' heads (None: the usual ones). `codecs` are those
    that were asked for (none: the usual ones).
    """
    if source.train_data is not None:
        if source.data is None:
            raise UsageError("--train-data: found it without --data, expected both")
        if source.train_data.resolve() == source.data.resolve():
            raise UsageError(
                f"--train-data: found '{source.train_data}', which is --data, expected other "
                "samples (half of those of --data judge, and must train nothing)"
            )
    if source.of_pictures:
        samples = _pictures(source, args, brought)
        size = source.side if samples is None else (samples.x.shape[1], samples.x.shape[2])
        taken = source.taken(size)
    else:
        taken = source.taken(None)
        samples = None if source.data is None else _others(source.data, taken)
    more = None if source.train_data is None else _more(source, samples, taken, args)
    usual = codecs or taken.codecs
    outcomes = convert(
        folder, brought.module, brought.name, samples, taken, args, listener, head, usual, more
    )
    return outcomes, usual


def _pictures(source: Source, args: ProfileArgs, brought: NamedModule) -> Samples | None:
    if source.data is None:
        return None
    # what is not there is said by who reads it
    if source.side is not None and source.data.exists() and has_own_size(source.data):
        raise UsageError(
            "--input: found it given for a model that is brought, expected none (an npz's "
            "pictures have their size; those of other forms are made to fit --input)"
        )
    return read_pictures(
        source.data,
        source.side,
        args.classes,
        brought.classes,
        fit=source.fit,
    )


def _others(path: Path, taken: Taken) -> Samples:
    return read_samples(path, taken.preprocessing, taken.shape)


def _more(source: Source, samples: Samples | None, taken: Taken, args: ProfileArgs) -> Samples:
    """Samples that train and never judge, of the shape of those that do."""
    assert source.train_data is not None
    assert samples is not None
    if not source.of_pictures:
        more = _others(source.train_data, taken)
    else:
        names, (height, width) = args.classes or samples.classes, samples.x.shape[1:3]
        more = read_pictures(
            source.train_data,
            (height, width),
            names,
            fit=source.fit,
        )
        if more.x.shape[1:] != samples.x.shape[1:]:
            raise UsageError(
                f"--train-data: found pictures of {more.x.shape[2]} x {more.x.shape[1]}, "
                f"expected {width} x {height}, the size of --data"
            )
    if bool(more.y.size) != bool(samples.y.size):
        with_or = ("without", "with") if samples.y.size else ("with", "without")
        raise UsageError(
            f"--train-data: found samples {with_or[0]} labels, expected them {with_or[1]} labels, "
            "as those of --data are"
        )
    return more


def interrupted_at(folder: Path) -> Path:
    """What an interrupted run has left to go on from."""
    left = [p for p in (folder / "checkpoint.pt", folder / CHOSEN) if p.exists()]
    return left[0] if left else folder / "checkpoint.pt"
