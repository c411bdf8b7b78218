"""Controllers on the same traces: who decides, what came of it, and how sure the figures are."""
