"""ICE on the node's one socket: candidates, checks, consent."""
