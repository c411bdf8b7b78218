"""What the daemons show of themselves: metrics, traces, the log, and systemd."""
