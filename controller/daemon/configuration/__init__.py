"""What the daemons are configured by: files, checks, reloads, controllers and certificates."""
