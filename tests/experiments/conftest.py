"""What tests of several parts of `experiments` share."""

import numpy as np
import pytest

from traces.trace import BandwidthTrace


@pytest.fixture(scope="session")
def short_traces() -> tuple[BandwidthTrace, ...]:
    """Three traces of eight seconds."""
    rng = np.random.default_rng(0)
    return tuple(
        BandwidthTrace(f"t{k}", np.arange(8.0), rng.uniform(2e5, 4e6, 8), 8.0) for k in range(3)
    )
