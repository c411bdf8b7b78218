"""One connection between a device and its edge: dialling, TLS, budgets, sending, measuring, health.

A thin shell around `controller.wire`: sockets, threads and clocks live here. Runs on a Pi: imports
no torch, gymnasium, stable-baselines3, pandas or matplotlib.
"""
