"""Ids ground next to a key, on each backend."""
