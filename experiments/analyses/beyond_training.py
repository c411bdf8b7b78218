"""What the policy does on links it was not trained for: `python -m
experiments.analyses.beyond_training`.

The test logs at rates a hundredth to a hundred times theirs. The policy with its guard (the robust
planner decides where what is seen leaves the range of training), without it, and the robust planner
alone; mean rewards per frame with the answers' accuracies (report half, logs counted equally), and
the share of frames that the guard took.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from artefacts import CoinferError
from controller.interface import Controller
from controller.physics import TraceBank
from controller.planners.robust import RobustPlanner
from controller.policies.learned import LearnedController
from controller.policies.network import Policy
from controller.scenarios import Setting, load_priced, scale_trace
from envs.observed import ObservedLanes, mean_reward
from experiments.arguments import LineParser, add_price_options, count, prices_given
from experiments.evaluation.evaluator import mean_rewards
from experiments.evaluation.learned_policies import shipped_policy
from traces.trace import BandwidthTrace

SCALES = (0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0)


class Row(msgspec.Struct, frozen=True):
    """Of one factor on the rates."""

    scale: float
    guarded: float
    unguarded: float
    robust: float
    fallback_share: float


def measured(
    setting: Setting, policy: Policy, traces: tuple[BandwidthTrace, ...], scale: float, frames: int
) -> Row:
    """The traces at `scale` times their rates.

    The robust planner and `policy` run on them in `setting`, with and without its guard, at most
    `frames` of each of `traces`.
    """
    bank = TraceBank(tuple(scale_trace(trace, scale) for trace in traces))
    guarded = [LearnedController(policy, setting) for _ in traces]
    robust: list[Controller] = [RobustPlanner(setting, policy.belief) for _ in traces]
    rng = np.random.default_rng(setting.scenario.seeds.evaluate)
    lanes = ObservedLanes(
        setting, bank, len(traces), policy.encoder(setting), "report", rng, policy.card.blind_s
    )
    earned = mean_rewards(setting, bank, guarded, "report", frames)
    alone = mean_rewards(setting, bank, robust, "report", frames)
    decided = [
        min(frames, int((trace.duration_s - setting.scenario.frames.deadline_s)
                        * setting.scenario.frames.rate_fps))
        for trace in traces
    ]  # fmt: skip
    return Row(
        scale,
        float(earned.mean()),
        float(mean_reward(lanes, policy, frames).mean()),
        float(alone.mean()),
        sum(controller.fallbacks for controller in guarded) / max(sum(decided), 1),
    )


def main() -> None:
    """Print a Markdown table."""
    parser = LineParser(description=__doc__)
    parser.add_argument("--scenario", required=True)
    add_price_options(parser)
    parser.add_argument("--policy", type=Path)
    parser.add_argument("--frames", type=count, default=600)
    args = parser.parse_args()
    try:
        setting = load_priced(args.scenario, prices_given(args))
        if setting.closed_loop:
            raise CoinferError("--scenario: found a closed loop, expected a frame stream")
        policy = shipped_policy(setting, args.policy)
        traces = setting.traces("test").traces
        print("| rates x | policy | without its guard | robust | frames the guard took |")
        print("|---|---|---|---|---|", flush=True)
        for scale in SCALES:
            row = measured(setting, policy, traces, scale, args.frames)
            print(
                f"| {row.scale:g} | {row.guarded:.4f} | {row.unguarded:.4f} | {row.robust:.4f} | "
                f"{100 * row.fallback_share:.1f} % |",
                flush=True,
            )
    except CoinferError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
