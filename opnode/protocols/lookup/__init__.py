"""The iterative lookup of a key's region, over node-disjoint paths; no I/O."""
