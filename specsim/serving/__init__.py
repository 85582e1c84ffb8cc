"""Answers by discrete-event simulation."""
