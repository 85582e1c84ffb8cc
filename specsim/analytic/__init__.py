"""Answers by formula."""
