"""Modules that come with a signature: other inputs than pictures, other answers than classes."""
