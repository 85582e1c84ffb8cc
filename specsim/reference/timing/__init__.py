"""Runs and cells on the wall clock."""
