"""`coinfer train --from FOLDER`: a policy goes on from what its own device has kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from coinfer.cli.console import console, emit_json, print_table, progress_bar
from coinfer.cli.learning.progress import bars, interruptible
from coinfer.cli.trace_files import say_lines

if TYPE_CHECKING:
    from controller.policies.network import Policy
    from controller.scenarios import Prices, Setting
    from experiments.learning.continued import Mixed
    from experiments.learning.verdict import Verdict


def refuse_beside_records(others: Mapping[str, object]) -> None:
    """Refuse options that say what is learnt from, or for which prices: records and policy do."""
    from artefacts import UsageError

    for name, value in others.items():
        if value:
            raise UsageError(f"{name}: found it beside --from, expected one of them")


def check_alone(scenario: str, policy: Path | None) -> None:
    """Without records a scenario is named, and training begins with planning."""
    from artefacts import UsageError

    if not scenario:
        raise UsageError("--scenario: found none, expected a shipped name or a .toml file")
    if policy is not None:
        raise UsageError("--policy: found it alone, expected --from with it")


def train_on_records(
    folder: Path,
    scenario: str,
    start: Path | None,
    out: Path | None,
    frames: int,
    seed: int | None,
    validation_frames: int,
    prices: Prices,
    json: bool,
) -> None:
    """Read, go on, judge on what was held back, and write the policy."""
    from artefacts import ready_folder
    from controller.policies.network import save_policy
    from experiments.evaluation.learned_policies import shipped_policy
    from experiments.learning.continued import LEARNING_RATE
    from experiments.learning.from_records import learnt, read_material, verdict_on
    from experiments.learning.records import check_streams, read_streams
    from experiments.learning.training_args import TrainArgs

    streams = read_streams(folder)
    setting = _setting_of(scenario, streams[0].header.scenario, prices)
    check_streams(folder, streams, setting)
    before = shipped_policy(setting, start)
    found = read_material(setting, folder, streams)
    out = ready_folder(out or Path("runs") / "policies" / setting.scenario.name)
    say_lines(found.lines)
    args = TrainArgs(
        frames=frames, seed=setting.scenario.seeds.train if seed is None else seed,
        learning_rate=LEARNING_RATE, validation_frames=validation_frames,
    )  # fmt: skip
    with interruptible() as stopped, progress_bar() as bar:
        shown = bars(bar, f"train {setting.scenario.name}", frames)
        made = learnt(
            found, before, args, shown.report, stopped, shown.planning, shown.judging
        )  # fmt: skip
    (out / "map.json").unlink(missing_ok=True)  # of an older policy
    save_policy(out, made)
    console.print(f"kept in {out}; it is judged on what was held back", markup=False)
    _say(out, made, found.material, verdict_on(found, before, made), json)


def _setting_of(scenario: str, recorded: str, prices: Prices) -> Setting:
    """The scenario that is asked for, or the shipped one that records name.

    At `prices`, or at the usual ones where the records are of a device that knew some.
    """
    from artefacts import UsageError
    from controller.scenarios import (
        PRICED,
        load_setting,
        priced_copy,
        read_scenario,
        shipped_scenarios,
    )

    plain = recorded.removesuffix(PRICED)
    if not scenario and plain not in shipped_scenarios():
        raise UsageError(
            f"--scenario: found none, and records of '{recorded}', expected the file of that "
            "scenario"
        )
    own = read_scenario(scenario or plain)
    if not prices.given and recorded == own.name + PRICED:
        return load_setting(priced_copy(own))
    return prices.applied(own)


def _say(out: Path, made: Policy, material: Mixed, verdict: Verdict, json: bool) -> None:
    from experiments.learning.verdict import NEW

    others = [name for name in verdict.controllers if name != NEW]
    differences = {name: verdict.over(name) for name in others}
    if json:
        emit_json(
            {
                "policy": str(out),
                "records_s": material.records_s,
                "weight_of_records": material.weight,
                "device_pace": material.pace,
                "training": {
                    key: made.card.training[key]
                    for key in (
                        "frames_seen",
                        "validation_reward",
                        "validation_reward_of_start",
                        "validation_reward_of_planning",
                    )
                },
                "held_back": {
                    name: {
                        "reward": float(one.rewards.mean()),
                        "goodput_accuracy": one.goodput_accuracy,
                        "late_share": one.late_share,
                    }
                    for name, one in verdict.controllers.items()
                },
                "differences": differences,
                "best": verdict.best,
                "verdict": [verdict.said(name) for name in others],
            }
        )
        return
    rows = [
        (
            name,
            f"{one.rewards.mean():.4f}",
            f"{100 * one.goodput_accuracy:.2f} %",
            f"{100 * one.late_share:.2f} %",
            ""
            if name == NEW
            else f"{differences[name].mean:+.4f} (p {differences[name].p_value:.3f})",
        )
        for name, one in verdict.controllers.items()
    ]
    columns = ["controller", "reward", "goodput accuracy", "late", "new policy less it"]
    count = len(verdict.controllers[NEW].rewards)
    print_table(f"held-back records in {count} piece{'s' * (count > 1)}", columns, rows)
    say_lines([verdict.said(name) for name in others])
    say_lines([f"of greatest mean reward: '{verdict.best}'", f"policy: {out}"])
