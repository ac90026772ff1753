"""The node: composes drivers, owns the nursery, routes events."""
