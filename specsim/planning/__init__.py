"""What to run: decisions drawn from the answers."""
