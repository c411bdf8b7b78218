"""Hostile bodies by their structure: JSON trees and JPEG files, put together wrongly.

What comes out is mostly well-formed: it gets past a parser to what reads the values. JPEG markers
are those of ITU-T T.81, table B.1.
"""

from __future__ import annotations

import copy
import io
import json
import random
from typing import Any

START, END = b"\xff\xd8", b"\xff\xd9"
SOF0, SOF2, DHT, SOS, DQT, DRI, EOI, APP0, COM = (
    0xC0, 0xC2, 0xC4, 0xDA, 0xDB, 0xDD, 0xD9, 0xE0, 0xFE
)  # fmt: skip
MARKERS = (0x01, SOF0, 0xC1, SOF2, 0xC9, DHT, 0xD0, SOS, DQT, 0xDC, DRI, EOI, APP0, 0xE1, COM)
SCALARS: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 255, 256, 2**31, 2**63, 2**64, 10**40, -0.0, 1e-300, 1e308, "",
    "picture", "UINT8", "BYTES", "x" * 2000, "\ud800", "\0", "żółw",
)  # fmt: skip


def segments(data: bytes) -> list[bytes]:
    """A JPEG file's segments behind its start, a scan's coded pixels with their header."""
    found, at = [], len(START)
    while at + 4 <= len(data):
        marker = data[at + 1]
        if marker == EOI:
            break
        stop = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == SOS:
            while stop + 1 < len(data) and (
                data[stop] != 0xFF or data[stop + 1] == 0 or 0xD0 <= data[stop + 1] <= 0xD7
            ):
                stop += 1
        found.append(data[at:stop])
        at = stop
    return found


def jpeg(side: int, **options: Any) -> bytes:
    """A grey square of `side` pixels as a JPEG file."""
    from PIL import Image

    stream = io.BytesIO()
    Image.new("L", (side, side), 90).save(stream, "JPEG", **options)
    return stream.getvalue()


def many_scans(side: int, scans: int) -> bytes:
    """A progressive file whose last scan comes again and again: `scans` in all."""
    parts = segments(jpeg(side, progressive=True, quality=50))
    pictures = [part for part in parts if part[1] == SOS]
    more = [pictures[-1]] * (scans - len(pictures))
    return b"".join([START, *parts, *more, END])


def mutated_jpeg(seed: bytes, rng: random.Random) -> bytes:
    """A file whose segments are left out, doubled, moved, cut, or say another thing."""
    parts = segments(seed) or [seed]
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(parts))
        what = rng.randrange(6)
        if what == 0 and len(parts) > 1:
            del parts[at]
        elif what == 1:
            parts[at:at] = [rng.choice(parts)] * rng.choice((1, 2, 30))
        elif what == 2:
            parts.insert(rng.randrange(len(parts)), parts.pop(at))
        elif what == 3:
            parts[at] = parts[at][: rng.randrange(len(parts[at]) + 1)]
        elif what == 4:
            changed = bytearray(parts[at] or b"\0")
            changed[rng.randrange(min(len(changed), 24))] = rng.choice((0, 1, 8, 255))
            parts[at] = bytes(changed)
        else:
            body = rng.randbytes(rng.randrange(20))
            length = rng.choice((len(body) + 2, 0, 2, 65535)).to_bytes(2, "big")
            parts.insert(at, bytes((0xFF, rng.choice(MARKERS))) + length + body)
        if not parts:
            break
    return b"".join([START, *parts, rng.choice((END, b"", END + b"more"))])


def mutated_json(seed: bytes, rng: random.Random) -> bytes:
    """A JSON text whose values are others, deeper, repeated or gone, and whose keys come twice."""
    tree = json.loads(seed)
    for _ in range(rng.randint(1, 4)):
        places = list(_places(tree))
        if not places:
            break
        holder, key = rng.choice(places)
        holder[key] = _other(holder[key], rng)
    text = json.dumps(tree)
    if rng.randrange(4) == 0:
        name = rng.choice(("id", "inputs", "shape", "name", "data", "deadline_ms"))
        at = text.find("{", rng.randrange(len(text)))
        again = f'"{name}": {json.dumps(rng.choice(SCALARS))}, '
        text = text[: at + 1] + again * 2 + text[at + 1 :]
    if rng.randrange(4) == 0:
        text = text.replace(", ", rng.choice((",", " ,\n\t", ",,")), 1)
    return text.encode(errors="surrogatepass")


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Every (holder, key) of a tree."""
    found: list[tuple[Any, Any]] = []
    keys: Any = tree if isinstance(tree, dict) else range(min(len(tree), 8))
    for key in keys:
        found.append((tree, key))
        if isinstance(tree[key], dict | list):
            found += _places(tree[key])
    return found


def _other(value: Any, rng: random.Random) -> Any:
    what = rng.randrange(6)
    if what == 0:
        return rng.choice(SCALARS)
    if what == 1:
        return [copy.deepcopy(value)] * rng.choice((0, 1, 2, 50))
    if what == 2:
        deep = copy.deepcopy(value)
        for _ in range(rng.choice((1, 5, 100))):
            deep = [deep]
        return deep
    if what == 3 and isinstance(value, list) and value:
        return [*value[: rng.randrange(len(value))], rng.choice(SCALARS)]
    if what == 4 and isinstance(value, list):
        return value * rng.choice((0, 2, 3))
    return {rng.choice(("id", "name", "x", "", "binary_data_size")): copy.deepcopy(value)}
