"""Formats of outside systems, one file each."""
