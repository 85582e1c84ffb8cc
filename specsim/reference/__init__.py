"""Answers by running: a transformer and a draft-verify engine in torch."""
