"""What is done: executors, the edge server, the device's frame loop and its link to the edge.

The thin shells around `controller.wire`: sockets, threads and clocks live here. The device side
imports no torch, gymnasium, stable-baselines3, pandas or matplotlib.
"""
