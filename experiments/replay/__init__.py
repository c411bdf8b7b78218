"""Traces on a real link between real processes, beside the simulation."""
