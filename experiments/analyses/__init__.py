"""Single questions, each answered by one command: what a part is worth, what is lost, and why."""
