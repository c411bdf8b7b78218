"""The learned policy as a numpy-only artefact, and the observation it decides on."""

from pathlib import Path

SHIPPED_POLICIES = Path(__file__).parent / "shipped"
"""A folder for every scenario that has a policy."""
SHIPPED_GENERALIST = SHIPPED_POLICIES / "generalist"
"""The one for scenarios that have none."""
