"""Network simulations: the shipped node code on a virtual network and clock."""
