"""A third party's measurements of three tiers, and plans by that party's own cost model."""
