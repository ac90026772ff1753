"""A Chord ring of users behind NATs, beside the shipped overlay with the same users."""
