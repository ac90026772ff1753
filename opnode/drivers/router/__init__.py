"""The home router: having it forward a port to us."""
