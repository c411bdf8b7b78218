"""`python -m coinfer.cli.main`: the same as `coinfer.cli.entry`, under its earlier name."""

from __future__ import annotations

from coinfer.cli.app import app
from coinfer.cli.entry import run

__all__ = ["app", "run"]


if __name__ == "__main__":
    run()
