"""A meeting of two locations and the ways between them."""
