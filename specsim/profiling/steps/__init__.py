"""Whole steps of a real engine, run as a subprocess."""
