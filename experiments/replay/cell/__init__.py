"""A link like a cell's: packets between two namespaces leave as a trace lets them."""
