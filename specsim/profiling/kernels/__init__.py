"""What is timed: every kernel class as something to launch, passes, and the host's own time."""
