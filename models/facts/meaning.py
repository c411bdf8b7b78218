"""What a card says of inputs and answers, as one digest that a device and its edge compare.

Weights alone do not say how a picture was read before them: a device and an edge that differ there
would both be sure, and one of them wrong.
"""

from __future__ import annotations

from typing import Any

import msgspec

from artefacts import digest_bytes
from models.facts.cards import Card


def meaning_digest(card: Card) -> str:
    """SHA-256 over how a card reads raw samples, and over what it takes the network's values for.

    What is as usual is left out: a field that comes later changes no digest of those before it.
    """
    said = [_unusual(card.preprocessing), _unusual(card.answers)]
    return digest_bytes(msgspec.json.encode(said, order="sorted"))


def _unusual(fact: msgspec.Struct) -> dict[str, Any]:
    """The fields of a tagged struct that differ from their defaults, by name, and its kind."""
    usual = {
        field.name: field.default for field in msgspec.structs.fields(fact) if not field.required
    }
    values = msgspec.structs.asdict(fact)
    kind = fact.__struct_config__.tag
    return {"kind": kind} | {n: v for n, v in values.items() if n not in usual or v != usual[n]}
