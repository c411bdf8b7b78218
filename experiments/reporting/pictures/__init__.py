"""The documentation's drawings: `python -m experiments.reporting.pictures` makes them anew.

`svg` draws shapes, `timeline` one frame's work over time, `concepts` and `rooms` the pictures.
"""
