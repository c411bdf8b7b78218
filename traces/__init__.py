"""What the link did: the trace type, readers of public formats, generator, states, statistics.

Knows nothing of networks, plans or controllers. numpy only; pandas and matplotlib never at import.
"""

from traces.trace import BandwidthTrace

__all__ = ["BandwidthTrace"]
