"""Commands that make what decisions rest on: networks, gates, profiles, policies."""

from coinfer.cli.learning import gates, generalist, init, machines, models, train, weights

__all__ = ["gates", "generalist", "init", "machines", "models", "train", "weights"]
