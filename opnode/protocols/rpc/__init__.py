"""RPC between nodes: wire messages, address tokens and pending transactions."""
