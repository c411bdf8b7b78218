"""What a controller loses by not knowing the bandwidth: `python -m
experiments.analyses.information_limit`.

The informed planner is the learned policy's planning with what no device can know: the rate of the
link at this very moment, and when the uplink will be free. It runs again with the rate as it was a
little earlier, for a device hears of the rate only when an answer is back; and once more with the
rate only of times at which something was sent. It never knows the rates to come. What lies between
it and the learned policy is what measuring late costs.

The bound is given twice: as it is, and `chosen`, with the plans that the other half of the pictures
holds best, for nobody can know which plan the judged pictures favour. What lies between `chosen`
and the informed planner is the future's, the queue's and that of compute times (a bound's are the
fastest of a thousand). Rewards count the answers' accuracies (report half), so that no sample's
luck is in them. No controller here falls back to the robust planner.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from artefacts import CoinferError, UsageError
from artefacts.arrays import Floats, Ints
from controller.physics import TraceBank
from controller.policies.features import Observer
from controller.policies.in_flight import InFlight
from controller.policies.network import Policy
from controller.policies.observation import ObservationEncoder
from controller.scenarios import Setting, load_priced
from envs.observed import Decider, ObservedLanes, PlanningAlone, mean_reward
from experiments.arguments import LineParser, add_price_options, count, prices_given
from experiments.evaluation.bound import clairvoyant_values
from experiments.evaluation.controllers import ControllerFactory
from experiments.evaluation.evaluator import mean_rewards
from experiments.evaluation.learned_policies import shipped_policy
from traces.trace import BandwidthTrace

PRESENT_S = 0.02
"""The rate of the present is the mean over so long."""
DELAYS_S = (0.0, 0.03, 0.06, 0.1)
"""A round trip, that with an upload of some kilobytes, and more."""


class InformedLate(msgspec.Struct, frozen=True):
    """Planning that knows the rate as it was `delay_s` ago: mean reward, and of the gap.

    `only_sent`: only while something was under way, at its true rate.
    """

    delay_s: float
    only_sent: bool
    reward: float
    gap_closed: float


class Limits(msgspec.Struct, frozen=True):
    """Mean reward per frame, traces counted equally; `per_trace` in the same order."""

    scenario: str
    traces: tuple[str, ...]
    frames: int
    bound: float
    chosen: float
    informed: float
    planning: float
    learned: float
    baseline: float
    baseline_name: str
    """The better of the robust planner and the rate rule on these traces."""
    gap_closed: float
    """(learned - baseline) / (bound - baseline)."""
    gap_of_informed: float
    """The same of the planner that knows the present: what measuring at once could reach."""
    informed_late: tuple[InformedLate, ...]
    """Nobody who measures knows the rate before an upload and its answer have crossed the link,
    nor while nothing does."""
    per_trace: dict[str, tuple[float, ...]]


class InformedEncoder(ObservationEncoder):
    """An encoder whose belief is the truth of the present. Simulation only."""

    lanes: ObservedLanes
    delay_s: float = 0.0
    """The rate is known as it was so long ago; the uplink's state stays that of now."""
    only_sent: bool = False
    """Where nothing was under way then, the rate is known as it was when the uplink became free."""
    ahead_s: float = 0.1
    """The belief is the rate's distribution so long after the known present: a frame's answer needs
    the link for about that, and who is sure of the present alone keeps no reserve."""

    def believed(
        self, observer: Observer, in_flight: InFlight, now_s: Floats, uplink_backlog_bytes: Floats
    ) -> tuple[Floats, Floats, Ints]:
        """What follows the present rate; the uplink's true seconds at every level, and the states
        of fallbacks as the device knows them.

        Of L lanes: `observer` and `in_flight` are what a device knows, `now_s` (L,) the time in
        seconds, `uplink_backlog_bytes` (L,) what still waits.
        """
        simulator = self.lanes.simulator
        end = simulator.link.duration_s
        free_s = np.nan_to_num(simulator.resources.uplink_s, posinf=1e9)
        then_s = np.maximum(now_s - self.delay_s, 0.0)
        if self.only_sent:
            # what was sent before that is known whole: in favour of the informed
            then_s = np.minimum(then_s, np.maximum(free_s - PRESENT_S, 0.0))
        begin, until = np.minimum(then_s, end), np.minimum(then_s + PRESENT_S, end)
        passed = simulator.link.bytes_between(begin, until)
        truth = self.belief.near(8.0 * passed / PRESENT_S, now_s - then_s + self.ahead_s)
        busy_s = np.maximum(free_s - now_s, 0.0)
        _, _, due = super().believed(observer, in_flight, now_s, uplink_backlog_bytes)
        return truth, np.broadcast_to(busy_s[:, None], truth.shape), due


