"""The files that cells need on a machine that shares no disk with the driver.

Shipped models, profiles and scenarios come with coinfer and are not sent; a model of the user's
own, profiles given as files and the real logs are. Names within a bundle are relative paths.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from artefacts import data_directory, read_bytes
from artefacts.owners import temporary_folder
from controller.scenarios import Scenario
from experiments.sweeps.grid import TRAINING_PARTS, Cell
from models.facts.cards import RANGES
from models.facts.packaged import HEADS, SOURCE, WEIGHTS
from models.facts.sizes import FILE as SIZES
from traces.library import FOLDERS, read_split

MODEL_FILES = ("card.json", WEIGHTS, RANGES, "outcomes.npz", SIZES, SOURCE, HEADS)
Bundle = dict[str, bytes]


def pack(cells: Sequence[Cell]) -> Bundle:
    """Files, by name in the bundle, that the cells' scenarios name and coinfer does not ship."""
    bundle: Bundle = {}
    for cell in {c.scenario: c for c in cells}.values():
        profiles = [node.profile for node in cell.scenario.topology.nodes]
        for name in (cell.scenario.network, *profiles):
            bundle |= _named(name)
        bundle |= _logs(cell)
    return bundle


@contextlib.contextmanager
def unpacked(bundle: Bundle, cell: Cell) -> Iterator[Cell]:
    """The cell with its scenario pointing at the bundle's files, in a folder that goes again.

    Within it the real logs are the bundle's and no others.
    """
    with temporary_folder("bundle") as root:
        for name, content in bundle.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        (root / "data").mkdir(exist_ok=True)
        before = os.environ.get("COINFER_DATA")
        os.environ["COINFER_DATA"] = str(root / "data")
        try:
            yield msgspec.structs.replace(cell, scenario=_moved(cell.scenario, root))
        finally:
            del os.environ["COINFER_DATA"]
            if before is not None:
                os.environ["COINFER_DATA"] = before


def _moved(scenario: Scenario, root: Path) -> Scenario:
    def there(name: str) -> str:
        place = root / _place(name)
        return str(place) if place.exists() else name

    moved = msgspec.structs.replace(scenario, network=there(scenario.network))
    for number, node in enumerate(scenario.topology.nodes):
        moved = moved.with_node(number, profile=there(node.profile))
    return moved


def _place(name: str) -> Path:
    """Where a file or folder lies in a bundle; its own name, part of a digest, stays."""
    path = Path(name).absolute()
    return Path("files", *path.parts[1:])


def _named(name: str) -> Bundle:
    path = Path(name)
    if path.is_file():
        return {str(_place(name)): read_bytes(path)}
    if not path.is_dir():
        return {}
    files = [path / known for known in MODEL_FILES if (path / known).is_file()]
    files += sorted((path / "profiles").glob("*.json"))
    return {str(_place(name) / f.relative_to(path)): read_bytes(f) for f in files}


def _logs(cell: Cell) -> Bundle:
    """The real logs of the splits that are used, where this machine has all of a split's."""
    root = data_directory()
    if root is None:
        return {}
    family = cell.scenario.traces.family
    bundle: Bundle = {}
    for part in dict.fromkeys((*TRAINING_PARTS, *cell.evaluation.parts)):
        inner = Path("traces", FOLDERS[family])
        paths = [inner / f.file for f in getattr(read_split(family), part)]
        if all((root / p).exists() for p in paths):
            bundle |= {str("data" / p): read_bytes(root / p) for p in paths}
    return bundle
