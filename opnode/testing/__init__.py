"""Public test helpers: virtual network, pairs, seeded keys."""
