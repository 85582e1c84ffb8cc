"""What trained drafters accept, position by position."""