def limits(
    setting: Setting,
    policy: Policy,
    traces: tuple[BandwidthTrace, ...],
    frames: int,
    delays_s: tuple[float, ...] = DELAYS_S,
) -> Limits:
    """Bound, informed planning, planning and the policy on the same frames of `traces`.

    `frames` is the most of a trace, `delays_s` the seconds by which the informed planner is late.

    `setting` is the scenario loaded, `policy` its learned one.
    """
    if setting.closed_loop:
        raise UsageError(
            f"information limit: found scenario '{setting.scenario.name}' of kind 'closed-loop', "
            "expected a frame stream"
        )
    encoder = policy.encoder(setting)
    informed = partial(_informed, setting, policy, traces, frames)
    found = {
        "informed": informed(0.0),
        "planning": _earned(setting, policy, encoder, PlanningAlone(), traces, frames),
        "learned": _earned(setting, policy, encoder, policy, traces, frames),
        **_bounds(setting, traces, frames),
    }
    best, baseline = _baseline(setting, traces, frames)
    found["baseline"] = baseline
    gap = found["bound"].mean() - baseline.mean()

    def closed(rewards: Floats) -> float:
        return float((rewards.mean() - baseline.mean()) / gap)

    late = [(d, sent, informed(d, sent)) for sent in (False, True) for d in delays_s]
    mean = {name: float(values.mean()) for name, values in found.items()}
    return Limits(
        setting.scenario.name,
        tuple(t.name for t in traces),
        frames,
        mean["bound"],
        mean["chosen"],
        mean["informed"],
        mean["planning"],
        mean["learned"],
        mean["baseline"],
        best,
        closed(found["learned"]),
        closed(found["informed"]),
        tuple(InformedLate(d, sent, float(r.mean()), closed(r)) for d, sent, r in late),
        {name: tuple(map(float, values)) for name, values in found.items()},
    )


def _informed(
    setting: Setting,
    policy: Policy,
    traces: tuple[BandwidthTrace, ...],
    frames: int,
    delay_s: float,
    only_sent: bool = False,
) -> Floats:
    """Rewards (traces) of planning that knows the rate as it was `delay_s` ago."""
    prices = setting.prices
    advantages = policy.advantages.at(prices.device_second, prices.megabyte)
    encoder = InformedEncoder(setting, policy.belief, advantages)
    encoder.delay_s, encoder.only_sent = delay_s, only_sent
    return _earned(setting, policy, encoder, PlanningAlone(), traces, frames)


def _bounds(setting: Setting, traces: tuple[BandwidthTrace, ...], frames: int) -> dict[str, Floats]:
    """Clairvoyant rewards (traces): of the best plans, and of those that the other half likes."""
    spacing_s = setting.interval_s
    bounds, chosen = [], []
    for trace in traces:
        last_s = trace.duration_s - setting.scenario.frames.deadline_s - spacing_s
        starts_s = np.arange(min(frames, max(int(last_s / spacing_s), 1)), dtype=float) * spacing_s
        values, _ = clairvoyant_values(setting, trace, starts_s, "report")
        liked, _ = clairvoyant_values(setting, trace, starts_s, "policy")
        bounds.append(float(np.maximum(values.max(axis=1), 0.0).mean()))
        chosen.append(float(values[np.arange(len(starts_s)), liked.argmax(axis=1)].mean()))
    return {"bound": np.array(bounds), "chosen": np.array(chosen)}


def _baseline(
    setting: Setting, traces: tuple[BandwidthTrace, ...], frames: int
) -> tuple[str, Floats]:
    """The better of the robust planner and the rate rule, and its rewards (traces)."""
    factory = ControllerFactory(setting)
    rivals = {}
    for name in ("robust", "rate-rule"):
        maker, bank = factory.maker(name, traces), TraceBank(traces)
        made = [maker(k) for k in range(len(traces))]
        rivals[name] = mean_rewards(setting, bank, made, "report", frames)
    best = max(rivals, key=lambda name: float(rivals[name].mean()))
    return best, rivals[best]


def _earned(
    setting: Setting,
    policy: Policy,
    encoder: ObservationEncoder,
    decider: Decider,
    traces: tuple[BandwidthTrace, ...],
    frames: int,
) -> Floats:
    rng = np.random.default_rng(setting.scenario.seeds.evaluate)
    # who knows need not ask
    knows = isinstance(encoder, InformedEncoder) and not encoder.only_sent
    blind_s = np.inf if knows else policy.card.blind_s
    lanes = ObservedLanes(setting, TraceBank(traces), len(traces), encoder, "report", rng, blind_s)
    if isinstance(encoder, InformedEncoder):
        encoder.lanes = lanes
    return mean_reward(lanes, decider, frames)


def main() -> None:
    """Print the limits of a scenario as JSON."""
    parser = LineParser(description=__doc__)
    parser.add_argument("--scenario", required=True)
    add_price_options(parser)
    parser.add_argument("--policy", type=Path)
    parser.add_argument("--part", default="test", choices=("validation", "test"))
    parser.add_argument("--frames", type=count, default=1_000_000)
    args = parser.parse_args()
    try:
        setting = load_priced(args.scenario, prices_given(args))
        policy = shipped_policy(setting, args.policy)
        found = limits(setting, policy, setting.traces(args.part).traces, args.frames)
    except CoinferError as error:
        parser.error(str(error))
    print(msgspec.json.format(msgspec.json.encode(found)).decode())


if __name__ == "__main__":
    main()
