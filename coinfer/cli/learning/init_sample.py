"""The sample that a folder of `coinfer init` has, to ask its daemon with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from coinfer.cli.learning.begun import Kept

if TYPE_CHECKING:
    from models.facts.cards import Model

FRAME = "frame.jpg"
"""One of the pictures, to ask the daemon with."""
SAMPLE = "sample.npz"
"""The same of a network of another input: its arrays by their names."""


def sample_name(model: Model) -> str:
    """The file of the sample that the daemon is asked with."""
    from models.facts.preprocessing import PictureInput

    return FRAME if isinstance(model.card.preprocessing, PictureInput) else SAMPLE


def write_sample(kept: Kept, model: Model) -> None:
    """Write one of the samples of `model` into the folder, unless one is there."""
    name = sample_name(model)
    if not (kept.out / name).exists():
        (_write_frame if name == FRAME else _write_arrays)(kept, model)


def _write_frame(kept: Kept, model: Model) -> None:
    """One of the pictures as a JPEG file, to ask the daemon with."""
    from PIL import Image

    from artefacts import atomic_write
    from models.data.own_pictures import read_pictures
    from models.data.pictures import unlabelled_pictures
    from models.facts.picture_fit import SQUASH
    from models.facts.preprocessing import PictureInput

    height, width = model.spec.input_shape[1:]
    data = kept.begun.network.data
    if data:
        takes = model.card.preprocessing
        fit = takes.fitting if isinstance(takes, PictureInput) else SQUASH
        x = read_pictures(
            Path(data),
            (height, width),
            likely=model.card.classes,
            fit=fit,
        ).x
    else:
        x = unlabelled_pictures((height, width), kept.begun.network.seed)
    with atomic_write(kept.out / FRAME, "wb") as stream:
        Image.fromarray(x[0]).save(stream, "JPEG", quality=95)


def _write_arrays(kept: Kept, model: Model) -> None:
    """One of the samples as an npz, or a made-up one where there is no data."""
    import numpy as np

    from artefacts import atomic_write
    from artefacts.arrays import read_npz
    from models.codecs.tensors import NUMPY_TYPES
    from models.data.own_samples import MOST_BYTES, read_samples
    from models.facts.made_up import made_up_sample
    from models.facts.preprocessing import TensorInput

    takes, shape = model.card.preprocessing, model.spec.input_shape
    data = Path(kept.begun.network.data) if kept.begun.network.data else None
    if isinstance(takes, TensorInput):
        found = {} if data is None else read_npz(data, "an npz of samples", None, MOST_BYTES)
        arrays = {
            t.name: found[t.name][0] if t.name in found else np.ones(t.shape) for t in takes.tensors
        }
        arrays = {t.name: arrays[t.name].astype(NUMPY_TYPES[t.datatype]) for t in takes.tensors}
    elif data is None:
        arrays = {takes.name: made_up_sample(takes, shape)}
    else:
        arrays = {takes.name: read_samples(data, takes, shape).x[0]}
    with atomic_write(kept.out / SAMPLE, "wb") as stream:
        saved: Any = np.savez
        saved(stream, **arrays)
