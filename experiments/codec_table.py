"""Every wire codec at every cut of a network: bytes, accuracy, time."""

from __future__ import annotations

import msgspec

from models.cards import Model
from models.codecs import encoded_bytes
from models.outcomes import QUANTISED, Outcomes
from models.profiles import Profile


class CodecRow(msgspec.Struct, frozen=True):
    """One codec at one cut of one exit; `change` against float32, times where profiled."""

    cut: int
    after: str
    codec: str
    mean_bytes: float
    accuracy: float
    change: float
    encode_s: float | None
    decode_s: float | None


def codec_rows(
    model: Model,
    outcomes: Outcomes,
    branch: int,
    device: Profile | None,
    edge: Profile | None,
    half: str = "report",
) -> list[CodecRow]:
    """Rows by cut, then by bytes; the raw picture and float32 at the input stand for no codec."""
    spec = model.spec
    plain = outcomes.accuracy(branch, half=half)
    kept = [k for k in outcomes.keys if k[0] == branch and k[1] != QUANTISED]
    wanted = {(codec, cut) for _, codec, cut in kept}
    wanted |= {(codec, cut) for i, codec, cut in outcomes.wire if i == branch}
    wanted |= {("uint8", 0)}
    rows = []
    for codec, cut in wanted:
        after = spec.crossing(branch, cut)
        sent = outcomes.wire.get((branch, codec, cut))
        known = encoded_bytes(codec, spec.shapes[branch][cut]) if sent is None else sent
        accuracy = outcomes.accuracy(branch, codec.removesuffix("+zstd"), cut, half)
        rows.append(
            CodecRow(
                cut, after, codec, float(known or 0), accuracy, accuracy - plain,
                None if device is None else device.encode_s(codec, after),
                None if edge is None else edge.decode_s(codec, after),
            )
        )  # fmt: skip
    return sorted(rows, key=lambda r: (r.cut, r.mean_bytes))
