"""What an engine learns of its link, and the probes it sends where no frame's upload tells of it.

Decides nothing of frames. Time is passed in: `now_s` counts from the stream's begin.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

from controller.device.link_monitor import LinkMonitor
from controller.interface import Controller, Measurement
from controller.link.interface import Link

log = logging.getLogger("coinfer.device")


@dataclass
class LinkWatch:
    """For the engine's thread. `model` is the digest of the model that both ends hold."""

    link: Link
    model: str
    monitor: LinkMonitor | None = None
    """Follows the link beside the controller, and says when to probe it (None: nobody does)."""
    measured: Measurement | None = None
    """The newest."""
    initial_probe_bytes: int = 0
    """Sent for the controller before the first frame."""
    asked_s: float = -math.inf
    """When a frame came last."""
    on_measured: Callable[[Measurement], None] = lambda measurement: None
    """Hears of every measurement beside the controller."""

    def learn(self, controller: Controller, measurement: Measurement) -> None:
        """A transfer ended, or nothing of one came: whoever follows the link hears of it."""
        self.measured = measurement
        try:
            self.on_measured(measurement)
            controller.observe(measurement)
            if self.monitor is not None:
                self.monitor.observe(measurement)
        except Exception:  # a frame's answer does not depend on what is learnt
            log.exception("measurement %s", measurement)

    def look_around(self, now_s: float) -> None:
        """Probe the link where frames come, none is sent, and the budget allows it."""
        known, link = self.monitor, self.link
        if known is None or now_s - self.asked_s > known.probes.blind_s:
            return  # nobody asks for anything: the link need not be known
        if link.connected and not link.backlog_bytes:
            size = known.probe_bytes(now_s)
            if size:
                self._upload(size)

    def probe(self, n_bytes: int) -> bool:
        """Send the transfer that a controller asks for before the first frame; whether it went."""
        if n_bytes <= 0 or not self.link.connected or not self._upload(n_bytes):
            return False
        self.initial_probe_bytes = n_bytes
        return True

    def _upload(self, n_bytes: int) -> bool:
        meta = {"model": self.model, "probe": True}
        return self.link.upload(meta, bytes(n_bytes)) is not None
