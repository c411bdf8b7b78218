"""Where exits are put into a module that was brought, and the training of their heads."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np

from artefacts import ArtefactError, UsageError, digest_bytes, read_json, write_json
from artefacts.printing import apart
from models.capture.cost import Costs, measure_costs
from models.capture.exits import (
    Probe,
    WithExits,
    candidate_points,
    first_reaching,
    named_points,
    pareto_points,
)
from models.capture.graph import Crossing, Cut
from models.capture.placement import MARKS, Placed, marked_points, probed, within
from models.networks.brought.brought_module import BroughtModule, Listener, ProfileArgs, SampleUses
from models.networks.brought.exits.exit_goals import ExitGoal
from models.networks.brought.exits.head_choice import head_seconds
from models.networks.brought.factories import HeadFactory
from models.networks.brought.head_training import ChosenHeads, HeadRun, trained
from models.networks.training_data import plain_batches

CHOSEN = "exits.json"
FORMAT_VERSION = 1
PROBE_POINTS = 16
PROBE_PICTURES = 1000
PROBE_BATCH = 10
"""Pictures that pass the trunk together: more of them leave the processor's caches."""


class ChosenPoints(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`exits.json`: where exits were put (operations before them), and for what."""

    format_version: int
    wanted: str
    at: tuple[int, ...]
    probes: tuple[tuple[str, float], ...] = ()
    """By the name of a place: what a probe there answers right of the held-back pictures."""
    why: tuple[str, ...] = ()
    """For every exit: why it stands there."""
    heads: tuple[str, ...] = ()
    """For every exit: the kind of its head."""
    heads_why: tuple[str, ...] = ()
    """For every exit: why it has that head."""


def with_exits(
    folder: Path,
    brought: BroughtModule,
    lesson: SampleUses,
    args: ProfileArgs,
    listener: Listener,
    head: HeadFactory | None,
) -> tuple[tuple[Cut, ...], WithExits]:
    """Where the exits hang, and the module with them, trained.

    `brought` is the module as it came, `lesson` the pictures to learn from, `args` how. `folder`
    keeps checkpoints, `listener` hears of the progress; `head` makes an exit's head (None: the
    default one).
    """
    captured, known = brought.captured, lesson.known
    seen = digest_bytes(known.x.tobytes() + known.y.tobytes())[:16]
    given = f", samples {seen}, {brought.given.preprocessing!r}{brought.goal.identity}"
    wanted = f"{args.placed} {args.exits}, {WithExits(captured, ()).identity}{given}"
    path, places = folder / CHOSEN, _Places(brought, lesson, args, listener)
    chosen = _kept(path, wanted)
    if chosen is None:
        placed, probes = places.found()
        chosen = ChosenPoints(
            FORMAT_VERSION,
            wanted,
            tuple(p.cut.at for p in placed),
            tuple((p.cut.crossings[0].name, p.accuracy) for p in probes),
            tuple(p.why for p in placed),
        )
        write_json(path, chosen)
    points = tuple(cut for cut in candidate_points(captured) if cut.at in chosen.at)
    if not points:
        return (), WithExits(captured, ())

    def keep(heads: ChosenHeads) -> None:
        write_json(path, msgspec.structs.replace(chosen, heads=heads.kinds, heads_why=heads.why))

    kept = ChosenHeads(chosen.heads, chosen.heads_why) if chosen.heads else None
    data = brought.lessons(known, lesson.held, 64, args.seed)
    run = HeadRun(captured, points, given, head, data, folder, args, places.network_s, brought.goal)
    return points, trained(run, listener, kept, keep)


def _kept(path: Path, wanted: str) -> ChosenPoints | None:
    """What an interrupted run chose: measured anew it might be something else."""
    if not path.exists():
        return None
    kept = read_json(path, ChosenPoints, version=FORMAT_VERSION)
    if kept.wanted == wanted:
        return kept
    if (path.parent / "checkpoint.pt").exists():
        found, expected = apart(kept.wanted, wanted)
        raise ArtefactError(
            path,
            found=f"a run for '{found}'",
            expected=f"one for '{expected}' (use another --out, or remove the folder)",
        )
    return None


class _Places:
    """Finds the places of a module's exits by the rule that was asked for."""

    def __init__(
        self, brought: BroughtModule, lesson: SampleUses, args: ProfileArgs, listener: Listener
    ) -> None:
        self._brought, self._lesson, self._args, self._listener = brought, lesson, args, listener
        self._model = brought.captured
        self._head_prices: dict[str, tuple[float, int]] = {}

    @cached_property
    def _costs(self) -> Costs:
        self._listener.stage("costs")
        sample = self._brought.given.apply(self._lesson.known.x[:1])
        return measure_costs(self._model, sample)

    def network_s(self) -> float:
        """Seconds of the whole network, one sample."""
        return float(self._costs.seconds.sum())

    def _seconds(self, cut: Cut) -> float:
        """Of the trunk up to there and of a head hung there."""
        return float(self._costs.seconds[: cut.at].sum()) + self._head(cut.crossings[0])[0]

    def _bytes(self, cut: Cut) -> float:
        """Of weights up to there and of a head, and of activations at most."""
        held = float(self._costs.parameter_bytes[: cut.at].sum())
        return held + self._head(cut.crossings[0])[1] + self._costs.peak_bytes(0, cut.at)

    def _head(self, crossing: Crossing) -> tuple[float, int]:
        known = self._head_prices
        if crossing.name not in known:
            known[crossing.name] = _head_price(self._brought.goal, crossing)
        return known[crossing.name]

    def _allowed(self) -> tuple[Cut, ...] | None:
        """The places whose exits keep the limits; None where there is no limit."""
        args, points = self._args, candidate_points(self._model)
        if args.most_seconds is None and args.most_bytes is None:
            return None
        if args.most_seconds is not None:
            what = "the limit of latency: {:.3g} s of this machine"
            points = within(self._model, points, self._seconds, args.most_seconds, what)
        if args.most_bytes is not None:
            what = "the limit of memory: {:,.0f} bytes"
            points = within(self._model, points, self._bytes, args.most_bytes, what)
        return points

    def found(self) -> tuple[tuple[Placed, ...], list[Probe]]:
        """The places, and what probes found (none are asked where places are given by hand)."""
        args, model, allowed = self._args, self._model, self._allowed()
        if args.exit_after:
            points = named_points(model, args.exit_after)
            for point in points:
                if allowed is not None and point.at not in [p.at for p in allowed]:
                    raise UsageError(
                        f"exit after '{point.crossings[0].name}': found a place beyond the limits, "
                        f"expected one up to {allowed[-1].crossings[0].name}"
                    )
            return tuple(Placed(p, "it was named") for p in points), []
        every = self._behind_weights(candidate_points(model) if allowed is None else allowed)
        count = min(args.exits, len(every)) if args.fewer else args.exits
        if args.placement in MARKS and not args.exit_accuracies:
            if not count:
                return (), []
            marked = marked_points(model, self._costs, MARKS[args.placement](count), allowed)
            return marked, self._probes(every)
        probes = self._probes(every)
        if args.exit_accuracies:
            return _reaching(probes, args.exit_accuracies), probes
        return self._on_front(probes, count), probes

    def _behind_weights(self, points: tuple[Cut, ...]) -> tuple[Cut, ...]:
        """Those of `points` before which something was learnt, if there are any.

        An exit behind nothing but padding answers from the input itself.
        """
        return tuple(p for p in points if self._costs.learnt_before(p.at)) or points

    def _probes(self, every: tuple[Cut, ...]) -> list[Probe]:
        lesson, given = self._lesson, self._brought.given
        price = self._bytes if self._args.placement == "front-memory" else self._seconds
        for cut in every[:1]:
            price(cut)  # costs are a stage of their own
        self._listener.stage("probes")
        count = min(PROBE_POINTS, len(every))
        some = [every[k] for k in np.unique(np.linspace(0, len(every) - 1, count).astype(int))]
        few = lesson.known.take(np.arange(min(PROBE_PICTURES, len(lesson.known))))
        return self._brought.goal.probes(
            self._model,
            some,
            plain_batches(few, given, PROBE_BATCH),
            plain_batches(lesson.held, given, PROBE_BATCH),
            price,
        )

    def _on_front(self, probes: list[Probe], count: int) -> tuple[Placed, ...]:
        costs, model = self._costs, self._model
        if self._args.placement == "front-memory":
            whole = float(costs.parameter_bytes.sum()) + costs.peak_bytes(0, len(model))
            points = pareto_points(probes, count, whole)
            return probed(
                points, probes, "on the front of accuracy against memory", "{:,.0f} bytes"
            )
        points = pareto_points(probes, count, self.network_s())
        return probed(points, probes, "on the front of accuracy against latency", "{:.3g} s here")


