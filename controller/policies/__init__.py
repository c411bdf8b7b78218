"""The learned policy as a numpy-only artefact, and the observation it decides on."""

from pathlib import Path

SHIPPED_POLICIES = Path(__file__).parent / "shipped"
"""A folder for every scenario that has a policy."""
SHIPPED_GENERALIST = SHIPPED_POLICIES / "generalist"
"""The one for scenarios that have none."""
BESIDE = "policy"
"""The folder of a scenario's policy, beside the scenario's file."""


def beside_scenario(scenario: str | Path) -> Path | None:
    """Where the policy of a scenario's file belongs; None for a shipped scenario's name."""
    path = Path(scenario)
    return path.parent / BESIDE if path.suffix == ".toml" else None
