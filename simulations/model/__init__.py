"""What all backends take the world to be."""
