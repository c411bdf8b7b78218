"""Exits on confidence: scores, calibration, gates, and their curves of accuracy against compute."""
