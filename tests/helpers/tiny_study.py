"""How a study of tiny runs is made, and by which command it says it was."""

from experiments.studies.study import SeriesSpec

SHORT = {"frames": 30, "series": SeriesSpec(seconds=1.0)}
COMMAND = "coinfer evaluate study.toml --out results"
