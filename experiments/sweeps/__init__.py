"""Sweeps of policy training: seeds x scenarios x algorithms x hyper-parameters, one table.

`definition` owns the TOML file, `grid` the cells and what makes one the same as another, `cell`
what one of them does, `local` and `on_ray` where they run, `results` what stays on disk, `driver`
the whole. Training itself is `experiments.learning`, judging `experiments.evaluation.comparison`.
"""
