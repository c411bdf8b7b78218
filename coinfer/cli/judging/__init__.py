"""Commands that judge: comparisons, studies, sweeps, figures, and the demo, which does it all."""

from coinfer.cli.judging import compare, demo, evaluate, figures, sweep

__all__ = ["compare", "demo", "evaluate", "figures", "sweep"]
