"""The device: its CPU, the engine that executes plans, and the two frame loops.

Imports no torch, gymnasium, stable-baselines3, pandas or matplotlib: this is what a Pi runs.
"""
