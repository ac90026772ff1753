"""Arrays of nodes whose tables are drawn when they are looked at."""