def _reaching(probes: list[Probe], accuracies: tuple[float, ...]) -> tuple[Placed, ...]:
    found = first_reaching(probes, accuracies)
    if not found:
        best = max(probes, key=lambda p: p.accuracy)
        raise UsageError(
            f"--exit-accuracy: found no place where a linear probe reaches {min(accuracies):g}, "
            f"expected at most {best.accuracy:.3f}, which one reaches after "
            f"{best.cut.crossings[0].name}"
        )
    return probed(found, probes, "the first place that is right so often", "{:.3g} s here")


def read_probes(folder: Path) -> dict[str, float]:
    """What probes found when the exits of a folder were placed, by the name of a place."""
    path = folder / CHOSEN
    if not path.exists():
        return {}
    return dict(read_json(path, ChosenPoints, version=FORMAT_VERSION).probes)


def read_reasons(folder: Path) -> tuple[str, ...]:
    """Why every exit of a folder stands where it does, and why it has its head: a line each."""
    path = folder / CHOSEN
    if not path.exists():
        return ()
    kept = read_json(path, ChosenPoints, version=FORMAT_VERSION)
    heads = kept.heads_why or ("",) * len(kept.why)
    return tuple("; ".join(filter(None, both)) for both in zip(kept.why, heads, strict=True))


def _head_price(goal: ExitGoal, crossing: Crossing) -> tuple[float, int]:
    """(seconds, parameter bytes) of the usual head of a tensor, one sample."""
    head = goal.usual_head(crossing).eval()
    return head_seconds(head, crossing.shape), sum(4 * p.numel() for p in head.parameters())
