"""Seconds and bytes: the price of one pass and the room for KV blocks."""
