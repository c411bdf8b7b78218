"""A torch module that a user brings: its factory, exits, heads, and the network made of it."""
