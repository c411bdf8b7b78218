"""`python -m experiments.analyses.edgelesspart.keep FOLDER`: what the tables need of a network.

FOLDER is one that `coinfer profile` made. Its card, both profiles and its outcomes are written into
`profiled/`, without weights. Of the outcomes stay the plain answers of every exit, those to
pictures that crossed by a codec, and those of the network's own end by every codec and cut.

`--beside FILE`: MobileNetV2's profile, taken on the same machine with the same `--slowdown`. Both
ends' profiles are then made of the device's, which counts processor time: scaled so that
MobileNetV2 takes there what its shipped profiles say. So the machine may be another, and busy.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from artefacts import CoinferError, UsageError, write_json
from experiments.analyses.edgelesspart.networks import (
    DEVICE_PROFILES,
    EDGE_PROFILES,
    KEPT,
    read_network,
)
from experiments.arguments import LineParser
from models.facts.cards import read_card
from models.facts.outcomes import Outcomes, save_outcomes
from models.facts.profiles import Profile, check_profile, read_profile, write_profile

ANCHOR = "mobilenetv2"
TIMED_CODEC = "jpeg75"


def needed(outcomes: Outcomes) -> Outcomes:
    """The rows of outcomes that the tables read; classes that were answered are left out."""
    last = outcomes.exits - 1
    rows = [r for r, (exit_, _, cut) in enumerate(outcomes.keys) if exit_ == last or cut == 0]
    return Outcomes(
        outcomes.model_digest,
        outcomes.dataset,
        tuple(outcomes.keys[r] for r in rows),
        outcomes.quality[rows],
        outcomes.sure[rows],
        None,
        {k: v for k, v in outcomes.wire.items() if k[0] == last or k[2] == 0},
        outcomes.logits,
        outcomes.labels,
    )


def scaled(profile: Profile, beside: Profile, shipped: Profile) -> Profile:
    """`profile` on the machine of `shipped`, which is of the network that `beside` is of.

    Layers and codecs are each multiplied by one factor: by what the whole network, and JPEG of its
    pictures, takes in `shipped` and in `beside`.
    """
    factor = _whole_s(shipped) / _whole_s(beside)
    coded = _picture_s(shipped) / _picture_s(beside)
    codecs = tuple(
        msgspec.structs.replace(c, encode_s=coded * c.encode_s, decode_s=coded * c.decode_s)
        for c in profile.codecs
    )
    said = f"{profile.emulation}; then scaled to {shipped.name} as {shipped.network} is there"
    return msgspec.structs.replace(
        profile.slowed(factor), name=shipped.name, emulation=said, codecs=codecs
    )


def _whole_s(profile: Profile) -> float:
    last = len(profile.branches) - 1
    return profile.interval_s(last, 0, len(profile.branches[last]))


def _picture_s(profile: Profile) -> float:
    found = profile.encode_s(TIMED_CODEC, "")
    if not found > 0:
        raise UsageError(
            f"profile '{profile.name}': found no seconds of {TIMED_CODEC} of a picture, expected "
            f"them (coinfer profile --codecs {TIMED_CODEC})"
        )
    return found


def keep(folder: Path, kept: Path = KEPT, beside: Path | None = None) -> Path:
    """Write what is needed of the network in `folder` into a folder of its name; gives that.

    `beside`: a profile of the shipped MobileNetV2 that both ends are scaled by.
    """
    network = read_network(folder)
    device, edge = network.device, network.edge
    if beside is not None:
        anchor, other = read_network(ANCHOR), read_profile(beside)
        check_profile(other, anchor.spec, beside)
        device, edge = (scaled(device, other, end) for end in (anchor.device, anchor.edge))
    place = kept / network.name
    save_outcomes(place / "outcomes.npz", needed(network.outcomes))
    write_profile(place / "profiles" / f"{DEVICE_PROFILES[-1]}.json", device)
    write_profile(place / "profiles" / f"{EDGE_PROFILES[-1]}.json", edge)
    write_json(place / "card.json", read_card(folder))
    return place


def main() -> None:
    """Keep networks from folders, and say where."""
    parser = LineParser(
        prog="python -m experiments.analyses.edgelesspart.keep",
        description="Keep what the tables need of networks that were profiled, without weights.",
    )
    parser.add_argument("folders", type=Path, nargs="+", help="that coinfer profile made")
    parser.add_argument("--beside", type=Path, help="a profile of mobilenetv2 taken with theirs")
    args = parser.parse_args()
    try:
        for folder in args.folders:
            print(keep(folder, beside=args.beside))
    except CoinferError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
