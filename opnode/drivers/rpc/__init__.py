"""Requests and replies on the node's socket."""
