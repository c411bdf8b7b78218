"""Every wire codec at every cut of a network: bytes, accuracy, time."""

from __future__ import annotations

import msgspec

from models.codecs import codec_named
from models.facts.cards import Model
from models.facts.outcomes import QUANTISED, Outcomes
from models.facts.profiles import Profile
from models.graphs.coding import crossing_bytes


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
    """Rows by cut, then by bytes; the raw picture and float32 at the input stand for no codec.

    `model` has the codecs, `outcomes` their answers on `half` of the samples. `branch` is the exit,
    from 0; `device` and `edge` are profiles (None: no seconds).
    """
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
        named = codec_named(codec)
        known = crossing_bytes(named, spec, branch, cut) if sent is None else sent
        if known is None:  # it serves no such cut: nothing was ever sent so
            continue
        accuracy = outcomes.accuracy(branch, named.answers_as, cut, half)
        rows.append(
            CodecRow(
                cut, after, codec, float(known), accuracy, accuracy - plain,
                _known(device, codec, after, encoding=True),
                _known(edge, codec, after, encoding=False),
            )
        )  # fmt: skip
    return sorted(rows, key=lambda r: (r.cut, r.mean_bytes))


def _known(profile: Profile | None, codec: str, after: str, *, encoding: bool) -> float | None:
    """Seconds, or None where the profile did not time this codec here."""
    if profile is None or (codec, after) not in {(c.codec, c.after) for c in profile.codecs}:
        return None
    return profile.encode_s(codec, after) if encoding else profile.decode_s(codec, after)
