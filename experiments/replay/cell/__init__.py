"""A link like a cell's: packets leave at a trace's delivery opportunities, between two namespaces."""
