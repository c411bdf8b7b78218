"""Commands that run edge and device, replay a trace between them, and look after them."""

from coinfer.cli.running import calibrate, certs, health, replay, runtime, top

__all__ = ["calibrate", "certs", "health", "replay", "runtime", "top"]
