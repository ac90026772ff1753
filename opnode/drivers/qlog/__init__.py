"""Logs of connections that the field's viewers read."""
