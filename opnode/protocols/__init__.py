"""Sans-I/O state machines; siblings do not import each other."""
