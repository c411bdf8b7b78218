"""Commands that run edge and device, replay a trace between them, and look after them."""

from coinfer.cli.running import ask, calibrate, certs, health, link, replay, runtime, top

__all__ = ["ask", "calibrate", "certs", "health", "link", "replay", "runtime", "top"]
