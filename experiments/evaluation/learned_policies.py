"""The learned policies of a setting: a folder's, the shipped one, the generalist."""

from __future__ import annotations

from pathlib import Path

from artefacts import UsageError
from controller.policies import SHIPPED_GENERALIST, SHIPPED_POLICIES
from controller.policies.generalist import load_generalist
from controller.policies.network import Policy, load_policy
from controller.scenarios import Setting


def shipped_policy(setting: Setting, folder: Path | None = None) -> Policy:
    """The policy in `folder`, or the shipped one of the setting's scenario."""
    folder = folder or SHIPPED_POLICIES / setting.scenario.name
    if not (folder / "policy.json").exists():
        raise UsageError(
            f"learned policy: found none in '{folder}', expected policy.json and policy.npz "
            "(name one with --policy, or make one: coinfer train --scenario ... --out ..., or "
            "without training coinfer adapt --scenario ... --out ...)"
        )
    return load_policy(folder, setting)


def adapted_generalist(setting: Setting, folder: Path | None = None) -> Policy:
    """The generalist in `folder`, or the shipped one, planned for the setting."""
    return load_generalist(folder or SHIPPED_GENERALIST).adapted(setting)
