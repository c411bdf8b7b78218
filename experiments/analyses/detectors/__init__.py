"""Change-point detectors compared: on synthetic steps, and on recorded traces."""
