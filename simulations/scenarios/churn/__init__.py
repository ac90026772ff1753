"""What nodes that come and go cost records and tables, on each backend."""
