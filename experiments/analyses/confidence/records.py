"""What training heads together with their gates gave: the record, kept beside the code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from artefacts import read_json, write_json
from models.facts.cards import Model

FORMAT_VERSION = 1
SHIPPED = Path(__file__).parent / "trained"


class JointPoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Heads trained at one price, gates at another: figures on held-back and on judged pictures."""

    price: float
    gate_price: float
    temperatures: tuple[float, ...]
    known_compute: float
    known_accuracy: float
    compute: float
    accuracy: float
    exit_accuracies: tuple[float, ...]


class JointRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `coinfer train-gates` found for a model."""

    format_version: int
    model: str
    model_digest: str
    judged_on: str
    training: dict[str, Any]
    points: tuple[JointPoint, ...]

    def as_trained(self) -> list[JointPoint]:
        """Of every price's heads, the point whose gates are of the nearest price."""
        best: dict[float, JointPoint] = {}
        for point in sorted(self.points, key=lambda p: -abs(p.gate_price - p.price)):
            best[point.price] = point
        return [best[price] for price in sorted(best)]


def read_record(model: Model) -> JointRecord | None:
    """The shipped record of this very model, if there is one."""
    path = SHIPPED / f"{model.spec.name}.json"
    if not path.exists():
        return None
    found = read_json(path, JointRecord, version=FORMAT_VERSION)
    return found if found.model_digest == model.digest else None


def write_record(path: Path, record: JointRecord) -> None:
    """Write a record as JSON, atomically."""
    write_json(path, record)
