"""Performance, each figure a ratio against a baseline timed in the same run (`coinfer bench`)."""
