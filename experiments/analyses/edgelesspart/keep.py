"""`python -m experiments.analyses.edgelesspart.keep FOLDER`: what the tables need of a network.

FOLDER is one that `coinfer profile` made. Its card, both profiles and its outcomes are written into
`profiled/`, without weights. Of the outcomes stay the plain answers of every exit, those to
pictures that crossed by a codec, and those of the network's own end by every codec and cut.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from artefacts import CoinferError, read_json, write_json
from experiments.analyses.edgelesspart.networks import (
    DEVICE_PROFILES,
    EDGE_PROFILES,
    KEPT,
    read_network,
)
from models.facts.cards import FORMAT_VERSION, Card
from models.facts.outcomes import Outcomes, save_outcomes
from models.facts.profiles import write_profile


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


def keep(folder: Path, kept: Path = KEPT) -> Path:
    """Write what is needed of the network in `folder` into a folder of its name; gives that."""
    network = read_network(folder)
    place = kept / network.name
    save_outcomes(place / "outcomes.npz", needed(network.outcomes))
    write_profile(place / "profiles" / f"{DEVICE_PROFILES[-1]}.json", network.device)
    write_profile(place / "profiles" / f"{EDGE_PROFILES[-1]}.json", network.edge)
    card = read_json(folder / "card.json", Card, version=FORMAT_VERSION)
    write_json(place / "card.json", card)
    return place


def main() -> None:
    """Keep networks from folders, and say where."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.analyses.edgelesspart.keep",
        description="Keep what the tables need of networks that were profiled, without weights.",
    )
    parser.add_argument("folders", type=Path, nargs="+", help="that coinfer profile made")
    args = parser.parse_args()
    try:
        for folder in args.folders:
            print(keep(folder))
    except CoinferError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
