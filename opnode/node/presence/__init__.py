"""Being found: introducers, and the presence that names them."""
