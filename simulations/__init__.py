"""Many nodes on a virtual network and clock; and a few real ones behind real NATs."""
