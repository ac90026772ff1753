"""Ids ground next to a key, among more nodes than the real backend holds."""
