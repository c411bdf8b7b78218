"""A link for real processes that follows a trace: tc in namespaces, or a user-space relay."""
