"""How many hops and rounds a lookup takes, on each backend."""
