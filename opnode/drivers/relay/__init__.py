"""Relays: passing datagrams on for two others, and our end of being served."""
