"""One node's part in the distributed hash table."""
