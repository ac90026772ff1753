"""The outside world: sockets, interfaces, names, and when they change."""
