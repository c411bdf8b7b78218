"""The papers' figures, drawn from our physics."""
