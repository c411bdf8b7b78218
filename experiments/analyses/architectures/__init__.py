"""Which architectures can be brought: each lowered, and held against its torch module."""
