"""Reliable encrypted datagrams (docs/protocols/rudp.md): sans-I/O, one connection."""
