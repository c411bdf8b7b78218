"""What the daemons write to standard error, as text or as one JSON object a line."""

from __future__ import annotations

import json
import logging
import sys

from controller.daemon.settings import LogSettings


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        said = {
            "time_s": round(record.created, 3),
            "level": record.levelname.lower(),
            "from": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            said["error"] = self.formatException(record.exc_info)
        return json.dumps(said)


def set_up_log(settings: LogSettings) -> None:
    """Write to standard error in the form that was asked for (the journal takes it from there)."""
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(levelname)s %(name)s: %(message)s")
    handler.setFormatter(_Json() if settings.form == "json" else text)
    # what a client gets wrong is answered, and what is ours is logged by ourselves
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)
    for name, level in (("coinfer", settings.level.upper()), ("opentelemetry", logging.ERROR)):
        root = logging.getLogger(name)
        root.handlers[:] = [handler]
        root.propagate = False
        root.setLevel(level)
