"""One row for every architecture: lowered and by how much it differs, or the refusal's line."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path

import msgspec
import torch
from torch import nn

from artefacts import UsageError, atomic_write
from experiments.analyses.architectures.library import (
    CONFIGURATIONS,
    SIDE,
    give_statistics,
    library_model,
)
from experiments.analyses.architectures.plain import NETWORKS
from experiments.analyses.architectures.signed import SIGNED, signed_model, signed_samples
from models.capture.comparison import TOLERANCE
from models.capture.exits import candidate_points
from models.capture.export import capture
from models.capture.lower import lower_verified
from models.capture.verification import MOST_ROUNDING

PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime", "transformers")
HEADER = ("architecture", "stretches", "places for exits", "scores differ", "inside", "or refused")


class Row(msgspec.Struct, frozen=True):
    """What became of one architecture; `refused` is empty where it is lowered."""

    name: str
    stretches: int
    exits: int
    scores: str
    inside: str
    refused: str = ""

    @property
    def cells(self) -> tuple[str, ...]:
        """As the table's line shows it."""
        if self.refused:
            return (self.name, "", "", "", "", self.refused)
        return (self.name, str(self.stretches), str(self.exits), self.scores, self.inside, "")


def names() -> list[str]:
    """Every architecture of the table: of torch alone, of the library, of other signatures."""
    return [*NETWORKS, *CONFIGURATIONS, *SIGNED]


def make(name: str) -> nn.Module:
    """The architecture called `name`, its weights by a fixed seed."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own of what it will one day leave out
        module = NETWORKS[name]() if name in NETWORKS else library_model(name)
        normalised = any(isinstance(part, nn.BatchNorm2d) for part in module.modules())
        if normalised and all(w.dtype is torch.float32 for w in module.parameters()):
            with torch.compiler.set_stance("force_eager"):
                give_statistics(module)
    return module.eval()


def row_of(name: str) -> Row:
    """Capture, lower and verify one architecture."""
    signed = name in SIGNED
    module = signed_model(name) if signed else make(name)
    samples = signed_samples(name) if signed else None
    example = torch.zeros(2, 3, SIDE, SIDE) if samples is None else samples[:2]
    try:
        captured = capture(module, example, name)
        spec, _, found = lower_verified(
            module, example, name, samples=samples, made_up=samples is None
        )
    except UsageError as error:
        return Row(name, 0, 0, "", "", _plain(str(error)))
    places = len(candidate_points(captured))
    return Row(name, len(spec.trunk), places, decade(found.exits), decade(found.inside))


def decade(found: float) -> str:
    """The power of ten that a difference lies below: machines round in different ways."""
    return "0" if found == 0.0 else f"1e{math.floor(math.log10(found)) + 1}"


def _plain(line: str) -> str:
    """A refusal without what differs from machine to machine: paths, lines, digits."""
    line = re.sub(r"/\S+/", "", line)
    line = re.sub(r", line \d+", "", line)
    line = re.sub(r"differs from the module by \S+ of", "differs from the module by ... of", line)
    return " ".join(line.replace("|", "/").split())[:260]


def write_table(path: Path, rows: Iterable[Row]) -> None:
    """A Markdown page."""
    packages = ", ".join(f"{p} {version(p).partition('+')[0]}" for p in PACKAGES)
    lines = [
        "# Architectures that can be brought",
        "",
        "Made by `python -m experiments.analyses.architectures --out "
        "docs/results/architectures.md`. The networks are small and randomly initialised; the "
        "operations are those of the published ones. Each is captured, lowered and verified, as "
        "`coinfer profile --model MODULE:FACTORY` does it.",
        "",
        f"Versions: {packages}. Pictures of {SIDE} x {SIDE}. The last rows take or give something "
        "else than a picture and class scores.",
        "",
        "- *stretches*: layers that a plan may cut between; *places for exits*: where `--exits` "
        "can put one.",
        "- *scores differ*, *inside*: the greatest difference from the torch module, at the scores "
        f"and at every cut, lies below this share of the greatest value. At most {TOLERANCE:g} is "
        f"accepted, or what the module's own rounding explains, up to {MOST_ROUNDING:g}.",
        "- *or refused*: the line that is printed; the exit code is 2.",
        "",
        f"| {' | '.join(HEADER)} |",
        f"|{'---|' * len(HEADER)}",
        *(f"| {' | '.join(row.cells)} |" for row in rows),
    ]
    with atomic_write(path) as stream:
        stream.write("\n".join(lines) + "\n")


def read_table(path: Path) -> dict[str, tuple[str, ...]]:
    """The cells of every row of a page that `write_table` wrote, by architecture."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        cells = tuple(cell.strip() for cell in line.split("|")[1:-1])
        if len(cells) == len(HEADER) and cells[0] not in (HEADER[0], "---"):
            found[cells[0]] = cells
    return found


Listener = Callable[[Row], None]


def rows(wanted: Iterable[str], listener: Listener = lambda row: None) -> list[Row]:
    """A row for each of the architectures wanted; `listener` is given each as it is ready."""
    found = []
    for name in wanted:
        found.append(row_of(name))
        listener(found[-1])
    return found
