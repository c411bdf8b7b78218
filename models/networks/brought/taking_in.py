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
from models.networks.brought.brought_module import Listener, ProfileArgs
from models.networks.brought.exit_placement import CHOSEN
from models.networks.brought.factories import HeadFactory
from models.networks.brought.profile_module import CODECS, convert_module
from models.networks.brought.signatures import Taken
from models.networks.brought.signed.signed_module import convert_signed

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Source:
    """Where samples come from, and what the module takes of them."""

    data: Path | None
    """A file or folder of labelled samples; None: made-up ones."""
    side: Size | None
    """(height, width) that pictures are squashed to, or made in; None: they have their own."""
    train_data: Path | None
    """Pictures that train exits and never judge."""
    of_pictures: bool
    taken: Callable[[Size | None], Taken | None]
    """What the module takes and gives, by the size of pictures; None: a picture in, a class out."""
    one_class: bool = True
    """Whether pictures are labelled with a class, or with what else the answers' judge takes."""


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
    samples: Samples | None = None
    if source.of_pictures and source.data is not None:
        # what is not there is said by who reads it
        if source.side is not None and source.data.exists() and has_own_size(source.data):
            raise UsageError(
                "--input: found it given for a model that is brought, expected none (an npz's "
                "pictures have their size; those of other forms are squashed to --input)"
            )
        samples = read_pictures(
            source.data, source.side, args.classes, brought.classes, source.one_class
        )
    size = source.side if samples is None else (samples.x.shape[1], samples.x.shape[2])
    taken = source.taken(size if source.of_pictures else None)
    if taken is None:
        assert size is not None
        more = _more(source, samples, size, args)
        usual = codecs or CODECS
        outcomes = convert_module(
            folder, brought.module, brought.name, samples, size, args, listener, head, usual, more
        )
        return outcomes, usual
    if source.train_data is not None:
        raise UsageError(
            "--train-data: found it given, expected none (it is for pictures of one class and a "
            "model without exits of its own, without --answers, --judge and --confidence)"
        )
    if not source.of_pictures and source.data is not None:
        samples = read_samples(source.data, taken.preprocessing, taken.shape)
    usual = codecs or taken.codecs
    outcomes = convert_signed(
        folder, brought.module, brought.name, samples, taken, args, listener, head, usual
    )
    return outcomes, usual


def interrupted_at(folder: Path) -> Path:
    """What an interrupted run has left to go on from."""
    left = [p for p in (folder / "checkpoint.pt", folder / CHOSEN) if p.exists()]
    return left[0] if left else folder / "checkpoint.pt"


def _more(source: Source, samples: Samples | None, size: Size, args: ProfileArgs) -> Samples | None:
    if source.train_data is None:
        return None
    if samples is None:
        raise UsageError("--train-data: found it without --data, expected both")
    return read_pictures(source.train_data, size, args.classes or samples.classes)
