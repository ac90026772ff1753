"""WebSockets as carriers: the gateway's end, the client's, and what passes."""
