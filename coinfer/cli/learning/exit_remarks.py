"""What is worth a word of the exits of a model that was brought: weak ones, and wishes unmet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

NEAR_END = 0.95
"""As `models.capture.exits` has it (which imports torch)."""
WEAK = 0.1
"""An exit that is right so much less often than the network is worth a word."""


def weak_exits(
    places: Sequence[str], accuracies: Sequence[float], probes: Mapping[str, float]
) -> list[str]:
    """A line for each exit that is right far less often than the network.

    `places` are where the exits hang, `accuracies` the exits' own and last the network's, `probes`
    what probes reached, by place from the first on: a place that does better is named.
    """
    whole, order, said = accuracies[-1], list(probes), []
    for i, (name, accuracy) in enumerate(zip(places, accuracies, strict=False)):
        if accuracy >= whole - WEAK:
            continue
        enough = max(whole - WEAK, accuracy + WEAK)
        places_behind = order[order.index(name) :] if name in probes else order
        better = next((place for place in places_behind if probes[place] >= enough), None)
        if better is None:
            advice = "Deeper exits (--exit-after), more --epochs or --train-data may do better"
        elif better == name:
            advice = f"A linear probe reaches {100 * probes[name]:.1f} % there: more --epochs"
        else:
            advice = (
                f"A linear probe reaches {100 * probes[better]:.1f} % after {better} "
                f"(--exit-after {better})"
            )
        said.append(
            f"exit {i + 1}, after {name}, is weak: {100 * accuracy:.1f} %, the network "
            f"{100 * whole:.1f} %. {advice}"
        )
    return said


def below_chance(accuracy: float, classes: int, labelled: bool) -> list[str]:
    """A line where a network that somebody has trained answers worse than one that guesses.

    `accuracy` is the network's own, by `labelled` samples of so many `classes` (below 2: it answers
    something else).
    """
    if not labelled or classes < 2 or accuracy >= 1 / classes:
        return []
    return [
        f"the network itself is right for {100 * accuracy:.1f} % of the samples, by chance it "
        f"would be for {100 / classes:.1f} %: are the classes in the order of its scores "
        "(--classes), and are --mean, --std and --channels those that it was trained with?"
    ]


def out_of_reach(wished: Sequence[float], probes: Mapping[str, float]) -> list[str]:
    """A line for each wished accuracy that no probe reaches; `probes` by place."""
    best = max(probes, key=lambda place: probes[place], default="")
    return [
        f"no exit for {100 * share:g} %: the best linear probe reaches {100 * probes[best]:.1f} %, "
        f"after {best}"
        for share in wished
        if probes and share > probes[best]
    ]


def dear_exits(places: Sequence[str], device_s: Sequence[float]) -> list[str]:
    """A line for each exit that takes about as long as the whole network.

    `places` are where the exits hang, `device_s` seconds of the exits on the device, and last the
    network's.
    """
    return [
        f"exit {i + 1}, after {name}, takes {1e3 * took:.2f} ms on the device, the network "
        f"{1e3 * device_s[-1]:.2f} ms: it saves next to nothing (an earlier place: --exit-after; a "
        "lighter head: --head-kind)"
        for i, (name, took) in enumerate(zip(places, device_s[:-1], strict=False))
        if took >= NEAR_END * device_s[-1]
    ]


def fewer_exits(found: int, wanted: int | None, placement: str) -> list[str]:
    """A line where fewer exits were put in than were wanted, or none.

    `found` were put in, `wanted` were asked for (None: as many as it has places for) by the rule
    `placement`.
    """
    if found == 0 and wanted != 0:
        return [
            "no exit was put in: the network has no place inside that costs less than "
            f"{100 * NEAR_END:.0f} % of it"
        ]
    if found < (wanted or 0):
        return [
            f"{found} of {wanted} exits were put in: placement '{placement}' has no more places "
            f"that cost less than {100 * NEAR_END:.0f} % of the network"
        ]
    return []
