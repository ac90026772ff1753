"""What kind of NAT a node is behind, and which port it will give us next."""
