"""Which ports the NAT in front of us gives next."""
