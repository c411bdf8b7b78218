"""Commands that make what decisions rest on: networks, gates, profiles, policies."""

from coinfer.cli.learning import gates, models, train

__all__ = ["gates", "models", "train"]
