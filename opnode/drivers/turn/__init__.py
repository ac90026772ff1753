"""TURN servers that the user gave: an allocation, and paths through it."""
