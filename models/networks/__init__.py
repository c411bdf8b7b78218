"""Networks that compute, in torch: the modules, their training, measuring and judging.

Nothing here is imported by the device process (see `controller.device`).
"""
